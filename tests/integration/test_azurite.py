"""The whole way on Azure's emulator: real Airflow, Spark with Hadoop's own driver, and Delta."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import azurite
import lake_oracle
import pytest
from azure_home import AzureHome, layers, make_home, watched_command_lines
from azurite import Azurite
from core_harness import SOAK
from home_harness import Ended

from tidemark.layout import joined_roots, sequence_of

GOLD = {**lake_oracle.SCD1, **lake_oracle.SCD2}
# One of each SCD type: a small request to the emulator costs as much as a large one, and a table
# has hundreds. `make soak` takes all.
TABLES = list(lake_oracle.KEYS) if SOAK else ["DimUser", "FactStream"]


@dataclass
class Loaded:
    """A lake after an initial and an incremental run, and a third without changes."""

    home: AzureHome
    runs: list[Ended]
    shown: set[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Azurite]:
    with azurite.server() as found:
        yield found


@pytest.fixture(scope="module")
def loaded(server: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    variables = layers(server)
    root = joined_roots(*variables.values())
    home = make_home(tmp_path_factory.mktemp("azure") / "home", server, variables, root)
    home.tidemark("sample")
    runs = []
    with watched_command_lines(secret(server)) as shown, home.dag() as dag:
        runs.append(dag.run(tables=TABLES))
        home.tidemark("sample", "--step", "2")
        runs += [dag.run(tables=TABLES), dag.run(tables=TABLES)]
    return Loaded(home, runs, shown)


def secret(server: Azurite) -> str:
    """What of the lake's signature lets anybody in, as it stands in the connection."""
    return server.signature.partition("sig=")[2].partition("&")[0]


def source_rows(home: AzureHome, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(home.database)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
    texts = [{k: "" if row[k] is None else str(row[k]) for k in row.keys()} for row in rows]  # noqa: SIM118  # sqlite3.Row is no mapping
    typed = [{k: lake_oracle.typed(k, v) for k, v in row.items()} for row in texts]
    return [lake_oracle.clean(table, row) for row in typed]


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    plain = [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]
    naive = [
        {k: v.replace(tzinfo=None) if hasattr(v, "tzinfo") else v for k, v in row.items()}
        for row in plain
    ]
    return sorted(repr(sorted(row.items())) for row in naive)


def test_every_run_succeeds_and_the_third_starts_no_spark(loaded: Loaded) -> None:
    assert [run.state for run in loaded.runs] == ["success"] * 3
    spark = [run.tasks["silver"] == run.tasks["gold"] == "success" for run in loaded.runs]
    assert spark == [True, True, False]


@pytest.mark.parametrize("table", TABLES)
def test_silver_and_gold_equal_the_source(loaded: Loaded, table: str) -> None:
    wanted = in_order(source_rows(loaded.home, table))
    assert in_order(loaded.home.rows(f"silver/{table}")) == wanted
    gold = loaded.home.rows(f"gold/{GOLD[table]}")
    assert in_order([row for row in gold if row.get("__END_AT") is None]) == wanted


def test_the_history_holds_what_was_updated_and_deleted(loaded: Loaded) -> None:
    ended = [r for r in loaded.home.rows("gold/dim_user") if r["__END_AT"] is not None]
    assert ended
    changes = loaded.home.rows("silver/FactStream_changes")
    assert {"delete", "insert", "update"} <= {row["_operation"] for row in changes}


@pytest.mark.parametrize("table", TABLES)
def test_bronze_lies_as_adf_leaves_it(loaded: Loaded, table: str) -> None:
    container = loaded.home.azurite.service.get_container_client(
        loaded.home.extra["TIDEMARK_LAKE_BRONZE"].split("//")[1].split("@")[0]
    )
    names = [b.name for b in container.list_blobs(name_starts_with=f"{table}/")]
    assert names
    assert all(sequence_of(name.partition("/")[2]) for name in names)
    state = json.loads(container.download_blob(f"{table}_cdc/cdc.json").readall())
    assert isinstance(state["cdc"], str)


def test_the_command_line_works_on_it(loaded: Loaded) -> None:
    home = loaded.home
    told = home.tidemark("reconcile", "spotify", *(w for t in TABLES for w in ("--table", t)))
    assert "equal" in told.stdout
    planned = json.loads(home.tidemark("plan", "spotify", "--json").stdout)
    assert {table["error"] for table in planned["tables"]} == {None}
    assert "gold/dim_user" in home.tidemark("show").stdout
    users = home.tidemark("show", "DimUser", "--csv", "--limit", "0").stdout
    assert len(users.splitlines()) - 1 == len(source_rows(home, "DimUser"))
    refused = home.tidemark("rebuild", "spotify", check=False)
    assert refused.returncode == 1
    assert "docs/azure-lake.md" in refused.stderr


def test_no_command_line_log_xcom_or_rendered_template_shows_the_signature(loaded: Loaded) -> None:
    assert loaded.shown == set()
    files = {file.name: file for file in loaded.home.path.rglob("*") if file.is_file()}
    # XComs and rendered templates are in Airflow's database, the tasks' words in the test's log.
    assert {"airflow.db", "test.log"} <= set(files)
    wanted = secret(loaded.home.azurite).encode()
    for file in files.values():
        assert wanted not in file.read_bytes(), file


def test_a_connection_that_is_not_there_is_named(loaded: Loaded, tmp_path: Path) -> None:
    home = loaded.home
    other = make_home(tmp_path, home.azurite, dict(home.extra), home.root)
    del other.extra["AIRFLOW_CONN_MY_LAKE"]
    told = other.tidemark("show", check=False)
    assert told.returncode == 1
    assert "TIDEMARK_LAKE_CONNECTION: 'my_lake' is no Airflow connection" in told.stderr
