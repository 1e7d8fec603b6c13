"""SQL Server's scalar answers (versions, LSNs, settings) without a server; it reads no rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy.dialects import mssql

from tidemark.extract import sqlserver
from tidemark.extract.columns import Forms
from tidemark.extract.source import OpenSource, SourceTable, cursor_kind
from tidemark.extract.strategy import Ask
from tidemark.metadata import Table, load_source

NAME = "Order]Line"
DECLARED = {
    "order_id": "int",
    "line]no": "smallint",
    "per%cent:x": "nvarchar(50)",
    "quantity": "decimal(18,4)",
    "changed_at": "datetime2(7)",
    "row_version": "rowversion",
}
KEY = ("order_id", "line]no")
NOW = datetime(2026, 1, 1, 12, 0, 0, 123456)  # noqa: DTZ001  # as the driver gives it


def rendered(statement: Any) -> str:
    """Compile a statement as SQL Server gets it, its bound values behind it as comments."""
    options = {"render_postcompile": True}
    compiled = statement.compile(dialect=mssql.dialect(), compile_kwargs=options)
    lines = [line.rstrip() for line in str(compiled).strip().splitlines()]
    lines += [f"-- :{name} = {value!r}" for name, value in compiled.params.items()]
    return "\n".join(lines) + "\n"


@dataclass
class Rows:
    """What a statement gave."""

    rows: list[tuple[Any, ...]]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def all(self) -> list[tuple[Any, ...]]:
        return self.rows

    def one(self) -> tuple[Any, ...]:
        (row,) = self.rows
        return row

    def one_or_none(self) -> tuple[Any, ...] | None:
        return self.rows[0] if self.rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        return self.rows[0][0] if self.rows else None

    def scalars(self) -> Rows:
        return Rows([row[0] for row in self.rows])


@dataclass
class FakeConnection:
    """Answers a statement by a part of its text; one that it does not know fails the test."""

    answers: Mapping[str, list[tuple[Any, ...]]]
    asked: list[str] = field(default_factory=list)
    dialect: Any = field(default_factory=mssql.dialect)

    def execute(self, statement: Any, _parameters: object = None) -> Rows:
        text = rendered(statement)
        self.asked.append(text)
        for part, rows in self.answers.items():
            if part in text:
                return Rows(rows)
        raise AssertionError(text)

    def rollback(self) -> None:
        self.asked.append("ROLLBACK\n")

    def execution_options(self, **options: Any) -> None:
        level = options["isolation_level"]
        self.asked.append(f"SET TRANSACTION ISOLATION LEVEL {level}\n")


SETTINGS: dict[str, list[tuple[Any, ...]]] = {
    "is_read_committed_snapshot_on": [(True, 1)],
    "SYSUTCDATETIME": [(NOW,)],
    "EngineEdition": [(3,)],
    "Updateability": [("READ_WRITE",)],
    "HAS_PERMS_BY_NAME(NULL": [(1,)],
    "sys.dm_tran_active_transactions": [(None, 0)],
    "HAVING": [],  # no key stands twice
    "COUNT_BIG(*)": [(0,)],
    "SELECT TOP 1 CONVERT(varchar(34)": [("2026-01-01 11:59:59.1234567",)],
    "SELECT TOP 1 1": [(1,)],
}


def order_line(folder: Path, columns: str = "{}") -> Table:
    """Load the metadata of a table with a composite key and odd names."""
    path = folder / "shop.yaml"
    path.write_text(
        'source: {connection: shop, schema: "sales.eu"}\ntables:\n'
        f'  "{NAME}": {{lake_name: OrderLine, key: [order_id, "line]no"], cursor: changed_at, '
        f"columns: {columns}}}\n"
    )
    return load_source(path).tables[NAME]


def ask(
    folder: Path,
    answers: dict[str, list[tuple[Any, ...]]],
    position: Mapping[str, str] | None = None,
    **changes: Any,
) -> tuple[Ask, list[str]]:
    """Ask a strategy for a plan; give also the list to which each statement will be written."""
    table = order_line(folder)
    declared = changes.pop("declared", DECLARED)
    columns = pa.schema([(n, sqlserver.arrow_type(d)) for n, d in declared.items()])
    described = SourceTable(
        qualified=f"{table.schema_}.{table.name}",
        columns=columns,
        unique=(frozenset(KEY),),
        declared=declared,
        primary_key=changes.pop("primary_key", KEY),
        forms=Forms(sqlserver.read_as, sqlserver.text_of),
    )
    connection = FakeConnection(answers | {k: v for k, v in SETTINGS.items() if k not in answers})
    source = OpenSource(connection, sqlserver)  # type: ignore[arg-type]
    kind = cursor_kind(table, columns)
    asked = Ask(source, described, table, kind, position=position or {}, known=True, **changes)
    return asked, connection.asked
