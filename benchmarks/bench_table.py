"""A table of ten mixed columns in a schema of its own: made, measured, dropped."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

_POSTGRESQL = """
CREATE TABLE {schema}.wide (
  id bigint PRIMARY KEY, a int, b bigint, price numeric(10, 2), ratio double precision,
  name text, city text, born date, active boolean, changed_at timestamptz NOT NULL);
INSERT INTO {schema}.wide SELECT i, i % 97, i * 1000003, (i % 100000) / 100.0, i / 7.0,
  'name ' || i, CASE i % 3 WHEN 0 THEN NULL ELSE 'city ' || (i % 500) END,
  date '2000-01-01' + (i % 9000)::int, i % 2 = 1,
  timestamptz '2025-01-01 UTC' + i * interval '1 second'
  FROM generate_series(1::bigint, {rows}) AS i;
CREATE INDEX ON {schema}.wide (changed_at);
ANALYZE {schema}.wide
"""
_SQLSERVER = """
CREATE TABLE {schema}.wide (
  id bigint NOT NULL PRIMARY KEY, a int, b bigint, price decimal(10, 2), ratio float,
  name nvarchar(50), city nvarchar(50), born date, active bit, changed_at datetime2(6) NOT NULL);
INSERT INTO {schema}.wide SELECT i, i % 97, i * 1000003, (i % 100000) / 100.0, i / 7.0,
  N'name ' + CAST(i AS nvarchar(20)),
  CASE i % 3 WHEN 0 THEN NULL ELSE N'city ' + CAST(i % 500 AS nvarchar(20)) END,
  DATEADD(day, CAST(i % 9000 AS int), '2000-01-01'), i % 2,
  DATEADD(second, CAST(i AS int), CAST('2025-01-01' AS datetime2(6)))
  FROM {numbers} WHERE i <= {rows};
CREATE INDEX wide_changed_at ON {schema}.wide (changed_at)
"""
_DIGIT = f"(SELECT 0 AS d {' '.join(f'UNION ALL SELECT {n}' for n in range(1, 10))})"
STATEMENTS = {"postgresql": _POSTGRESQL, "mssql": _SQLSERVER}
_DRIVERS = {"postgresql": "postgresql+psycopg", "mssql": "mssql+mssqlpython"}


def _numbers(rows: int) -> str:
    """Give the numbers from 1 on as every SQL Server can: digits, crossed."""
    places = range(len(str(rows - 1)))
    number = " + ".join(f"CAST(d{n}.d AS bigint) * {10**n}" for n in places)
    crossed = " CROSS JOIN ".join(f"{_DIGIT} AS d{n}" for n in places)
    return f"(SELECT {number} + 1 AS i FROM {crossed}) AS numbers"  # noqa: S608 - our own words


@dataclass(frozen=True)
class BenchTable:
    """A table that is there.

    Attributes:
        url: The database, with the driver that Tidemark uses; it may hold a password.
        schema: The schema that holds the table `wide`, and nothing else.
        rows: How many rows it has.
    """

    url: str
    schema: str
    rows: int


@contextlib.contextmanager
def bench_table(url: str, rows: int) -> Iterator[BenchTable]:
    """Make the table in a new schema, and drop both again.

    Raises:
        SystemExit: The kind of database is not one of `STATEMENTS`.
    """
    parsed = sa.make_url(url)
    kind = parsed.get_backend_name()
    if kind not in STATEMENTS:
        message = f"{kind}: the bench makes its table on {' and '.join(STATEMENTS)} alone"
        raise SystemExit(message)
    parsed = parsed.set(drivername=_DRIVERS[kind])
    schema = f"tidemark_bench_{secrets.token_hex(4)}"
    engine = sa.create_engine(parsed, isolation_level="AUTOCOMMIT", hide_parameters=True)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        try:
            for statement in STATEMENTS[kind].split(";"):
                words = {"schema": schema, "rows": rows, "numbers": _numbers(rows)}
                connection.execute(sa.text(statement.format(**words)))
            yield BenchTable(parsed.render_as_string(hide_password=False), schema, rows)
        finally:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {schema}.wide")
            connection.exec_driver_sql(f"DROP SCHEMA {schema}")
    engine.dispose()
