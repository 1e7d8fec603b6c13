"""A lake that Azure Data Factory and Tidemark fill in turns: nothing reloaded, nothing lost."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import azurite
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shared_spark
from azurite import Azurite
from core_harness import World, make_world
from home_harness import PROJECT

from tidemark.azure_url import is_azure
from tidemark.home import LOCAL_MASTER, environment
from tidemark.layout import Lake
from tidemark.reconcile import Options, reconcile_table
from tidemark.settings import load_settings
from tidemark.spark_conf import conf_for, job_variables
from tidemark.storage import Store, open_store
from tidemark.warm_spark import run_job

# How ADF's JSON sink writes the watermark: an object, an array of one, or JSON lines.
FORMS: list[Callable[[str], str]] = [
    lambda cdc: json.dumps({"cdc": cdc}),
    lambda cdc: json.dumps([{"cdc": cdc}]),
    lambda cdc: json.dumps({"cdc": cdc}) + "\r\n" + json.dumps({"cdc": cdc}) + "\r\n",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Azurite]:
    with azurite.server() as found:
        yield found


@pytest.fixture(params=["local", "azure"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    found = make_world(tmp_path, fields="strategy: watermark, lookback: 0s")
    if request.param == "azure":
        server: Azurite = request.getfixturevalue("server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        found.lake = Lake(server.lake())
        found.store = open_store(found.lake.root)  # type: ignore[assignment]
    return found


def run_adf(world: World, moment: str, form: Callable[[str], str]) -> list[int]:
    """Do what ADF's pipeline does: rows above cdc.json's value, then the table's new maximum."""
    store: Store = world.store
    content = store.read(world.lake.state_file("DimUser"))
    value = json.loads(content.data.splitlines()[0]) if content else {"cdc": "1900-01-01"}
    last = (value[0] if isinstance(value, list) else value)["cdc"].replace("T", " ")
    rows = [row for row in world.rows() if row[2] > last]
    if rows:
        names = ("user_id", "user_name", "updated_at")
        columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
        columns[2] = pa.array(columns[2]).cast(pa.timestamp("us"))
        data = io.BytesIO()
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), data)
        store.write(f"bronze/DimUser/DimUser_{moment}", data.getvalue())
        newest = max(row[2] for row in world.rows()).replace(" ", "T")
        store.write(world.lake.state_file("DimUser"), form(newest).encode())
    return sorted(row[0] for row in rows)


def silver(world: World) -> list[tuple[Any, ...]]:
    """Let Spark read what lies in bronze, and give silver's rows."""
    root = world.lake.root
    words = {
        "--lake": root,
        "--config": str(world.folder / "config"),
        "--source": "spotify",
        "--tables": "DimUser",
        "--report": str(world.folder / "report.json"),
    }
    warm = world.folder / "warm"
    if not is_azure(root):
        shared_spark.share(warm)
    environ = os.environ | {"PATH": environment(load_settings())["PATH"]}  # as a home has it
    said: list[str] = []
    code = run_job(
        [str(PROJECT / "spark_jobs" / "silver.py"), *(w for pair in words.items() for w in pair)],
        conf_for(LOCAL_MASTER, root) | {"spark.master": LOCAL_MASTER},
        environ | job_variables(environ, LOCAL_MASTER),
        warm,
        said.append,
    )
    assert code == 0, said[-60:]
    url, options = world.store.delta("silver/DimUser")
    found = pl.read_delta(url, storage_options=options or None)
    columns = found.select("user_id", "user_name", pl.col("updated_at").dt.replace_time_zone(None))
    return sorted(columns.with_columns(pl.col("updated_at").dt.to_string("%F %T")).rows())


def at(minute: int) -> str:
    return f"2026-01-01 10:{minute:02}:00"


@pytest.mark.parametrize("layout", ["flat", "dated"])
@pytest.mark.parametrize("form", FORMS, ids=["object", "array", "lines"])
def test_each_goes_on_from_where_the_other_came_to(
    world: World, form: Callable[[str], str], layout: str
) -> None:
    world.switch(layout)
    world.put((1, "a", at(0)), (2, "b", at(1)))
    assert run_adf(world, "2026-01-01T10:05:00.1234567Z", form) == [1, 2]
    world.put((2, "B", at(6)), (3, "c", at(7)))
    copied = world.run()
    # Of ADF's rows only those at the watermark itself: its bound is inclusive here.
    assert {row["user_id"] for row in bronze_of(world, copied["file"])} == {2, 3}
    assert "cdc.json was last written by another tool (ADF)" in copied["note"]
    world.put((4, "d", at(8)), (1, "A", at(9)))
    assert run_adf(world, "2026-01-01T10:10:00Z", form) == [1, 4]
    world.put((5, "e", at(11)))
    copied = world.run()
    assert {row["user_id"] for row in bronze_of(world, copied["file"])} == {1, 5}
    assert world.run()["rows"] == 0
    assert run_adf(world, "2026-01-01T10:20:00Z", form) == []
    assert len(world.published) == 4


def test_what_adfs_rule_missed_is_found_and_repaired(world: World) -> None:
    world.put((1, "a", at(0)), (2, "b", at(1)))
    run_adf(world, "2026-01-01T10:05:00.1234567Z", FORMS[0])
    world.put((3, "late", at(0)))
    assert run_adf(world, "2026-01-01T10:06:00Z", FORMS[0]) == []
    world.run()
    found = reconcile_table(world.job(), Options(repair=True))
    assert found.repair is not None
    assert found.repair.rows == 1
    newest = bronze_of(world, found.repair.file)
    assert [(row["user_id"], row["user_name"]) for row in newest] == [(3, "late")]
    assert reconcile_table(world.job(), Options()).repair is None


def test_spark_reads_the_files_of_both(world: World) -> None:
    world.put((1, "a", at(0)), (2, "b", at(1)))
    run_adf(world, "2026-01-01T10:05:00.1234567Z", FORMS[0])
    world.put((2, "B", at(6)), (3, "c", at(7)))
    world.run()
    world.switch("dated")
    world.put((1, "A", at(9)))
    world.run()
    assert run_adf(world, "2026-01-01T10:10:00Z", FORMS[0]) == []
    world.put((4, "d", at(12)))
    assert run_adf(world, "2026-01-01T10:15:00Z", FORMS[0]) == [4]
    assert [":" in name for name in world.published] == [True, True, False, False]
    assert ["date=" in name for name in world.published] == [False, False, False, True]
    # The sample's own cleaning rule for DimUser writes names in capitals.
    assert silver(world) == sorted((i, name.upper(), moment) for i, name, moment in world.rows())


def bronze_of(world: World, file: str) -> list[dict[str, Any]]:
    found = pq.read_table(world.store.readable(file), partitioning=None)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows
