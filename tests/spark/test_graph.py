from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidemark.errors import PipelineError
from tidemark.spark.expectations import Expectations
from tidemark.spark.graph import load_graph

HEAD = """
from pyspark import pipelines as dp
from tidemark.spark.declare import (
    create_auto_cdc_flow, expect, expect_all_or_drop, expect_or_fail, keep_dropped
)
"""
FLOW = """
@dp.temporary_view(name="dim_user_changes")
@expect("a", "1")
@expect("b", "2")
@expect_or_fail("c", "3")
@expect_all_or_drop({"valid_id": "user_id IS NOT NULL"})
def changes(): ...

dp.create_streaming_table("dim_user")
create_auto_cdc_flow(
    target="dim_user", source="dim_user_changes", keys=["user_id"], sequence_by="_sequence"
)
"""
KEPT = 'keep_dropped(target="{target}", source="{source}", expectations={{}}, query=None)'


def _load(folder: Path, text: str) -> Any:
    path = folder / "pipeline.py"
    path.write_text(HEAD + text)
    return load_graph([path])


def test_declarations_are_collected(tmp_path: Path) -> None:
    graph = _load(tmp_path, FLOW + "@dp.materialized_view\ndef track_popularity(): ...\n")
    flow = graph.flows["dim_user"]
    assert (flow.source, flow.keys, flow.scd_type) == ("dim_user_changes", ("user_id",), 1)
    query = graph.queries["dim_user_changes"]
    assert graph.expectations[query] == Expectations(
        warn={"a": "1", "b": "2"}, drop={"valid_id": "user_id IS NOT NULL"}, fail={"c": "3"}
    )
    assert list(graph.views) == ["track_popularity"]  # what a flow streams is no view to compute


VIEW = """
from tidemark.spark.declare import materialized_view
@materialized_view(reads=[{reads}])
def {name}(): ...
"""


def test_what_a_view_reads_is_collected(tmp_path: Path) -> None:
    own = VIEW.format(name="top", reads='"dim_user"')
    over = VIEW.format(name="over", reads='"top", "of_another_source", "main.x.elsewhere"')
    graph = _load(tmp_path, FLOW + own + over)
    assert graph.reads == {
        "top": ["dim_user"],
        "over": ["top", "of_another_source", "main.x.elsewhere"],
    }
    assert list(graph.views) == ["top", "over"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FLOW + VIEW.format(name="top", reads='"dim_usr"'), "'top': it says .*'dim_usr'.*mean"),
        (
            FLOW + VIEW.format(name="a", reads='"b"') + VIEW.format(name="b", reads='"dim_user"'),
            "'a': it reads 'b', which is declared below it",
        ),
        (
            FLOW + "@dp.materialized_view\ndef b(): ...\n" + VIEW.format(name="a", reads='"b"'),
            "'a': it reads the view 'b', which does not say what it reads",
        ),
        (FLOW.replace('target="dim_user"', 'target="dim_usr"'), "target 'dim_usr'.*'dim_user'"),
        (FLOW.replace('source="dim_user_', 'source="dim_usr_'), "source 'dim_usr_changes'.*mean"),
        (
            FLOW + KEPT.format(target="dim_usr", source="dim_user_changes"),
            "target 'dim_usr' is not",
        ),
        (FLOW + KEPT.format(target="dim_user", source="y"), "source 'y' is not declared"),
        (FLOW.replace('"b", "2"', '"c", "2"'), "'c': two expectations of changes have this name"),
        (FLOW + 'dp.create_streaming_table("dim_user")', "'dim_user': declared twice"),
        (FLOW + FLOW.split("\n\n")[1].replace("dp.create", "#"), "two AUTO CDC flows"),
        ("@dp.table\ndef events(): ...", "'events': only views have a query here"),
        ("1 / 0", r"pipeline\.py: can't be loaded: ZeroDivisionError: division by zero"),
        (
            '@expect_all_or_drop({"valid_id": "1"})\n@dp.temporary_view\ndef x(): ...',
            "'valid_id': an expectation stands under",
        ),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        _load(tmp_path, text)
