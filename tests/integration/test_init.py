"""`tidemark init` at a real PostgreSQL, as a login that may not read everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from postgres import server

from tidemark.cli import main
from tidemark.metadata import load_source

SECRET = "geheim-4711"  # noqa: S105
TABLES = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, total numeric(9, 2), created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL, modified_by int, changed_on date, place point);
CREATE INDEX ON sales.orders (updated_at);
CREATE TABLE sales."on" ("yes" int, "last""modified" timestamp, PRIMARY KEY ("yes"));
CREATE TABLE sales."1e3: 'q' # x" (x int NOT NULL, y int NOT NULL, z text UNIQUE, UNIQUE (x, y));
CREATE TABLE sales.some_of_it (a int NOT NULL, b int, c text NOT NULL);
CREATE UNIQUE INDEX ON sales.some_of_it (a) WHERE b > 0;
CREATE UNIQUE INDEX ON sales.some_of_it (lower(c));
CREATE TABLE sales.hidden (id int PRIMARY KEY);
CREATE TABLE sales.half_hidden (id int PRIMARY KEY, salary int);
CREATE VIEW sales.seen AS SELECT * FROM sales.orders;
CREATE ROLE reader LOGIN;
GRANT USAGE ON SCHEMA sales TO reader;
GRANT SELECT ON ALL TABLES IN SCHEMA sales TO reader;
REVOKE ALL ON sales.hidden, sales.half_hidden FROM reader;
GRANT SELECT (id) ON sales.half_hidden TO reader
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as url:
        with psycopg.connect(url) as connection:
            for statement in TABLES.split(";"):
                connection.execute(statement.encode())
        yield url


@pytest.fixture
def config(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    port = sa.make_url(url).port
    connection = {
        "conn_type": "postgres", "host": "127.0.0.1", "port": port, "schema": "postgres",
        "login": "reader", "password": SECRET,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_SQL", json.dumps(connection))
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path))
    monkeypatch.setenv("TIDEMARK_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TIDEMARK_LAKE", raising=False)
    return tmp_path / "config"


def test_a_schemas_config_loads_and_plans(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "shop_sql", "--schema", "sales", "--views"]) == 0
    told = capsys.readouterr()
    source = load_source(config / "shop.yaml")
    assert (source.source.connection, source.source.schema_) == ("shop_sql", "sales")
    assert {n: (t.key, t.strategy, t.cursor) for n, t in source.tables.items()} == {
        "orders": (("id",), "watermark", "updated_at"),
        "on": (("yes",), "watermark", 'last"modified'),
        "1e3: 'q' # x": (("x", "y"), "snapshot", None),
    }
    written = (config / "shop.yaml").read_text()
    assert "# timestamptz, NOT NULL, indexed; others: changed_on" in written
    assert "hidden is left out: it can't be read: permission denied for table hidden" in told.err
    assert "half_hidden is left out: it can't be read: permission denied" in told.err
    assert "some_of_it is left out: it has neither a primary key" in told.err
    assert "seen is left out: a view has no key" in told.err
    assert SECRET not in told.out + told.err + written
    assert main(["validate"]) == 0
    assert main(["plan", "shop"]) == 0


@pytest.mark.usefixtures("config")
def test_a_schema_without_tables_names_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "shop_sql"]) == 1
    assert "schema 'public' holds no table that the login can see" in capsys.readouterr().err
    assert main(["init", "shop_sql", "--schema", "sale"]) == 1
    assert "did you mean 'sales'?" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_named_without_its_password(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {"conn_type": "postgres", "host": "127.0.0.1", "port": 9, "schema": "x"}
    login = {"login": "me", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_SQL", json.dumps(gone | login))
    assert main(["init", "shop_sql"]) == 1
    error = capsys.readouterr().err
    assert "connection shop_sql: the database does not answer" in error
    assert SECRET not in error
    assert not config.exists()


def test_a_connection_that_is_none_is_named(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "shop_sq"]) == 1
    assert "tidemark init: connection 'shop_sq' is no Airflow connection" in capsys.readouterr().err
    assert not config.exists()
