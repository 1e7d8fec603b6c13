from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark import pipelines

from tidemark.errors import PipelineError
from tidemark.spark import declare
from tidemark.spark.graph import load_graph

HEAD = """
from pyspark import pipelines as dp
from tidemark.spark.declare import create_auto_cdc_flow, expect_all_or_drop
"""
FLOW = """
@dp.temporary_view(name="dim_user_changes")
@expect_all_or_drop({"valid_id": "user_id IS NOT NULL"})
def changes(): ...

dp.create_streaming_table("dim_user")
create_auto_cdc_flow(
    target="dim_user", source="dim_user_changes", keys=["user_id"], sequence_by="_sequence"
)
"""


def _load(folder: Path, text: str) -> Any:
    path = folder / "pipeline.py"
    path.write_text(HEAD + text)
    return load_graph([path])


def test_declarations_are_collected(tmp_path: Path) -> None:
    graph = _load(tmp_path, FLOW + "@dp.materialized_view\ndef track_popularity(): ...\n")
    flow = graph.flows["dim_user"]
    assert (flow.source, flow.keys, flow.scd_type) == ("dim_user_changes", ("user_id",), 1)
    query = graph.queries["dim_user_changes"]
    assert graph.expectations[query] == {"valid_id": "user_id IS NOT NULL"}
    assert list(graph.views) == ["track_popularity"]  # what a flow streams is no view to compute


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FLOW.replace('target="dim_user"', 'target="dim_usr"'), "target 'dim_usr'.*'dim_user'"),
        (FLOW.replace('source="dim_user_', 'source="dim_usr_'), "source 'dim_usr_changes'.*mean"),
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


@pytest.mark.usefixtures("spark")  # an expression of classic Spark needs its JVM
def test_databricks_own_functions_are_used_where_they_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[dict[str, Any]] = []

    # The signature that Databricks documents for create_auto_cdc_flow.
    def create_auto_cdc_flow(  # noqa: PLR0917
        target: str,
        source: str,
        keys: list[str],
        sequence_by: Any,
        ignore_null_updates: bool = False,
        apply_as_deletes: Any = None,
        apply_as_truncates: Any = None,
        column_list: list[str] | None = None,
        except_column_list: list[str] | None = None,
        stored_as_scd_type: str | int = "1",
        track_history_column_list: list[str] | None = None,
        track_history_except_column_list: list[str] | None = None,
        name: str | None = None,
        once: bool = False,
    ) -> None:
        calls.append(dict(locals()))

    def expect_all_or_drop(expectations: dict[str, str]) -> Any:
        return lambda query: (expectations, query)

    theirs = SimpleNamespace(
        **{**vars(pipelines), "create_auto_cdc_flow": create_auto_cdc_flow},
        expect_all_or_drop=expect_all_or_drop,
    )
    monkeypatch.setattr(declare, "pipelines", theirs)

    def query() -> Any: ...

    assert declare.expect_all_or_drop({"a": "b"})(query) == ({"a": "b"}, query)
    declare.create_auto_cdc_flow(
        target="dim_user",
        source="dim_user_changes",
        keys=("user_id",),
        sequence_by="struct(updated_at, _sequence)",
        apply_as_deletes="_operation = 'delete'",
        except_column_list=["_operation"],
        stored_as_scd_type=2,
    )
    assert len(calls) == 1
    given = calls[0]
    assert (given["keys"], given["stored_as_scd_type"]) == (["user_id"], 2)
    assert "struct(updated_at, _sequence)" in str(given["sequence_by"])
    assert given["track_history_column_list"] is None
