"""PostgreSQL's rows by COPY are, value by value, those that its driver gives one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from postgres import server
from postgres_world import PostgresWorld, make_postgres_world

from tidemark.digest import row_digests
from tidemark.errors import SourceError, SourceUnavailable
from tidemark.extract import postgresql, postgresql_copy
from tidemark.extract.source import OpenSource, describe, open_source
from tidemark.extract.strategy import columns_of, from_table, read_changes

# Of each type the values that a text might not carry, or its reader might take for others.
VALUES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767", "0"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "3.4028235e38", "1e-45", "0.1",
             "16777217"],
    "double precision": [
        "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1.7976931348623157e308", "5e-324", "0.1",
        "1e22", "123456789012345680000", "2.2250738585072014e-308",
    ],
    "numeric(38,10)": ["1234567890123456789012345678.0123456789", "-0.0000000001", "0"],
    "numeric(38,38)": ["0.00000000000000000000000000000000000001", "-0.5"],
    "numeric(5)": ["-99999"],
    "numeric": ["'NaN'", "'Infinity'", "1e200", "-0.10"],
    "numeric(40,2)": ["1.5"],
    "numeric(3,5)": ["0.00123"],
    "money": ["-1.50"],
    "text": [
        "''", "' '", "'a'", "E'\\n'", "E'\\r'", "E'\\r\\n'", "E'a\\nb\\rc\\r\\nd\\te'",
        "'\"'", "'\"\"'",
        "'a,b'", "','", "E'\\\\'", "E'\\\\.'", "E'\\\\N'", "E'\\\\n'", "'NULL'", "'null'", "'NaN'",
        "'t'", "'#N/A'", "E'\\uFEFF'", "E'\\uFEFFa'", "E'\\u0001\\u007f\\u0085\\u2028'",
        "'Zoë 東京 🎵'",
        "' a '", "E'\\t'", "repeat('x', 100000)", "repeat(E'\\n', 100)", "'''%s %% %(a)s'",
    ],
    "varchar(9)": ["''", "'a'"],
    "char(3)": ["''", "'a'"],
    '"char"': ["'a'", "''"],
    "name": ["'a'"],
    "bytea": ["''", "'\\x00ff'", "'\\x5c78'", "E'\\\\000abc\\\\\\\\'",
              "decode(repeat('00ff', 60000), 'hex')"],
    "date": ["'0001-01-01'", "'1582-10-10'", "'9999-12-31'"],
    "timestamp": [
        "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.5'",
        "'2026-01-01 24:00:00'", "'2026-01-01 10:00:00.00001'",
    ],
    "timestamp(0)": ["'2026-01-01 10:00:00.6'"],
    "timestamptz": [
        "'0001-01-02 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'",
        "'2026-03-29 01:30:00 Europe/Paris'",
        "'1900-01-01 00:00 Asia/Kolkata'",
    ],
    "time": ["'24:00:00'", "'10:00:00.123456'"],
    "timetz": ["'10:00+02'"],
    "interval": ["'1 month -2 days'", "'00:00:00.5'"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
    "json": ["""'{"a":  1.10, "b": "\\u0041"}'""", "'\"\"'", "'null'"],
    "jsonb": ["""'{"b": 1, "a": null}'"""],
    "inet": ["'10.0.0.1/8'"],
    "integer[]": ["'{1,NULL}'", "'{}'"],
    "text[]": ["ARRAY['', 'a,b', '\"', NULL, E'\\n']"],
    "int4range": ["'[1,5)'", "'empty'"],
    "tsvector": ["'a b'"],
    "bit(3)": ["B'101'"],
    "point": ["'(1,2)'"],
    "mood": ["'so so'", "''"],
    "price": ["1.25"],
    "word": ["''", "'a'"],
    "pair": ["ROW(1, 'a\"b')"],
}  # fmt: skip
MADE = (
    "CREATE TYPE dbo.mood AS ENUM ('so so', '')",
    "CREATE DOMAIN dbo.price AS numeric(9,2)",
    "CREATE DOMAIN dbo.word AS varchar(9)",
    "CREATE TYPE dbo.pair AS (a int, b text)",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def world(tmp_path: Path, url: str) -> PostgresWorld:
    return make_postgres_world(tmp_path, url)


def make(world: PostgresWorld, columns: dict[str, list[str]]) -> None:
    """Make the table anew: one column of each type, its values below each other, then NULLs."""
    declared = ", ".join(f"c{i} {kind}" for i, kind in enumerate(columns))
    rows = itertools.zip_longest(*columns.values(), fillvalue="NULL")
    world.sql(
        "DROP SCHEMA dbo CASCADE",
        "CREATE SCHEMA dbo",
        *MADE,
        "SET search_path = dbo; "
        f'CREATE TABLE "DimUser" ({declared}, user_id serial, updated_at date)',
        *(f'INSERT INTO dbo."DimUser" VALUES ({", ".join(row)})' for row in rows),
        'INSERT INTO dbo."DimUser" DEFAULT VALUES',
    )


def rows_of(world: PostgresWorld, *extra: Any, most: int = 7) -> pa.Table:
    with open_source(world.url, world.table) as source:
        described = describe(source, world.table)
        query = sa.select(*columns_of(described), *extra).select_from(from_table(world.table))
        query = query.order_by(sa.column("user_id"))
        batches = [c.rows for c in read_changes(source, described, query, "DimUser", most)]
    return pa.Table.from_batches(batches, described.columns)


def by_values(monkeypatch: pytest.MonkeyPatch, world: PostgresWorld) -> pa.Table:
    with monkeypatch.context() as patched:
        patched.setattr(postgresql, "exported", lambda *_: None)
        return rows_of(world)


def assert_equal(found: pa.Table, wanted: pa.Table) -> None:
    """Compare values by their text too: of floats NaN is not NaN, and -0.0 is 0.0."""
    assert found.schema == wanted.schema
    for name in wanted.schema.names:
        assert str(found[name].to_pylist()) == str(wanted[name].to_pylist()), name
    digests = [row_digests(t, wanted.schema.names) for t in (found, wanted)]
    assert digests[0] == digests[1]


def test_every_value_of_every_type_is_that_of_the_driver(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(world, VALUES)
    found = rows_of(world)
    assert found.num_rows == max(map(len, VALUES.values())) + 1
    assert_equal(found, by_values(monkeypatch, world))
    assert found.num_rows > 7, "more than one batch"


@pytest.mark.parametrize("kind", ["text", "integer", "bytea"])
def test_a_table_of_one_column_loses_no_empty_line(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    world = make_postgres_world(world.folder, world.url, "cursor: null, strategy: snapshot")
    world.sql(
        'DROP TABLE dbo."DimUser"',
        f'CREATE TABLE dbo."DimUser" (user_id {kind})',
        *(f'INSERT INTO dbo."DimUser" VALUES ({v})' for v in ["NULL", *VALUES[kind], "NULL"] * 2),
    )
    found = rows_of(world, most=3)
    assert found.num_rows == 2 * (len(VALUES[kind]) + 2)
    assert found["user_id"].null_count == 4
    assert_equal(found, by_values(monkeypatch, world))


def test_the_first_text_of_a_batch_may_begin_with_a_byte_order_mark(world: PostgresWorld) -> None:
    make(world, {"text": ["E'\\uFEFFa'", "E'\\uFEFF\\uFEFF'"]})
    assert rows_of(world, most=1)["c0"].to_pylist() == ["\ufeffa", "\ufeff\ufeff", None]


def test_what_stands_behind_the_columns_comes_as_text(world: PostgresWorld) -> None:
    make(world, {"text": ["'a'"]})
    with open_source(world.url, world.table) as source:
        described = describe(source, world.table)
        behind = [
            sa.literal_column("'delete'").label("_operation"),
            sa.null().label("_source_sequence"),
        ]
        behind.append(sa.literal_column("2").label("_version"))
        query = sa.select(*columns_of(described), *behind).select_from(from_table(world.table))
        (changes,) = read_changes(source, described, query.limit(1), "DimUser")
    assert changes.rows.schema == described.columns
    assert changes.operations.to_pylist() == ["delete"]
    assert changes.source_sequences.to_pylist() == [None]
    assert changes.versions.to_pylist() == [2]


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("numeric(5,2)", "'NaN'", "NaN"),
        ("date", "'infinity'", "infinity"),
        ("date", "'0044-03-15 BC'", "0044-03-15 BC"),
        ("date", "'10000-01-01'", "10000-01-01"),
        ("timestamp", "'-infinity'", "-infinity"),
        ("timestamp", "'10000-01-01'", "10000-01-01 00:00:00"),
        ("timestamptz", "'infinity'", "infinity"),
        ("timestamptz", "'0044-03-15 00:00:00+00 BC'", r"0044-03-15 00:00:00\+00 BC"),
    ],
)
def test_a_value_that_the_lake_cannot_hold_is_named_and_ends_the_read(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch, kind: str, value: str, shown: str
) -> None:
    make(world, {kind: ["NULL", value], "text": ["'a'"] * 20})
    with pytest.raises(SourceError, match=f"DimUser: column 'c0' holds '{shown}', which is no "):
        rows_of(world, most=5)
    with pytest.raises(SourceError):
        by_values(monkeypatch, world)


def test_a_value_that_does_not_fit_is_found_soon_in_a_wide_table(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source's snapshot is held open meanwhile."""
    columns = ", ".join(f"c{i} text DEFAULT 'x'" for i in range(60))
    world.sql(
        'DROP TABLE dbo."DimUser"',
        f'CREATE TABLE dbo."DimUser" (user_id int, {columns}, updated_at timestamp)',
        'INSERT INTO dbo."DimUser" (user_id) SELECT generate_series(1, 5000)',
        """UPDATE dbo."DimUser" SET updated_at = 'infinity' WHERE user_id = 4321""",
    )
    reads: list[int] = []
    read = postgresql_copy._read

    def counted(block: bytes, kinds: list[pa.DataType]) -> list[pa.Array]:
        reads.append(len(block))
        return read(block, kinds)

    monkeypatch.setattr(postgresql_copy, "_read", counted)
    with pytest.raises(SourceError, match="column 'updated_at' holds 'infinity'"):
        rows_of(world, most=5000)
    assert len(reads) < 100


