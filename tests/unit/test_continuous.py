"""Who may write a table's silver, and which tables a continuous stream follows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tidemark.errors import ConfigError, PipelineError
from tidemark.layers_lock import as_the_stream, as_the_writer, streamed_by
from tidemark.layout import Lake
from tidemark.metadata import Source, load_source
from tidemark.stream_command import continuous_tables

TABLES = "{A: {key: k}, B: {key: k, processing: continuous, lake_name: Bee}}"


def load(folder: Path, text: str = TABLES, more: str = "") -> Source:
    path = folder / "shop.yaml"
    path.write_text(f"source: {{connection: c}}\n{more}\ntables: {text}\n")
    return load_source(path)


def test_the_continuous_tables_are_followed(tmp_path: Path) -> None:
    source = load(tmp_path)
    assert continuous_tables(source, []) == ["Bee"]
    assert continuous_tables(source, ["B"]) == ["Bee"]
    everything = load(tmp_path, more="defaults: {processing: continuous}")
    assert continuous_tables(everything, []) == ["A", "Bee"]
    with pytest.raises(ConfigError, match="A: processing is 'triggered'; write 'processing: con"):
        continuous_tables(source, ["A", "B"])
    with pytest.raises(ConfigError, match="no table is continuous; write"):
        continuous_tables(load(tmp_path, "{A: {key: k}}"), [])


def test_another_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("field 'processing' is 'live'")):
        load(tmp_path, "{A: {key: k, processing: live}}")


def test_a_table_has_one_stream_and_one_writer(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert streamed_by(lake, "A") is None
    with as_the_stream(lake, "A"), as_the_writer(lake, "A"):
        assert re.match(r"process \d+ on ", streamed_by(lake, "A") or "")
        assert streamed_by(lake, "B") is None
        with (
            pytest.raises(PipelineError, match=r"A: process .* is following its bronze already"),
            as_the_stream(lake, "A"),
        ):
            pass
        with (
            pytest.raises(PipelineError, match=r"A: process .* is writing its silver"),
            as_the_writer(lake, "A", patience=0.3),
        ):
            pass
        with as_the_writer(lake, "B"), as_the_stream(lake, "B"):
            pass
    assert streamed_by(lake, "A") is None
    with as_the_writer(lake, "A"), as_the_stream(lake, "A"):
        pass


def test_a_writer_waits_for_the_one_before(tmp_path: Path) -> None:
    lake, begun, free = Lake(str(tmp_path)), threading.Event(), threading.Event()

    def first() -> None:
        with as_the_writer(lake, "A"):
            begun.set()
            free.wait(5)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(5)
    threading.Timer(0.3, free.set).start()
    with as_the_writer(lake, "A", patience=5):
        assert free.is_set()
    thread.join()


JOB = """
import signal, sys
from tidemark.spark.continuous import set_by
stop = set_by(signal.SIGINT, signal.SIGTERM)
print("follows", flush=True)
stop.wait(60)
print("ends by itself", flush=True)
sys.exit(3)
"""
COMMAND = """
import os, sys
from tidemark.stream_command import run_to_its_end
sys.exit(run_to_its_end([sys.executable, "-c", sys.argv[1]], os.environ))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_the_command_ends_the_stream(number: signal.Signals) -> None:
    # As a service does with SIGTERM; Ctrl-C goes to all of the terminal's processes.
    words = [sys.executable, "-c", COMMAND, JOB]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert command.stdout is not None
    assert command.stdout.readline() == "follows\n"
    if number == signal.SIGINT:
        os.killpg(command.pid, number)
    else:
        command.send_signal(number)
    assert command.communicate(timeout=120)[0] == "ends by itself\n"
    assert command.returncode == 3


# On one CPU, which the command gets when the job has ended: Ctrl-C and that end meet.
BOTH_AT_ONCE = """
import os, signal, time
command = os.getppid()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.sched_setaffinity(command, os.sched_getaffinity(0))
os.sched_setscheduler(command, os.SCHED_BATCH, os.sched_param(0))
time.sleep(0.1)
os.kill(command, signal.SIGINT)
os._exit(3)
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="needs the scheduler of Linux")
def test_an_exit_code_is_not_lost_to_ctrl_c_at_the_end_of_the_job() -> None:
    words = [sys.executable, "-c", COMMAND, BOTH_AT_ONCE]
    said = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 3, said.stderr


SIGNALLED = """
import os, signal
from tidemark.spark.continuous import set_by
stop = set_by(signal.SIGTERM)
with stop._cond:  # as the main thread holds it while it begins or ends to wait
    os.kill(os.getpid(), signal.SIGTERM)
assert stop.wait(60)
print("ended")
"""


def test_a_signal_that_comes_while_the_event_is_looked_at_ends_the_stream_all_the_same() -> None:
    words = [sys.executable, "-c", SIGNALLED]
    said = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert said.stdout == "ended\n", said.stderr
