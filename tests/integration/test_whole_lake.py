"""The whole way, in real Airflow, Spark and Delta, against an oracle in plain Python.

Runs with the sample of the project's own and, where it lies beside the checkout, with the real one.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import lake_oracle
import polars as pl
import pytest
import view_oracle
from home_harness import PROJECT, Ended, Home
from lake_oracle import TableOracle

from tidemark import sample

REAL_SAMPLE = PROJECT.parent / "shared" / "data" / "spotify"
SOURCES = ["own", *(["real"] if REAL_SAMPLE.is_dir() else [])]


@dataclass
class Loaded:
    """A lake after an initial and an incremental run, and a third without changes.

    `deletes`: how many rows the source lost between the first two. `shown`: what the demo printed.
    """

    home: Home
    oracles: dict[str, TableOracle]
    ends: list[str]
    deletes: int
    shown: str = ""


@pytest.fixture(scope="module", params=SOURCES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("lake")
    home = Home(folder / "home")
    return _loaded_real_sample(home) if request.param == "real" else _loaded_by_demo(home, folder)


def _loaded_real_sample(home: Home) -> Loaded:
    oracles = {name: TableOracle(name) for name in lake_oracle.KEYS}
    ends = []
    with home.dag() as dag:
        for step in ("initial", "incremental"):
            home.tidemark("sample", "--from", str(REAL_SAMPLE / step))
            for oracle in oracles.values():
                file = REAL_SAMPLE / step / f"{oracle.name}.csv"
                oracle.load(lake_oracle.load_rows(file) if file.exists() else [])
                oracle.read()
            ends.append(_end(dag.run()))
        ends.append(_end(dag.run()))
    return Loaded(home, oracles, ends, 0)


def _end(run: Ended) -> str:
    spark = "no Spark" if run.tasks["silver"] == run.tasks["gold"] == "skipped" else "Spark"
    return f"{run.state}, {spark}"


def _loaded_by_demo(home: Home, folder: Path) -> Loaded:
    """Let `make demo` fill the lake; the oracle gets the same source, written a second time."""
    shown = home.tidemark("demo").stdout
    lines = [line for line in shown.splitlines() if line.startswith("run ")]
    ends = ["success, no Spark" if "not started" in line else "success, Spark" for line in lines]
    database = folder / "twin.db"
    oracles = {name: TableOracle(name) for name in lake_oracle.KEYS}
    for change in (lambda: sample.create(database), lambda: sample.advance(database, 2)):
        change()
        for name, oracle in oracles.items():
            oracle.source = {row[oracle.key]: row for row in _rows(database, name)}
            oracle.read()
    return Loaded(home, oracles, ends, 4, shown)


def _rows(database: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
    texts = [{k: "" if row[k] is None else str(row[k]) for k in row.keys()} for row in rows]  # noqa: SIM118  # sqlite3.Row is no mapping
    return [{k: lake_oracle.typed(k, v) for k, v in row.items()} for row in texts]


def _business(row: dict[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in row.items() if not k.startswith("_")}
    return {k: _naive(v) for k, v in plain.items()}


def _upserts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_business(row) for row in rows if row["_operation"] != "delete"]


def _deletes(rows: list[dict[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows if row["_operation"] == "delete"]


def _naive(value: Any) -> Any:
    # The source's timestamps have no zone; Spark keeps their wall clock as UTC.
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def _sorted(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


def test_every_run_succeeds_and_the_third_starts_no_spark(loaded: Loaded) -> None:
    assert loaded.ends == ["success, Spark", "success, Spark", "success, no Spark"]


@pytest.mark.parametrize("table", lake_oracle.KEYS)
def test_bronze_holds_the_changes_of_each_read_and_no_other(loaded: Loaded, table: str) -> None:
    oracle = loaded.oracles[table]
    files = [list(pl.read_parquet(f).iter_rows(named=True)) for f in loaded.home.bronze(table)]
    wanted = [read for read in oracle.reads if read]
    assert [_sorted(_upserts(rows)) for rows in files] == [_sorted(r.rows) for r in wanted]
    deleted = [sorted(_deletes(rows, oracle.key)) for rows in files]
    assert deleted == [sorted(read.deleted) for read in wanted]
    assert str(oracle.watermark) == loaded.home.state(table)["cdc"]


@pytest.mark.parametrize("table", lake_oracle.KEYS)
def test_changes_hold_every_change_of_every_read(loaded: Loaded, table: str) -> None:
    oracle = loaded.oracles[table]
    rows = loaded.home.rows(f"silver/{table}_changes")
    assert _sorted(_upserts(rows)) == _sorted(oracle.changes())
    assert sorted(_deletes(rows, oracle.key)) == sorted(oracle.deletes())


@pytest.mark.parametrize("table", lake_oracle.KEYS)
def test_silver_is_the_newest_version_of_each_key(loaded: Loaded, table: str) -> None:
    found = [_business(row) for row in loaded.home.rows(f"silver/{table}")]
    assert _sorted(found) == _sorted(list(loaded.oracles[table].silver().values()))


@pytest.mark.parametrize(("table", "gold"), lake_oracle.SCD1.items())
def test_scd1_is_the_newest_version_of_each_key(loaded: Loaded, table: str, gold: str) -> None:
    found = [_business(row) for row in loaded.home.rows(f"gold/{gold}")]
    assert _sorted(found) == _sorted(list(loaded.oracles[table].silver().values()))


@pytest.mark.parametrize(("table", "gold"), lake_oracle.SCD2.items())
def test_scd2_is_every_version_with_the_reads_it_began_and_ended_in(
    loaded: Loaded, table: str, gold: str
) -> None:
    oracle = loaded.oracles[table]
    rows = loaded.home.rows(f"gold/{gold}")
    changes = loaded.home.rows(f"silver/{table}_changes")
    order = {moment: n for n, moment in enumerate(sorted({r["_sequence"] for r in changes}))}
    found = [
        {**_business(row), "from": order[row["__START_AT"]], "to": order.get(row["__END_AT"])}
        for row in rows
    ]
    wanted = [
        {**row, "from": start, "to": end}
        for versions in oracle.history().values()
        for row, start, end in versions
    ]
    assert _sorted(found) == _sorted(wanted)


def test_the_views_hold_what_the_tables_say(loaded: Loaded) -> None:
    names = {**lake_oracle.SCD1, **lake_oracle.SCD2}
    tables = {gold: loaded.oracles[name].silver().values() for name, gold in names.items()}
    for name, wanted in view_oracle.views(tables).items():
        found = [_business(row) for row in loaded.home.rows(f"gold/{name}")]
        assert _sorted(found) == _sorted(wanted), name


@pytest.mark.parametrize("table", lake_oracle.KEYS)
def test_nothing_is_lost(loaded: Loaded, table: str) -> None:
    """Silver, SCD type 1 and the current rows of SCD type 2 are the source as it is now."""
    oracle = loaded.oracles[table]
    source = [lake_oracle.clean(table, row) for row in _rows(loaded.home.database, table)]
    gold = {**lake_oracle.SCD1, **lake_oracle.SCD2}[table]
    current = [row for row in loaded.home.rows(f"gold/{gold}") if row.get("__END_AT") is None]
    for rows in (loaded.home.rows(f"silver/{table}"), current):
        assert _sorted([_business(row) for row in rows]) == _sorted(source)
    assert len(source) == len(oracle.silver())


def test_the_source_lived_through_what_a_watermark_loses(loaded: Loaded) -> None:
    """Without late, back-dated and deleted rows the tests above would show little."""
    later = {name: oracle.reads[1] for name, oracle in loaded.oracles.items()}
    first = {n: max(r[o.cursor] for r in o.reads[0].rows) for n, o in loaded.oracles.items()}
    older = [
        row
        for name, read in later.items()
        for row in read.rows
        if row[loaded.oracles[name].cursor] <= first[name]
    ]
    assert len(older) >= 31
    if loaded.deletes:
        assert sum(len(read.deleted) for read in later.values()) == loaded.deletes


def _lost_by_adf(oracle: TableOracle) -> int:
    """Count the rows that `cursor > last maximum` leaves otherwise than the source has them."""
    first = oracle.reads[0].rows
    newest = max(row[oracle.cursor] for row in first)
    later = [row for row in oracle.source.values() if row[oracle.cursor] > newest]
    copied = {row[oracle.key]: row for row in (*first, *later)}
    return sum(copied.get(key) != oracle.source.get(key) for key in copied | oracle.source)


def test_the_demo_says_what_adfs_rule_would_have_lost(loaded: Loaded) -> None:
    lost = sum(map(_lost_by_adf, loaded.oracles.values()))
    if loaded.shown:
        summary = f"deletes included; ADF's rule would lose {lost}\n"
        assert summary in loaded.shown
    assert lost > 50
