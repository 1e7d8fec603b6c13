"""Which of a table's columns are read, and in which form: what `columns` in the metadata asks for.

What is excluded or redacted never leaves the source; what is masked by HMAC is masked in memory,
before a row is digested or written.
"""

from __future__ import annotations

import difflib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from tidemark.errors import ConfigError, SourceError
from tidemark.extract.types import HIDDEN
from tidemark.metadata import SIDE, Mask, Table

Form = Callable[[sa.ColumnElement[Any], str], sa.ColumnElement[Any]]
REDACTED = "***"


def as_it_is(column: sa.ColumnElement[Any], declared: str) -> sa.ColumnElement[Any]:
    """Read a column as it stands."""
    del declared
    return column


@dataclass(frozen=True)
class Forms:
    """How a kind of database gives a column.

    Attributes:
        whole: In the form in which its driver gives it whole.
        text: As a text that holds all of it.
    """

    whole: Form = as_it_is
    text: Form = as_it_is


@dataclass(frozen=True)
class Selection:
    """The columns that are read.

    Attributes:
        columns: As they will stand in bronze.
        texts: The column of the source that a column of ours holds as text, by our name.
        masks: How a column is masked, by its name.
    """

    columns: pa.Schema
    texts: Mapping[str, str]
    masks: Mapping[str, Mask]

    def of_source(self) -> list[str]:
        """Name the source's columns that are read, in their order, each once."""
        return list(dict.fromkeys(self.texts.get(name, name) for name in self.columns.names))

    def expression(
        self, name: str, column: sa.ColumnElement[Any], declared: str, forms: Forms
    ) -> sa.ColumnElement[Any]:
        """Give what stands in the statement for a column of ours.

        Args:
            name: Ours.
            column: The source's.
            declared: Its declared type.
            forms: How the database gives it.
        """
        if name in self.texts or self.masks.get(name) == "hmac":
            return forms.text(column, declared)
        if self.masks.get(name) == "redact":
            is_text = pa.types.is_string(self.columns.field(name).type)
            stars = sa.literal_column(f"'{REDACTED}'", sa.String())
            return sa.case((column.is_not(None), stars)) if is_text else sa.null()
        return forms.whole(column, declared)

    def seal(self, rows: pa.RecordBatch, key: str | None) -> pa.RecordBatch:
        """Put HMACs in the place of values, with all rows of a batch at once."""
        for name, mask in self.masks.items():
            if mask == "hmac":
                place = rows.schema.get_field_index(name)
                sealed = _sealed(rows.column(place), (key or "").encode())
                rows = rows.set_column(place, rows.schema.field(place), sealed)
        return rows


def select(
    table: Table, declared: Mapping[str, str], arrow_type: Callable[[str], pa.DataType | None]
) -> Selection:
    """Choose a table's columns by its metadata.

    Args:
        table: The metadata.
        declared: The declared type of every column of the source, in its order.
        arrow_type: Gives the lake's type of a declared one; None if there is none.

    Raises:
        ConfigError: The metadata names a column that the table lacks.
        SourceError: A column's type can't be held, and the metadata does not say what to do.
    """
    wishes = table.columns
    names = list(declared)
    excluded = set(named(table, "columns.exclude", wishes.exclude, names))
    masked = dict(
        zip(
            named(table, "columns.mask", list(wishes.mask), names),
            wishes.mask.values(),
            strict=True,
        )
    )
    beside = list(named(table, "columns.as_text", wishes.as_text, names))
    fields = list(
        _fields(table, {n: declared[n] for n in names if n not in excluded}, beside, arrow_type)
    )
    fields = [_masked(field) if masked.get(field.name) == "hmac" else field for field in fields]
    texts = {f"{name}{SIDE}": name for name in beside}
    taken = {name.lower() for name in names}
    if clash := next((text for text in texts if text.lower() in taken), None):
        message = (
            f"table {table.name}: columns.as_text makes a column {clash!r}, and the source has one "
            "of that name; read a view that names it otherwise"
        )
        raise ConfigError(message)
    schema = pa.schema([*fields, *(pa.field(name, pa.string()) for name in texts)])
    return Selection(schema, texts, masked)


def named(table: Table, what: str, wanted: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Give each wanted column as the source spells it.

    Raises:
        ConfigError: There is no such column: misspelt, it would let pass what it should not.
    """
    for column in wanted:
        twins = [name for name in names if name.lower() == column.lower()]
        if len(twins) > 1:
            message = (
                f"table {table.name}: {what} {column!r} may mean each of {', '.join(twins)}, which "
                "differ in the case of their letters alone; read a view that names them otherwise"
            )
            raise ConfigError(message)
        if not twins:
            raise ConfigError(no_column(table, what, column, names))
        yield twins[0]


def no_column(table: Table, what: str, column: str, names: Sequence[str]) -> str:
    """Say that the metadata names a column that is not there."""
    return (
        f"table {table.name}: {what} {column!r} is not a column of "
        f"{table.schema_}.{table.name}{nearest(column, names)} "
        f"(columns: {', '.join(names)}); correct {what} in config/"
    )


def nearest(name: str, names: Sequence[str]) -> str:
    """Suggest the name that was perhaps meant."""
    matches = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _fields(
    table: Table,
    declared: Mapping[str, str],
    beside: Sequence[str],
    arrow_type: Callable[[str], pa.DataType | None],
) -> Iterator[pa.Field]:
    for name, kind in declared.items():
        held = arrow_type(kind)
        if held is not None:
            yield pa.field(name, held)
        elif name not in beside:
            message = (
                f"table {table.name}: column {name!r} is declared {kind!r}, which is no type that "
                "the lake can hold; take it as text (columns.as_text) or leave it out "
                "(columns.exclude) in config/, declare another type (INTEGER, TEXT, DATE, "
                "TIMESTAMP, DECIMAL(p,s), …), or read a view that casts it"
            )
            raise SourceError(message)


def _masked(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.string(), metadata={HIDDEN: b""})


def _sealed(values: pa.Array, key: bytes) -> pa.Array:
    coded = values.dictionary_encode()
    seals = [
        None if text is None else hmac.digest(key, text.encode(), "sha256").hex()
        for text in coded.dictionary.to_pylist()
    ]
    return pa.array(seals, pa.string()).take(coded.indices)
