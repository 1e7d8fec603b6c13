"""What a first config is made of: a table as the catalog, and the login's rights, show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemark.metadata import Strategy
from tidemark.windows import Kind


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Its name.
        declared: Its type, as the source declares it.
        kind: What it would be as a cursor; None: it can't be one.
        nullable: Whether it may be NULL.
        indexed: Whether an index begins with it.
    """

    name: str
    declared: str = ""
    kind: Kind | None = None
    nullable: bool = False
    indexed: bool = False


@dataclass(frozen=True)
class TableFacts:
    """A table or view.

    Attributes:
        schema: Its schema.
        name: Its name.
        columns: In the source's order.
        primary_key: The primary key's columns; empty without one.
        unique: The other sets of columns that the database keeps unique.
        offers: The strategies by which the database itself records changes, the best first.
        passed_over: Why one of these can't be used though the database records it, by strategy.
        cuts: What the lake does not hold of a column's values, by column.
        unheld: The columns of a type that the lake does not have: they can be taken as text.
        is_view: Whether it is a view.
        refused: Why it can't be ingested as it is; None: it can.
    """

    schema: str
    name: str
    columns: tuple[Column, ...] = ()
    primary_key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    offers: tuple[Strategy, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)
    cuts: Mapping[str, str] = field(default_factory=dict)
    unheld: tuple[str, ...] = ()
    is_view: bool = False
    refused: str | None = None

    def column(self, name: str) -> Column:
        """Give a column by its name."""
        return next(column for column in self.columns if column.name == name)
