"""The sample for a SQL Server: its T-SQL parsed, its tables and rows made for real in SQLite."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import sqlglot
from sqlalchemy.dialects import mssql
from sqlalchemy.schema import CreateTable

from tidemark.sample import SCHEMA, advance, create
from tidemark.sample import sqlserver as server

COMMANDS = """
ALTER DATABASE [Spotify] SET ALLOW_SNAPSHOT_ISOLATION ON
ALTER DATABASE [Spotify] SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 14 DAYS, AUTO_CLEANUP = ON)
ALTER TABLE [dbo].[DimUser] ENABLE CHANGE_TRACKING
CREATE USER [tidemark] FOR LOGIN [tidemark]
""".strip().splitlines()
DOCS = Path(__file__).parents[2] / "docs"


def _tsql(statement: Any) -> str:
    return str(statement.compile(dialect=mssql.dialect(paramstyle="named")))


def _tables() -> dict[str, sa.Table]:
    return {table.name: table for table in server.sample_tables("dbo").sorted_tables}


def _statements() -> list[str]:
    steps = server.server_steps() + server.database_steps()
    asked = [statement for count, _, make in steps for statement in (count, make)]
    made = [CreateTable(table) for table in _tables().values()]
    rows = [
        build(table) for table in _tables().values() for build in (sa.select, sa.insert, sa.delete)
    ]
    return [_tsql(statement) for statement in (*asked, *server.grants(), *made, *rows)]


@pytest.mark.parametrize("statement", _statements())
def test_every_statement_is_tsql(statement: str) -> None:
    parsed = sqlglot.parse(statement.replace(":", "@"), dialect="tsql")
    assert parsed
    assert all(parsed)
    # What sqlglot passes over as a command it has not read: these, word for word from the docs.
    if any(isinstance(one, sqlglot.exp.Command) for one in parsed):
        assert statement in COMMANDS


def test_the_tables_have_the_types_of_a_sql_server() -> None:
    made = {name: " ".join(_tsql(CreateTable(table)).split()) for name, table in _tables().items()}
    assert made["DimUser"] == (
        "CREATE TABLE [dbo].[DimUser] ( [user_id] INTEGER NOT NULL, [user_name] NVARCHAR(200) NULL,"
        " [country] NVARCHAR(200) NULL, [subscription_type] NVARCHAR(200) NULL, [start_date] DATE"
        " NULL, [end_date] DATE NULL, [updated_at] DATETIME2(6) NULL, PRIMARY KEY ([user_id]) )"
    )
    assert made["FactStream"].count("[row_version] ROWVERSION") == 1
    assert sum("ROWVERSION" in text for text in made.values()) == 1
    assert not any("IDENTITY" in text for text in made.values()), "the sample has its own keys"


def test_the_login_gets_what_the_docs_grant_and_no_more() -> None:
    granted = [_tsql(statement) for statement in server.grants()]
    assert granted == [
        "GRANT SELECT, VIEW CHANGE TRACKING ON [dbo].[DimUser] TO [tidemark]",
        *(f"GRANT SELECT ON [dbo].[{name}] TO [tidemark]" for name in list(SCHEMA)[1:]),
    ]
    documented = (DOCS / "strategies.md").read_text()
    assert "GRANT SELECT, VIEW CHANGE TRACKING ON sales.OrderLine TO tidemark;" in documented
    assert "GRANT VIEW SERVER STATE TO tidemark;" in documented
    text = (Path(server.__file__)).read_text()
    assert set(re.findall(r"GRANT (VIEW [A-Z ]+) TO|(db_\w+)|(CONTROL|ALTER ANY)", text)) == {
        ("VIEW SERVER STATE", "", "")
    }


def test_the_password_is_bound_and_quoted_by_the_server() -> None:
    compiled = server.CREATE_LOGIN.compile(dialect=mssql.dialect())
    assert list(compiled.params) == ["password"]
    assert "QUOTENAME(CAST(" in str(compiled)


@pytest.fixture
def database() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        server.sample_tables().create_all(connection)
        yield connection
    engine.dispose()


def _rows(connection: sa.Connection) -> dict[str, list[tuple[str, ...]]]:
    return {
        name: [
            tuple(str(value) for value in row)
            for row in connection.execute(
                sa.text(f"SELECT {', '.join(table.columns)} FROM {name} ORDER BY {table.key}")
            )
        ]
        for name, table in SCHEMA.items()
    }


def _sample(path: Path, steps: int) -> dict[str, list[tuple[str, ...]]]:
    create(path)
    for step in range(2, steps + 1):
        advance(path, step)
    with closing(sqlite3.connect(path)) as connection:
        return {
            name: [
                tuple(str(value) for value in row)
                for row in connection.execute(f"SELECT * FROM {name} ORDER BY {table.key}")
            ]
            for name, table in SCHEMA.items()
        }


def _same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    def plain(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        # SQLAlchemy writes six digits into SQLite's text.
        return [tuple(value.removesuffix(".000000") for value in row) for row in rows]

    assert {name: plain(rows) for name, rows in found.items()} == expected


def test_the_tables_get_the_samples_rows_and_each_steps_changes(
    database: sa.Connection, tmp_path: Path
) -> None:
    tables = server.sample_tables()
    made = server.move(database, tables, 1)
    assert made == {n: len(rows) for n, rows in _rows(database).items()}
    assert sum(made.values()) == 2_865
    _same(_rows(database), _sample(tmp_path / "first.db", 1))
    assert set(server.move(database, tables, 1).values()) == {0}, "there is nothing left to do"

    changed = server.move(database, tables, 2)
    expected = advance(tmp_path / "first.db", 2)
    counts = {name: sum(kinds.values()) for name, kinds in expected.per_table.items()}
    assert changed == counts
    _same(_rows(database), _sample(tmp_path / "second.db", 2))


def test_a_row_that_somebody_changed_is_brought_back(database: sa.Connection) -> None:
    tables = server.sample_tables()
    server.move(database, tables, 1)
    database.execute(sa.text("UPDATE DimUser SET country = 'Atlantis' WHERE user_id = 7"))
    database.execute(sa.text("DELETE FROM DimArtist WHERE artist_id = 9"))
    assert {n for n, c in server.move(database, tables, 1).items() if c} == {"DimUser", "DimArtist"}
