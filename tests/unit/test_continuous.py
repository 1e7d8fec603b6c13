"""Who may write a table's silver, and which tables a continuous stream follows."""

from __future__ import annotations

import re
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
