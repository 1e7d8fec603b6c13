"""CSV files into the sample source: a row inserts, or updates the row with its key."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path

from tidemark.errors import SourceError
from tidemark.sample.schema import (
    SCHEMA,
    DeclaredType,
    Row,
    SampleTable,
    Value,
    set_step,
    step_of,
    transaction,
)

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(_DATE.pattern + r"[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")


@dataclass(frozen=True)
class _File:
    table: SampleTable
    columns: list[str]
    rows: list[Row]


def load_csv(path: Path, folder: Path, *, dry_run: bool = False) -> dict[str, int]:
    """Load ``<Table>.csv`` files, those that are there of the five, in one transaction.

    The header names the columns, all of a table's or some with the key among them; an empty value
    is NULL. A row inserts, or updates the named columns of the row with its key; within a file
    the last row of a key wins. Database and tables are created if missing.

    Args:
        path: the SQLite file.
        folder: where the files are; UTF-8, with or without a byte order mark.
        dry_run: read and check everything, write nothing.

    Returns:
        Rows read per table that has a file.

    Raises:
        SourceError: no file, or one that can't be loaded as it stands; names file, line, column
            and value. The database is as it was.
        SourceUnavailable: another process holds the database.
    """
    files = [_read(folder / f"{name}.csv", SCHEMA[name]) for name in _present(folder)]
    with transaction(path, dry_run=dry_run) as connection:
        for table in SCHEMA.values():
            connection.execute(table.ddl)
        for file in files:
            connection.executemany(file.table.insert(file.columns), file.rows)
        set_step(connection, max(1, step_of(connection)))
    return {file.table.name: len(file.rows) for file in files}


def _present(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; --from takes a folder with CSV files")
    names = [name for name in SCHEMA if (folder / f"{name}.csv").is_file()]
    if not names:
        wanted = ", ".join(f"{name}.csv" for name in SCHEMA)
        raise SourceError(f"{folder}: none of {wanted} is there; add one, or name another folder")
    return names


def _read(file: Path, table: SampleTable) -> _File:
    records = _records(file, _text(file))
    _, columns = next(records, (1, []))
    _check_header(file, table, columns)
    rows = [_row(file, line, table, columns, record) for line, record in records]
    return _File(table, columns, rows)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise SourceError(
            f"{file}, line {line}: byte 0x{byte:02X} is not UTF-8; save the file as UTF-8"
        ) from error
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror}; let this user read it") from error


def _records(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not an empty line, with the line it begins on."""
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(f"{file}, line {line}: {error}; mend its quotes") from error


def _check_header(file: Path, table: SampleTable, columns: list[str]) -> None:
    for column in columns:
        if column not in table.columns:
            near = get_close_matches(column, table.columns, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(table.columns)}"
            raise SourceError(f"{file}, line 1: {table.name} has no column {column!r}; {hint}")
        if columns.count(column) > 1:
            raise SourceError(f"{file}, line 1: column {column!r} is there twice; remove one")
    if table.key not in columns:
        raise SourceError(
            f"{file}, line 1: the key column {table.key!r} is missing in {columns}; add it, it "
            "tells which row is meant"
        )


def _row(file: Path, line: int, table: SampleTable, columns: list[str], record: list[str]) -> Row:
    if len(record) != len(columns):
        raise SourceError(
            f"{file}, line {line}: {len(record)} values {record} for {len(columns)} columns; "
            "quote a value that holds a comma, and write every comma of a NULL"
        )
    return tuple(
        _value(file, line, table, column, text)
        for column, text in zip(columns, record, strict=True)
    )


def _value(file: Path, line: int, table: SampleTable, column: str, text: str) -> Value:
    where, kind = f"{file}, line {line}, column {column!r}", table.columns[column]
    if not text:
        if column == table.key:
            raise SourceError(f"{where}: the key is empty; give the row its key, or remove it")
        return None
    try:
        return _PARSERS[kind](text)
    except ValueError as error:
        raise SourceError(f"{where}: {text!r} is not {_EXPECTED[kind]}") from error


def _integer(text: str) -> int:
    number = int(text) if _INTEGER.fullmatch(text) else None
    if number is None or not -(1 << 63) <= number < 1 << 63:
        raise ValueError(text)
    return number


def _date(text: str) -> str:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return str(date.fromisoformat(text))


def _timestamp(text: str) -> str:
    if not _TIMESTAMP.fullmatch(text):
        raise ValueError(text)
    return str(datetime.fromisoformat(text))


_PARSERS: dict[DeclaredType, Callable[[str], Value]] = {
    "INTEGER": _integer,
    "TEXT": str,
    "DATE": _date,
    "TIMESTAMP": _timestamp,
}
_EXPECTED: dict[DeclaredType, str] = {
    "INTEGER": "an integer of 64 bits; write digits only, such as 42, or nothing for NULL",
    "DATE": "a date; write it as YYYY-MM-DD, such as 2025-12-31, or nothing for NULL",
    "TIMESTAMP": (
        "a timestamp; write it in UTC, without an offset, as YYYY-MM-DD HH:MM:SS with at most six "
        "digits after the seconds, such as 2025-12-31 23:45:00, or nothing for NULL"
    ),
}
