"""Jobs that share a Java machine, each a process of its own: real processes, a real Spark."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tidemark import warm_spark
from tidemark.spark_conf import conf_for, job_variables

MASTER = "local[1]"
BEGIN = """
import sys, time
from pathlib import Path
from pyspark import SparkContext
from tidemark.spark.session import build_session
spark = build_session("job")
jvm = SparkContext._jvm
print("java", jvm.java.lang.ProcessHandle.current().pid(), flush=True)
"""
WAIT = (
    BEGIN
    + """
Path(sys.argv[1]).touch()
while time.time() < Path(sys.argv[1]).stat().st_mtime + 300:
    spark.range(10).count()
    time.sleep(0.05)
"""
)
CALLER = """
import os, sys
from pathlib import Path
from tidemark import warm_spark
from tidemark.spark_conf import conf_for, job_variables
conf = conf_for("local[1]") | {"spark.master": "local[1]"}
environ = os.environ | job_variables(os.environ, "local[1]")
warm_spark.run_job(sys.argv[2:], conf, environ, Path(sys.argv[1]), print)
"""


@dataclass
class Jobs:
    """A machine's folder, and another one for scripts to run in it."""

    path: Path
    folder: Path
    said: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def script(self, text: str) -> Path:
        file = self.path / f"job{len(list(self.path.glob('job*')))}.py"
        file.write_text(text)
        return file

    def run(self, text: str, *arguments: str, **conf: str) -> int:
        """Run a script; what it prints is in `said`."""
        self.said = []
        return warm_spark.run_job(
            [str(self.script(text)), *arguments],
            conf_for(MASTER) | {"spark.master": MASTER} | conf,
            os.environ | job_variables(os.environ, MASTER),
            self.folder,
            self.said.append,
            started=lambda process: setattr(self, "process", process),
        )

    def java(self) -> int:
        """Give the Java process of the last job."""
        return next(int(line.split()[1]) for line in self.said if line.startswith("java "))


