"""PostgreSQL's rows by ``COPY (SELECT …) TO STDOUT``: its CSV, read by Arrow in the lake's types.

No value becomes an object of Python's on the way. It is the connection's own statement: of its
moment, bound by its driver, cancelled as any other. CSV as PostgreSQL writes it leaves nothing
open: NULL is the empty field, and an empty text is quoted.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import polars as pl
import psycopg
import pyarrow as pa
import sqlalchemy as sa
from psycopg.pq import ExecStatus, TransactionStatus
from pyarrow import csv

from tidemark.ahead import one_ahead
from tidemark.errors import SourceError
from tidemark.extract.types import misfit

_BLOCK_BYTES = 8 * 2**20
_MARK = b"\xef\xbb\xbf"
_SAVEPOINT = "tidemark_copy"
_LINES = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


def exported(
    connection: sa.Connection, statement: sa.Select[Any], columns: pa.Schema, table: str, most: int
) -> Iterator[pa.RecordBatch]:
    """Run a statement and give its rows in batches, bounded in rows and in bytes.

    Until its end nothing else can be asked of the connection. Whoever wants no more rows closes the
    iterator: the statement is cancelled, and its transaction goes on.

    Args:
        connection: It, with its transaction.
        statement: What is read; a value that it binds is a text.
        columns: The types of its first columns; those behind them are texts.
        table: For messages.
        most: Rows in a batch at most.

    Raises:
        SourceError: A value does not fit its column's type.
        sqlalchemy.exc.DBAPIError: What the driver raised.
    """
    names = statement.selected_columns.keys()
    behind = [pa.field(name, pa.string()) for name in names[len(columns) :]]
    form = _Form(pa.schema([*columns, *behind]), table)
    connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")
    blocks = _blocks(connection, *_copy(connection, statement), most)
    try:
        yield from one_ahead(form.batch, blocks)
    finally:
        blocks.close()
        if _driver(connection).info.transaction_status == TransactionStatus.INERROR:
            connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")


def _driver(connection: sa.Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def _copy(connection: sa.Connection, statement: sa.Select[Any]) -> tuple[str, Mapping[str, Any]]:
    compiled = statement.compile(dialect=connection.dialect)
    text, values = str(compiled), compiled.params
    # The driver takes `%%` for `%` only where it binds values.
    select = text if values else text % ()
    return f"COPY ({select}) TO STDOUT (FORMAT csv, ENCODING 'UTF8')", values


def _blocks(
    connection: sa.Connection, copy: str, values: Mapping[str, Any], most: int
) -> Generator[bytearray, None, None]:
    driver = _driver(connection)
    try:
        with driver.cursor() as cursor, cursor.copy(copy, values) as rows:
            yield from _gathered(driver, rows, most)
    except psycopg.Error as error:
        lost = driver.closed or driver.broken
        raise sa.exc.DBAPIError(None, None, error, True, lost) from error


def _gathered(
    driver: psycopg.Connection[Any], rows: psycopg.Copy, most: int
) -> Iterator[bytearray]:
    """Gather rows, which PostgreSQL sends one by one, into blocks."""
    # Arrow takes a byte order mark off the first text; so it gets one to take.
    there_are_more = True
    while there_are_more:
        block = bytearray(_MARK)
        there_are_more = _fill(block, driver, rows, most)
        if len(block) > len(_MARK):
            yield block


def _fill(block: bytearray, driver: psycopg.Connection[Any], rows: psycopg.Copy, most: int) -> bool:
    """Take rows until the block is full; tell whether there may be more of them."""
    # Those that have come already are taken without the driver's own loop around each, which costs
    # more than all the rest.
    come, take_in = driver.pgconn.get_copy_data, driver.pgconn.consume_input
    for _ in range(most):
        size, row = come(1)
        if not size:
            take_in()
            size, row = come(1)
        if size < 0:
            _check_whole(driver)
            return False
        if not size and not (row := memoryview(rows.read())):  # which waits for the network
            return False
        block += row
        if len(block) >= _BLOCK_BYTES:
            break
    return True


def _check_whole(driver: psycopg.Connection[Any]) -> None:
    """Take what ends the rows: the server's word that these were all, or its error."""
    failed = None
    while (result := driver.pgconn.get_result()) is not None:
        if result.status != ExecStatus.COMMAND_OK:
            failed = failed or psycopg.errors.error_from_result(result)
    if failed is not None:
        raise failed


@dataclass(frozen=True)
class _Form:
    """What the rows are to become.

    Attributes:
        columns: The lake's types.
        table: For messages.
    """

    columns: pa.Schema
    table: str

    def batch(self, block: bytearray) -> pa.RecordBatch:
        """Read a block of CSV.

        Raises:
            SourceError: A value does not fit its column's type.
        """
        try:
            rows = _read(block, [_read_as(field.type) for field in self.columns])
        except pa.ArrowInvalid:
            raise self._misfit(block) from None  # it quotes the value, which may be secret
        arrays = [_whole(a, field.type) for a, field in zip(rows, self.columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.columns)

    def _misfit(self, block: bytearray) -> SourceError:
        texts = _read(block, [pa.binary()] * len(self.columns))
        for column, field in zip(texts, self.columns, strict=True):
            value = _first_misfit(column.drop_null(), field.type)
            if value is not None:
                return misfit(value.decode(errors="replace"), field, self.table)
        return SourceError(
            f"table {self.table}: Arrow can't read a block of {len(block)} bytes of its CSV; read "
            "a view with fewer columns, and report this with the table's definition"
        )


def _read(block: bytearray | bytes, kinds: list[pa.DataType]) -> list[pa.Array]:
    """Read a block of CSV; all of it at once, so that a column is one array."""
    names = [str(i) for i in range(len(kinds))]
    rows = csv.read_csv(
        pa.BufferReader(pa.py_buffer(block)),
        csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        _LINES,
        csv.ConvertOptions(
            column_types=dict(zip(names, kinds, strict=True)),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )
    return [column.combine_chunks() for column in rows.columns]


def _first_misfit(values: pa.Array, kind: pa.DataType) -> bytes | None:
    """Find the first value that is none of a type, by halves; None: all of them fit."""
    if _fit(values.to_pylist(), kind):
        return None
    while len(values) > 1:
        half = values.slice(0, len(values) // 2)
        values = values.slice(len(half)) if _fit(half.to_pylist(), kind) else half
    found: bytes = values[0].as_py()
    return found


def _fit(values: list[bytes], kind: pa.DataType) -> bool:
    # In quotes, as a text may hold anything.
    lines = (b'"' + value.replace(b'"', b'""') + b'"\n' for value in values)
    try:
        _read(_MARK + b"".join(lines), [_read_as(kind)])
    except pa.ArrowInvalid:
        return False
    return True


def _read_as(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_binary(kind) else kind


def _whole(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_binary(kind):
        return values
    codes = pl.Series(values).str.strip_prefix("\\x")  # bytea_output is hex
    return codes.str.decode("hex").to_arrow().cast(pa.binary())
