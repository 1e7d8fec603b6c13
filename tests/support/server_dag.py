"""The whole Dag on tables of a database server, from the first run to a delete in gold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from home_harness import DagRuns, Home

CONFIG = """
source: {{connection: contract, schema: {schema}}}
tasks: {{retries: 0}}
tables:
  Customer: {{key: id, strategy: snapshot, gold: {{scd: 2}}}}
  Orders: {{key: [id, line], cursor: changed, strategy: watermark, gold: {{scd: 1}}}}
  Ledger: {{key: [account, entry], cursor: changed, strategy: watermark, initial_ranges: 3}}
"""
RANGES = 3
COLUMNS = {
    "Customer": ("id", "name", "price"),
    "Orders": ("id", "line", "name"),
    "Ledger": ("account", "entry"),
}


@dataclass(frozen=True)
class Kind:
    """A kind of database.

    Attributes:
        connection: The Airflow connection's type.
        schema: Where the tables are.
        moment: A timestamp's declared type.
        now: The server's clock.
        run: Runs a statement in which ``"…"`` quotes a name; gives the rows.
    """

    connection: str
    schema: str
    moment: str
    now: str
    run: Callable[[str], Any]


def check_whole_dag(folder: Path, url: str, kind: Kind) -> None:
    """Run the Dag three times over a source that changes; silver and gold must equal it."""
    customer, orders, ledger = (f'"{kind.schema}"."{name}"' for name in COLUMNS)
    kind.run(
        f"CREATE TABLE {customer} (id int NOT NULL PRIMARY KEY, name varchar(50), "
        "price decimal(18,4))"
    )
    kind.run(
        f"CREATE TABLE {orders} (id int NOT NULL, line int NOT NULL, name varchar(50), "
        f"changed {kind.moment} NOT NULL, PRIMARY KEY (id, line))"
    )
    kind.run(f"INSERT INTO {customer} VALUES (1, 'a', 1.5), (2, 'b', NULL), (3, 'c', 99.9999)")
    kind.run(f"INSERT INTO {orders} VALUES (1, 1, 'x', {kind.now}), (1, 2, NULL, {kind.now})")
    kind.run(
        f"CREATE TABLE {ledger} (account varchar(9) NOT NULL, entry int NOT NULL, "
        f"changed {kind.moment} NOT NULL, PRIMARY KEY (account, entry))"
    )
    for number in range(9):
        kind.run(f"INSERT INTO {ledger} VALUES ('it''s {number % 5}', {number}, {kind.now})")
    home = _home(folder, url, kind)
    with home.dag("contract") as dag:
        _run(dag, home, kind)
        assert len(home.bronze("Ledger")) == RANGES
        kind.run(f"INSERT INTO {ledger} VALUES ('it''s 2', 99, {kind.now})")
        kind.run(f"UPDATE {customer} SET price = 2.25 WHERE id = 1")
        kind.run(f"DELETE FROM {customer} WHERE id = 2")
        kind.run(f"UPDATE {orders} SET name = 'y', changed = {kind.now} WHERE line = 2")
        kind.run(f"INSERT INTO {orders} VALUES (2, 1, 'z', {kind.now})")
        _run(dag, home, kind)
        assert dag.run().state == "success"
    history = home.rows("gold/customer")
    assert sorted((r["id"], r["__END_AT"] is None) for r in history) == [
        (1, False),
        (1, True),
        (2, False),
        (3, True),
    ]
    assert len(home.bronze("Orders")) == 2, "the third run brought nothing"
    assert len(home.bronze("Ledger")) == RANGES + 1
    found = home.tidemark("reconcile", "contract")
    assert "equal" in found.stdout


def _home(folder: Path, url: str, kind: Kind) -> Home:
    (folder / "config").mkdir(parents=True)
    text = CONFIG.format(schema=kind.schema)
    (folder / "config" / "contract.yaml").write_text(text)
    parsed = sa.make_url(url)
    connection = {
        "conn_type": kind.connection,
        "host": parsed.host,
        "port": parsed.port,
        "schema": parsed.database,
        "login": parsed.username,
        "password": parsed.password,
        "extra": dict(parsed.query),
    }
    variables = {
        "TIDEMARK_CONFIG": str(folder / "config"),
        "AIRFLOW_CONN_CONTRACT": json.dumps(connection),
    }
    return Home(folder / "home", variables)


def _run(dag: DagRuns, home: Home, kind: Kind) -> None:
    ended = dag.run()
    assert ended.state == "success", ended.tasks
    for name, columns in COLUMNS.items():
        listed = ", ".join(columns)
        rows = kind.run(f'SELECT {listed} FROM "{kind.schema}"."{name}"')
        source = sorted(map(repr, map(tuple, rows)))
        silver = [tuple(row[column] for column in columns) for row in home.rows(f"silver/{name}")]
        assert sorted(map(repr, silver)) == source
