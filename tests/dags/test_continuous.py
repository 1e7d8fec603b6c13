"""A run of the Dag leaves silver of a followed table to its stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark.airflow.tasks import _is_streamed
from tidemark.layers_lock import as_the_stream
from tidemark.layout import Lake
from tidemark.metadata import load_source

TABLES = "{A: {key: k}, B: {key: k, processing: continuous, lake_name: Bee}}"


def test_a_run_leaves_a_followed_table_to_its_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_LAKE", str(tmp_path))
    path = tmp_path / "shop.yaml"
    path.write_text(f"source: {{connection: c}}\ntables: {TABLES}\n")
    source = load_source(path)
    by_name = source.tables
    assert [_is_streamed(source, by_name[name]) for name in "AB"] == [False, False]
    with as_the_stream(Lake(str(tmp_path)), "Bee"):
        assert [_is_streamed(source, by_name[name]) for name in "AB"] == [False, True]
    # In Azure nobody sees a lock: there the stream alone takes them.
    there = source.model_copy(update={"compute": "databricks"})
    assert [_is_streamed(there, by_name[name]) for name in "AB"] == [False, True]
    monkeypatch.setenv("TIDEMARK_LAKE", "abfss://lake@account.dfs.core.windows.net/root")
    assert [_is_streamed(source, by_name[name]) for name in "AB"] == [False, True]
