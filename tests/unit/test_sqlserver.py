"""SQL Server's dialect: types, bounds, errors and what a table offers. No server is asked."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
import sqlglot
from fake_sqlserver import DECLARED, SETTINGS, FakeConnection, ask, order_line, rendered

from tidemark.errors import SourceError
from tidemark.extract import postgresql, rowversion, sqlserver
from tidemark.extract import source as source_module
from tidemark.extract.choice import choose
from tidemark.extract.columns import select
from tidemark.extract.dialect import dialect_of
from tidemark.extract.ordinary import Records
from tidemark.extract.source import OpenSource
from tidemark.extract.sqlserver_errors import is_transient_text
from tidemark.extract.tsql import hex_text, number_of
from tidemark.extract.waking import connected

RECORDS = ("is_tracked_by_cdc", "FROM sys.change_tracking_tables", "system_type_id = 189")


def connection(**answers: list[tuple[Any, ...]]) -> Any:
    return FakeConnection({**answers, **{k: v for k, v in SETTINGS.items() if k not in answers}})


@pytest.mark.parametrize(
    ("facts", "declared", "kind"),
    [
        (("bigint", 8, 19, 0), "bigint", pa.int64()),
        (("tinyint", 1, 3, 0), "tinyint", pa.int16()),
        (("bit", 1, 1, 0), "bit", pa.bool_()),
        (("decimal", 9, 18, 4), "decimal(18,4)", pa.decimal128(18, 4)),
        (("numeric", 17, 38, 0), "numeric(38,0)", pa.decimal128(38, 0)),
        (("money", 8, 19, 4), "money", pa.decimal128(19, 4)),
        (("float", 8, 53, 0), "float", pa.float64()),
        (("real", 4, 24, 0), "real", pa.float32()),
        (("date", 3, 10, 0), "date", pa.date32()),
        (("datetime", 8, 23, 3), "datetime", pa.timestamp("us")),
        (("datetime2", 8, 27, 7), "datetime2(7)", pa.timestamp("us")),
        (("datetimeoffset", 10, 34, 7), "datetimeoffset(7)", pa.timestamp("us", tz="UTC")),
        (("time", 5, 16, 7), "time(7)", pa.string()),
        (("nvarchar", 100, 0, 0), "nvarchar(50)", pa.string()),
        (("nvarchar", -1, 0, 0), "nvarchar(max)", pa.string()),
        (("varchar", 50, 0, 0), "varchar(50)", pa.string()),
        (("uniqueidentifier", 16, 0, 0), "uniqueidentifier", pa.string()),
        (("varbinary", -1, 0, 0), "varbinary(max)", pa.binary()),
        (("timestamp", 8, 0, 0), "rowversion", pa.binary(8)),
        (("xml", -1, 0, 0), "xml", pa.string()),
        (("sql_variant", 8016, 0, 0), "sql_variant", None),
        (("geography", -1, 0, 0), "geography", None),
    ],
)
def test_types_are_kept(facts: Any, declared: str, kind: pa.DataType | None) -> None:
    assert sqlserver.declared(*facts) == declared
    assert sqlserver.arrow_type(declared) == kind


@pytest.mark.parametrize(
    ("declared", "cut"),
    [
        ("datetime2(7)", "the seventh digit is cut"),
        ("datetime2(6)", None),
        ("datetime", None),
        ("datetimeoffset(7)", "the seventh digit is cut, and the offset is turned to UTC"),
        ("datetimeoffset(0)", "the offset is turned to UTC"),
        ("time(7)", None),
        ("decimal(38,10)", None),
    ],
)
def test_what_the_lake_can_not_hold_is_said(declared: str, cut: str | None) -> None:
    assert sqlserver.cut(declared) == cut


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("nvarchar(5)", "at"),
        ("date", "CONVERT(varchar(34), at, 121)"),
        ("time(7)", "CONVERT(varchar(34), at, 121)"),
        ("datetime", "CONVERT(varchar(34), at, 121)"),
        ("datetime2(7)", "CONVERT(varchar(34), at, 121)"),
        ("datetimeoffset(7)", "CONVERT(varchar(34), at, 121)"),
        ("float", "CONVERT(varchar(34), at, 3)"),
        ("money", "CONVERT(varchar(34), at, 2)"),
        ("varbinary(max)", "CONVERT(varchar(max), CAST(at AS varbinary(max)), 1)"),
        ("rowversion", "CONVERT(varchar(max), CAST(at AS varbinary(max)), 1)"),
        ("sql_variant", "CAST(at AS NVARCHAR(4000))"),
        ("geography", "CAST(at AS NVARCHAR(max))"),
        ("uniqueidentifier", "CAST(at AS NVARCHAR(max))"),
        ("int", "CAST(at AS NVARCHAR(max))"),
    ],
)
def test_a_text_holds_all_of_a_value(declared: str, expected: str) -> None:
    text = rendered(sa.select(sqlserver.text_of(sa.column("at"), declared).label("text")))
    assert text == f"SELECT {expected} AS text\n"
    sqlglot.parse_one(text, dialect="tsql")


@pytest.mark.parametrize(
    ("kind", "declared", "expected"),
    [
        ("timestamp", "datetime2(7)", "CAST(:param_1 AS datetime2(7))"),
        ("timestamp", "datetime", "CAST(CAST(:param_1 AS datetime2(7)) AS datetime)"),
        ("timestamp", "smalldatetime", "CAST(CAST(:param_1 AS datetime2(7)) AS smalldatetime)"),
        ("date", "date", "CAST(:param_1 AS date)"),
        ("integer", "int", "CAST(:param_1 AS BIGINT)"),
    ],
)
def test_a_bound_is_a_text_cast_to_the_columns_type(
    kind: Any, declared: str, expected: str
) -> None:
    assert expected in rendered(sa.select(sqlserver.bound("2026-01-01", kind, declared)))


@pytest.mark.parametrize(
    ("reason", "passes"),
    [
        ("Transaction (Process ID 5) was deadlocked on lock resources with another process", True),
        ("Driver Error: Serialization failure; DDBC Error: ", True),
        ("Database 'x' on server 'y' is not currently available.  Please retry later", True),
        ("The service is currently busy. Retry the request after 10 seconds", True),
        ("(40197, b'...')", True),
        ("Error 49918: no", True),
        ("Resource ID : 1. The request limit for the database is 60 and has been reached.", True),
        ("Driver Error: Client unable to establish connection; DDBC Error: timeout", True),
        (
            "Driver Error: Client unable to establish connection; DDBC Error: Login failed for me",
            False,
        ),
        ("Invalid object name 'dbo.DimUser'", False),
        ("Conversion failed when converting date and/or time from character string", False),
        ("The SELECT permission was denied on the object 'DimUser' (229)", False),
    ],
)
def test_errors_that_pass_are_told_by_their_text(reason: str, passes: bool) -> None:
    assert is_transient_text(reason) == passes


def test_positions_are_hex() -> None:
    assert hex_text(255, 8) == "0x00000000000000FF"
    assert number_of(bytes.fromhex("00000000000000FF")) == 255
    assert int(hex_text(2**80 - 1, 10), 0) == 2**80 - 1


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ((1, 1, 1), "cdc"),
        ((0, 1, 1), "change_tracking"),
        ((0, 0, 1), "rowversion"),
        ((0, 0, 0), "watermark"),
    ],
)
def test_the_best_that_the_table_offers_is_chosen(
    tmp_path: Path, found: tuple[int, ...], chosen: str
) -> None:
    table = order_line(tmp_path)
    kept = [[(1,)] if there else [] for there in found]
    answers = dict(zip(RECORDS, kept, strict=True))
    source = OpenSource(connection(**answers), sqlserver)  # type: ignore[arg-type]
    assert choose(source, table).name == chosen
    without = table.model_copy(update={"cursor": None})
    assert choose(source, without).name == ("snapshot" if chosen == "watermark" else chosen)


@pytest.mark.parametrize(
    ("committed", "snapshot", "expected"),
    [(True, 0, True), (False, 1, True), (False, 0, False), (False, 3, False)],
)
def test_one_moment_is_seen_with_row_versions_alone(
    committed: bool, snapshot: int, expected: bool
) -> None:
    settings = connection(is_read_committed_snapshot_on=[(committed, snapshot)])
    assert sqlserver.sees_one_moment(settings) is expected
    sqlserver.fix_moment(settings)
    assert ("SNAPSHOT\n" in settings.asked[-1]) == (snapshot == 1)


def test_a_transactions_begin_is_utc_and_never_too_late() -> None:
    begun = datetime(2026, 1, 1, 13, 0)  # noqa: DTZ001  # the server's own time
    assert sqlserver.begin_utc(begun, 60) == datetime(2026, 1, 1, 11, 59, 59, 996000, tzinfo=UTC)


@pytest.mark.parametrize("url", ["mssql://me:secret@host/db", "mssql+mssqlpython://host/db"])
def test_microsofts_own_driver_serves_each_url(tmp_path: Path, url: str) -> None:
    parsed = sa.make_url(url)
    dialect = dialect_of(parsed, order_line(tmp_path))
    engine = dialect.create_engine(parsed, "dbo")
    assert engine.dialect.driver == "mssqlpython"
    assert "SNAPSHOT" in engine.dialect.get_isolation_level_values(None)  # type: ignore[arg-type]


def test_a_table_remembers_its_own_columns(tmp_path: Path) -> None:
    rows = [("id", "int", 4, 10, 0), ("at", "datetime2", 8, 27, 7), ("odd", None, 0, 0, 0)]
    table = order_line(tmp_path)
    found = sqlserver.declared_types(connection(**{"FROM sys.columns AS c": rows}), table)
    assert found == {"id": "int", "at": "datetime2(7)", "odd": ""}


def refused(words: str, *, lost: bool = False) -> sa.exc.DBAPIError:
    return sa.exc.DBAPIError(None, None, Exception(words), True, lost)


class Refusing(FakeConnection):
    """Refuses what it has no answer for, as a server does."""

    words = "Invalid object name 'sys.something'."

    def execute(self, statement: Any, parameters: object = None) -> Any:
        try:
            return super().execute(statement, parameters)
        except AssertionError:
            raise refused(self.words) from None


def test_a_record_that_the_login_may_not_read_is_named(tmp_path: Path) -> None:
    table = order_line(tmp_path)
    answers = dict(zip(RECORDS, ([(0,)], [(0,)], []), strict=True))
    source = OpenSource(connection(**answers), sqlserver)  # type: ignore[arg-type]
    choice = choose(source, table)
    asked: Any = source.connection
    assert len(asked.asked) == len(RECORDS), "each question once"
    assert choice.name == "watermark"
    assert "for cdc: GRANT SELECT ON SCHEMA::cdc TO the login" in choice.reason
    assert (
        "for change_tracking: GRANT VIEW CHANGE TRACKING ON [sales.eu].[Order]]Line] TO the login"
    ) in choice.reason
    named = table.model_copy(update={"strategy": "change_tracking"})
    with pytest.raises(SourceError, match="the login may not read it; GRANT VIEW CHANGE TRACKING"):
        choose(source, named)


def test_a_server_that_lacks_a_view_offers_nothing_of_it(tmp_path: Path) -> None:
    bare: Any = Refusing({})
    assert sqlserver.records(bare, order_line(tmp_path)) == Records()
    assert sqlserver.falsified(bare, order_line(tmp_path)) == ()
    assert sqlserver.sees_one_moment(bare) is False
    assert sqlserver.oldest_transaction(bare) is None
    assert "may not see open transactions" in (sqlserver.hidden_transactions(bare) or "")


def test_a_server_that_does_not_answer_is_not_taken_for_one_that_lacks_it(tmp_path: Path) -> None:
    gone: Any = Refusing({})
    gone.words = "Communication link failure"
    with pytest.raises(sa.exc.DBAPIError):
        sqlserver.records(gone, order_line(tmp_path))


MASKED = {"FROM sys.masked_columns": [("quantity",), ("per%cent:x",)]}


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ("{}", "'quantity', 'per%cent:x'"),
        ("{exclude: [quantity]}", "'per%cent:x'"),
        ("{exclude: [quantity], as_text: [quantity], mask: {'per%cent:x': redact}}", "'quantity'"),
        ("{exclude: [quantity], mask: {'per%cent:x': redact}}", None),
    ],
)
def test_values_that_the_server_falsifies_are_not_copied(
    tmp_path: Path, columns: str, named: str | None
) -> None:
    table = order_line(tmp_path, columns)
    source = OpenSource(connection(**MASKED), sqlserver)  # type: ignore[arg-type]
    selection = select(table, DECLARED, sqlserver.arrow_type)
    if named is None:
        source_module.check_true(source, table, selection)
        return
    with pytest.raises(SourceError, match=f"masks {re.escape(named)} .dynamic data masking"):
        source_module.check_true(source, table, selection)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "Encrypt=yes"),
        ("?encrypt=strict", "encrypt=strict"),
        ("?Encrypt=no&TrustServerCertificate=yes", "Encrypt=no"),
    ],
)
def test_the_connection_is_encrypted_unless_it_says_otherwise(query: str, expected: str) -> None:
    engine = sqlserver.create_engine(sa.make_url(f"mssql://me:secret@host:1433/db{query}"), "dbo")
    ((text,), _) = engine.dialect.create_connect_args(engine.url)
    parts = text.split(";")
    assert [part for part in parts if part.lower().startswith("encrypt=")] == [expected]
    assert "Server=host,1433" in parts


def test_a_managed_identity_needs_no_password() -> None:
    url = "mssql://host/db?Authentication=ActiveDirectoryMSI&connect_timeout=5"
    engine = sqlserver.create_engine(sa.make_url(url), "dbo")
    ((text,), _) = engine.dialect.create_connect_args(engine.url)
    assert "Authentication=ActiveDirectoryMSI" in text
    assert "PWD" not in text
    assert "timeout" not in text.lower(), "the driver refuses it there"


ASLEEP = (
    "Database 'shop' on server 'x' is not currently available.  Please retry the connection later."
)


def test_a_database_that_is_asleep_is_woken() -> None:
    errors, slept = [refused(ASLEEP)] * 3, []

    class Engine:
        def connect(self) -> str:
            if errors:
                raise errors.pop()
            return "connected"

    found = connected(Engine(), sqlserver.is_waking, sleep=slept.append)  # type: ignore[arg-type]
    assert found == "connected"
    assert slept == [5.0] * 3


def test_a_database_that_sleeps_on_is_left_to_the_next_try() -> None:
    now = iter(range(0, 10_000, 40))

    class Engine:
        def connect(self) -> None:
            raise refused(ASLEEP)

    with pytest.raises(sa.exc.DBAPIError) as error:
        connected(Engine(), sqlserver.is_waking, sleep=lambda _: None, clock=lambda: next(now))  # type: ignore[arg-type]
    assert sqlserver.is_transient(error.value)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Login failed for user 'me'.", "give the Airflow connection a login"),
        ("Login failed for user 'me'. Reason: The password of the account has expired.", "give"),
        ('Cannot open database "x" requested by the login.', "correct the connection's schema"),
        ("Client with IP address '1.2.3.4' is not allowed to access the server.", "firewall"),
        ("The SELECT permission was denied on the object 'T', database 'd'", "docs/sqlserver.md"),
        ("SSL Provider: certificate verify failed", "trust the server's certificate"),
        ("Divide by zero error encountered.", None),
    ],
)
def test_an_error_says_what_mends_it(reason: str, remedy: str | None) -> None:
    found = sqlserver.remedy(reason)
    assert found is None if remedy is None else remedy in (found or "")


def test_a_table_is_described_from_the_catalog_alone(tmp_path: Path) -> None:
    # SQLAlchemy's inspector raises NotImplementedError for SQL Server's constraints.
    table = order_line(tmp_path, "{exclude: [quantity]}")
    columns = [
        ("order_id", "int", 4, 10, 0),
        ("line]no", "smallint", 2, 5, 0),
        ("quantity", "decimal", 9, 18, 4),
        ("changed_at", "datetime2", 8, 27, 7),
    ]
    indexes = [(1, True, "line]no"), (1, True, "order_id"), (4, False, "changed_at")]
    answers: Any = {"FROM sys.columns AS c": columns, "FROM sys.indexes AS i": indexes}
    source = OpenSource(connection(**answers, **{"sys.masked_columns": []}), sqlserver)  # type: ignore[arg-type]
    found = source_module.describe(source, table)
    assert found.columns.names == ["order_id", "line]no", "changed_at"]
    assert found.primary_key == ("line]no", "order_id")
    assert found.unique == (frozenset({"order_id", "line]no"}), frozenset({"changed_at"}))
    assert found.cuts == {"changed_at": "the seventh digit is cut"}


def test_postgresqls_errors_say_what_mends_them() -> None:
    assert "present password" in (postgresql.remedy("password authentication failed for x") or "")
    assert "GRANT" in (postgresql.remedy("permission denied for table DimUser") or "")
    assert postgresql.remedy("division by zero") is None


@pytest.mark.parametrize(
    ("edition", "asked"), [(3, "VIEW SERVER STATE"), (5, "VIEW DATABASE STATE")]
)
def test_each_edition_is_asked_for_its_own_permission(edition: int, asked: str) -> None:
    answers = {"EngineEdition": [(edition,)], "HAS_PERMS_BY_NAME(": [(1,)]}
    server = connection(**answers)
    assert sqlserver.hidden_transactions(server) is None
    permissions = [text for text in server.asked if "HAS_PERMS" in text]
    assert len(permissions) == 1
    assert asked in permissions[0]


def test_a_secondary_does_not_show_who_writes(tmp_path: Path) -> None:
    answers: Any = {"Updateability": [("READ_ONLY",)]}
    assert "connect to the primary" in (sqlserver.hidden_transactions(connection(**answers)) or "")
    asked, _ = ask(tmp_path, answers)
    with pytest.raises(SourceError, match=r"Order\]Line: .* read-only here, as on a secondary"):
        rowversion.plan(asked)


@pytest.mark.parametrize(
    "words",
    [
        "The user does not have permission to perform this action.",
        "VIEW DATABASE STATE permission denied in database 'x'.",
    ],
)
def test_transactions_that_are_refused_in_spite_of_the_permission_are_told(words: str) -> None:
    # Azure SQL's small tiers: the permission is held, and the view is refused.
    tier: Any = Refusing({"EngineEdition": [(5,)], "HAS_PERMS_BY_NAME(": [(1,)]})
    tier.words = words
    assert sqlserver.oldest_transaction(tier) is None
    assert "##MS_ServerStateReader##" in (sqlserver.hidden_transactions(tier) or "")