def until(happened: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def lives(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all tests, as in a home: what a test's first job finds there is no matter to it."""
    made = tmp_path_factory.mktemp("machine") / "warm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_spark, "LIFETIME_SECONDS", 3600.0)  # or one may end between two jobs
        yield made
    warm_spark.end(made)


@pytest.fixture
def jobs(tmp_path: Path, folder: Path) -> Jobs:
    return Jobs(tmp_path, folder)


def test_a_job_starts_in_the_machine_that_the_last_one_left_and_finds_nothing_else_of_it(
    jobs: Jobs, tmp_path: Path
) -> None:
    table, other = str(tmp_path / "table"), str(tmp_path / "other")
    first = (
        f"spark.range(3).write.format('delta').save({table!r})\n"
        "spark.range(1).createOrReplaceTempView('left_behind')\n"
        "spark.conf.set('spark.sql.shuffle.partitions', '7')\n"
        "print(spark.sparkContext.applicationId)\n"
    )
    assert jobs.run(BEGIN + first) == 0, jobs.said
    java, context = jobs.java(), jobs.said[-1]
    # Another table takes the first one's place, with fewer versions and other rows.
    again = f"spark.range(5).write.format('delta').save({other!r})\n"
    assert jobs.run(BEGIN + again) == 0, jobs.said
    shutil.rmtree(table)
    Path(other).rename(table)
    second = (
        "print(spark.sparkContext.applicationId, spark.catalog.tableExists('left_behind'),\n"
        "  spark.conf.get('spark.sql.shuffle.partitions'),\n"
        f"  spark.read.format('delta').load({table!r}).count())\n"
    )
    assert jobs.run(BEGIN + second) == 0, jobs.said
    assert jobs.java() == java
    assert jobs.said[-1].split() == [context, "False", "2", "5"]
    assert warm_spark.read(jobs.folder) is not None
    assert oct((jobs.folder / "machine.json").stat().st_mode)[-3:] == "600"


def test_a_job_that_fails_says_why_and_the_machine_stays(jobs: Jobs) -> None:
    assert jobs.run(BEGIN + "print(undefined)") == 1
    java = jobs.java()
    assert any("NameError" in line for line in jobs.said)
    assert jobs.run(BEGIN + "sys.exit(1)") == 1
    assert jobs.run(BEGIN) == 0
    assert jobs.java() == java


JOB = """
import threading
sleepers = spark.range(9)
threading.Thread(target=sleepers.foreach, args=[lambda _: time.sleep(600)], daemon=True).start()
while not spark.sparkContext.statusTracker().getActiveJobsIds():
    time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("left", "code"),
    [
        ("sys.exit(1)", 1),
        ("spark.readStream.format('rate').load().writeStream.format('noop').start()", 0),
        (JOB, 0),
        ("spark.sparkContext._jsc.sc().conf().set('spark.hadoop.fs.azure.account.key', 'x')", 0),
        ("spark.sparkContext._jsc.hadoopConfiguration().set('fs.file.impl', 'x')", 0),
        ("spark.range(1).createGlobalTempView('left_behind')", 0),
        ("spark.range(1).write.saveAsTable('left_behind', path=sys.argv[1])", 0),
        ("spark.sparkContext.addPyFile(sys.argv[0])", 0),
        (
            "spark.newSession().readStream.format('rate').load().writeStream.format('noop').start()",
            0,
        ),
        ("spark.sparkContext._jsc.sc().stop()", 0),
    ],
    ids=[
        *("failure", "stream", "running", "key to the lake", "other file system", "global view"),
        *("table", "file", "stream of another session", "stopped"),
    ],
)
def test_what_a_job_leaves_at_work_or_adds_ends_with_it(
    jobs: Jobs, tmp_path: Path, left: str, code: int
) -> None:
    name = "print(spark.sparkContext.applicationId)\n"
    assert jobs.run(BEGIN + name + left, str(tmp_path / "table")) == code
    java, context = jobs.java(), jobs.said[1]
    assert jobs.run(BEGIN + name) == 0, jobs.said
    assert jobs.java() == java
    assert jobs.said[-1] != context


def test_the_rows_that_a_job_kept_in_memory_are_gone_and_the_context_stays(jobs: Jobs) -> None:
    kept = (
        "spark.range(3).persist().count(), spark.range(4).localCheckpoint()\n"
        "print(len(spark.sparkContext._jsc.getPersistentRDDs()))\n"
    )
    look = (
        "print(len(spark.sparkContext._jsc.getPersistentRDDs()))\n"
        "print(spark.sparkContext.applicationId)\n"
    )
    assert jobs.run(BEGIN + look + kept) == 0, jobs.said
    context = jobs.said[-2]
    assert jobs.said[-1] == "2"
    assert jobs.run(BEGIN + look) == 0, jobs.said
    assert jobs.said[-2:] == ["0", context]


def test_what_spark_had_on_the_disk_goes_with_the_machine(jobs: Jobs) -> None:
    assert jobs.run(BEGIN + "spark.range(9).repartition(3).count()") == 0, jobs.said
    assert list(jobs.folder.glob("local-*/blockmgr-*"))
    os.kill(jobs.java(), signal.SIGKILL)
    until(lambda: not warm_spark._is_kept(jobs.folder), "the keeper goes on")
    assert not list(jobs.folder.glob("local-*"))


def test_a_rule_that_has_changed_is_read_anew_by_the_workers(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = jobs.path / "the_rule.py"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(jobs.path), *filter(None, sys.path)]))
    job = (
        "import the_rule\nfrom pyspark.sql import functions as sf\n"
        "print(spark.range(1).select(sf.udf(the_rule.name)()).first()[0])\n"
        "print(spark.sparkContext.applicationId)\n"
    )
    said = []
    for text in ("first", "second"):
        rule.write_text(f"def name():\n    return {text!r}\n")
        assert jobs.run(BEGIN + job) == 0, jobs.said
        said.append(jobs.said[-2:])
    assert [name for name, _ in said] == ["first", "second"]
    assert said[0][1] == said[1][1]


def test_a_job_loads_no_pandas_unless_its_rule_asks_for_it(jobs: Jobs) -> None:
    job = """
from pyspark.sql import functions as sf
spark.range(3).withColumn("one", sf.lit(1)).collect()
print(*(name in sys.modules for name in ("numpy", "pandas", "pyarrow")))
"""
    rule = """
import pandas as pd
def louder(texts: pd.Series) -> pd.Series:
    return texts + "!"
print(spark.range(1).select(sf.pandas_udf(louder, "string")(sf.lit("so"))).first()[0])
"""
    assert jobs.run(BEGIN + job + rule) == 0, jobs.said
    assert jobs.said[-2:] == ["True False False", "so!"]


STREAM = """
from tidemark.spark.stream import drain
def batches(checkpoint):
    rows = spark.readStream.schema("id long").parquet(sys.argv[1])
    drain(rows, f"{sys.argv[1]}-{checkpoint}", lambda batch, _: print(batch.count(), flush=True))
"""


HELD = """
class Called:
    def run(self):
        pass
    class Java:
        implements = ["java.lang.Runnable"]
"""


def test_a_stream_is_called_though_java_lets_go_of_what_an_earlier_job_had_it_call(
    jobs: Jobs, tmp_path: Path
) -> None:
    held = "jvm.java.lang.System.getProperties()"
    assert jobs.run(BEGIN + HELD + f"{held}.put('an earlier job', Called())") == 0, jobs.said
    let_go = f"""
from pyspark.sql.streaming import DataStreamWriter
start = DataStreamWriter.start
def after_java_has_let_go(writer):
    {held}.remove("an earlier job")
    for _ in range(5):
        jvm.java.lang.System.gc()
        jvm.java.lang.System.runFinalization()
    return start(writer)
DataStreamWriter.start = after_java_has_let_go
spark.range(3).write.parquet(sys.argv[1])
batches("a")
"""
    assert jobs.run(BEGIN + STREAM + let_go, str(tmp_path / "rows")) == 0, jobs.said
    assert jobs.said[-1] == "3"


def test_streams_that_begin_side_by_side_are_all_called(jobs: Jobs, tmp_path: Path) -> None:
    slow = """
from concurrent.futures import ThreadPoolExecutor
from py4j.java_gateway import JavaGateway
start = JavaGateway.start_callback_server
def slowly(*arguments):
    start(*arguments)
    time.sleep(3)
JavaGateway.start_callback_server = slowly
spark.range(3).write.parquet(sys.argv[1])
with ThreadPoolExecutor(2) as pool:
    list(pool.map(batches, "ab"))
"""
    assert jobs.run(BEGIN + STREAM + slow, str(tmp_path / "rows")) == 0, jobs.said
    assert jobs.said[-2:] == ["3", "3"]


def test_another_setting_or_an_idle_while_ends_the_machine(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jobs.run(BEGIN) == 0
    java = jobs.java()
    monkeypatch.setattr(warm_spark, "IDLE_SECONDS", 1.0)
    assert jobs.run(BEGIN, **{"spark.driver.memory": "1100m"}) == 0
    other = jobs.java()
    assert other != java
    assert not lives(java)
    until(lambda: not lives(other), "an idle machine goes on living")
    until(lambda: warm_spark.read(jobs.folder) is None, "its secret stays behind")


def test_a_second_job_meanwhile_gets_a_machine_of_its_own(jobs: Jobs, tmp_path: Path) -> None:
    first = Jobs(tmp_path, jobs.folder)
    ready = tmp_path / "ready"
    thread = threading.Thread(target=lambda: first.run(WAIT, str(ready)))
    thread.start()
    until(ready.exists, "the first job never began")
    assert jobs.run(BEGIN) == 0, jobs.said
    assert jobs.java() != first.java()
    assert lives(first.java())
    assert first.process is not None
    first.process.kill()
    thread.join()


def test_a_killed_job_takes_the_machine_along(jobs: Jobs, tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    def kill() -> None:
        until(ready.exists, "the job never began")
        assert jobs.process is not None
        jobs.process.kill()

    threading.Thread(target=kill).start()
    assert jobs.run(WAIT, str(ready)) == -signal.SIGKILL
    assert not lives(jobs.java())
    assert jobs.run(BEGIN) == 0


def test_a_killed_machine_is_told_from_a_job_that_failed(jobs: Jobs, tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    def kill() -> None:
        # A file may be there before the line that was printed first has been read.
        until(lambda: ready.exists() and jobs.said, "the job never began")
        os.kill(jobs.java(), signal.SIGKILL)

    threading.Thread(target=kill).start()
    assert jobs.run(WAIT, str(ready)) == warm_spark.KILLED
    assert jobs.run(BEGIN) == 0


def test_who_runs_a_job_may_be_killed_and_leaves_nothing_running(
    jobs: Jobs, tmp_path: Path
) -> None:
    ready, said = tmp_path / "ready", tmp_path / "said"
    with said.open("w") as output:
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, jobs.folder, jobs.script(WAIT), ready],
            stdout=output,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        until(ready.exists, "the job never began")
        machine = warm_spark.read(jobs.folder)
        assert machine is not None
        assert machine.lent
        caller.kill()
        caller.wait()
    until(lambda: not warm_spark._is_kept(jobs.folder), "the machine goes on")
    left = subprocess.run(["pgrep", "-f", str(ready)], capture_output=True, text=True, check=False)
    until(lambda: not any(lives(int(p)) for p in left.stdout.split()), "the job goes on")
    assert jobs.run(BEGIN) == 0, jobs.said