def test_a_database_of_another_encoding_is_read(tmp_path: Path, url: str) -> None:
    admin = make_postgres_world(tmp_path, url)
    admin.sql(
        "DROP DATABASE IF EXISTS latin",
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    ddl = (
        'CREATE TABLE dbo."DimUser" (user_id int PRIMARY KEY, "größe" text, '
        "updated_at {type} DEFAULT '2026-01-01')"
    )
    world = make_postgres_world(tmp_path, str(sa.make_url(url).set(database="latin")), ddl=ddl)
    assert world.url != url
    world.sql("""INSERT INTO dbo."DimUser" VALUES (1, 'Größe'), (2, 'é')""")
    assert rows_of(world)["größe"].to_pylist() == ["Größe", "é"]


def test_floats_have_all_their_digits_whatever_the_login_prefers(world: PostgresWorld) -> None:
    make(world, {"double precision": ["0.30000000000000004", "1.7976931348623157e308"]})
    (user, database) = ("CURRENT_USER", "postgres")
    world.sql(f"ALTER ROLE {user} IN DATABASE {database} SET extra_float_digits = 0")
    try:
        found = rows_of(world)["c0"].to_pylist()
    finally:
        world.sql(f"ALTER ROLE {user} IN DATABASE {database} RESET extra_float_digits")
    assert found[:2] == [0.30000000000000004, 1.7976931348623157e308]


def filled(world: PostgresWorld, rows: int, text: str = "'a'") -> None:
    world.sql(
        f'INSERT INTO dbo."DimUser" SELECT i, {text}, now() FROM generate_series(1, {rows}) i'
    )


def changes_of(source: OpenSource, world: PostgresWorld, most: int) -> Iterator[Any]:
    described = describe(source, world.table)
    query = sa.select(*columns_of(described)).select_from(from_table(world.table))
    return read_changes(source, described, query, "DimUser", most)


def test_a_batch_is_bounded_in_bytes(world: PostgresWorld) -> None:
    filled(world, 40, "repeat('x', 1000000)")
    with open_source(world.url, world.table) as source:
        sizes = [c.rows.nbytes for c in changes_of(source, world, 1_000)]
    assert 40_000_000 <= sum(sizes) < 40_100_000
    assert max(sizes) <= postgresql_copy._BLOCK_BYTES + 1_000_100


def test_a_consumer_that_stops_leaves_the_connection_usable_and_its_moment_as_it_was(
    world: PostgresWorld,
) -> None:
    filled(world, 100_000)
    with open_source(world.url, world.table) as source:
        source.dialect.fix_moment(source.connection)
        changes = changes_of(source, world, 1_000)
        assert next(changes).rows.num_rows == 1_000
        world.sql('DELETE FROM dbo."DimUser"')
        source.streaming.close()
        count = source.connection.execute(sa.text('SELECT count(*) FROM dbo."DimUser"'))
        assert count.scalar_one() == 100_000
        assert sum(c.rows.num_rows for c in changes_of(source, world, 9_999)) == 100_000


def test_an_error_of_the_consumer_is_what_is_raised(world: PostgresWorld) -> None:
    filled(world, 100_000)

    def stop() -> None:
        with open_source(world.url, world.table) as source:
            for _ in changes_of(source, world, 1_000):
                raise KeyError

    with pytest.raises(KeyError):
        stop()


def test_a_value_that_does_not_fit_ends_a_long_read_at_once(world: PostgresWorld) -> None:
    world.sql('ALTER TABLE dbo."DimUser" ADD COLUMN v numeric(5,2)')
    filled(world, 200_000)
    world.sql("UPDATE dbo.\"DimUser\" SET v = 'NaN' WHERE user_id = 5000")
    with pytest.raises(SourceError, match="column 'v' holds 'NaN', which is no decimal128"):
        world.run()
    assert world.published == []
    assert world.hidden == []


def test_an_error_of_the_server_among_the_rows_is_explained(world: PostgresWorld) -> None:
    filled(world, 50_000)
    world.sql(
        'ALTER TABLE dbo."DimUser" RENAME TO "Users"',
        'CREATE VIEW dbo."DimUser" AS SELECT user_id, 1 / (user_id - 40000) AS v, updated_at '
        'FROM dbo."Users"',
    )
    read: list[int] = []

    def run() -> None:
        with open_source(world.url, world.table) as source:
            read.extend(c.rows.num_rows for c in changes_of(source, world, 1_000))

    with pytest.raises(SourceError, match=r"reading dbo\.DimUser failed: division by zero; mend"):
        run()
    assert sum(read) > 30_000, "the rows before it had come"


def test_a_session_that_is_ended_among_the_rows_is_tried_again(
    world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(world, 300_000, "repeat(md5(i::text), 4)")
    plain = postgresql_copy._fill

    def ended(*about: Any) -> bool:
        more = plain(*about)
        world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'tidemark' AND pid <> pg_backend_pid()"
        )
        return more

    monkeypatch.setattr(postgresql_copy, "_fill", ended)
    with pytest.raises(SourceUnavailable, match=r"DimUser.*tried again"):
        world.run()
    monkeypatch.undo()
    assert world.published == []
    assert world.run()["rows"] == 300_000
