"""By which columns a database itself keeps a table's rows apart."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.sql.elements import quoted_name

from tidemark.metadata import Table


@dataclass(frozen=True)
class UniqueKeys:
    """The columns that the database keeps unique.

    Attributes:
        primary: The primary key's; empty without one.
        others: Those of each other constraint.
    """

    primary: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] = ()

    @property
    def sets(self) -> tuple[frozenset[str], ...]:
        """Each set of columns that is unique."""
        return tuple(frozenset(columns) for columns in (self.primary, *self.others) if columns)


def quoted_schema(table: Table) -> quoted_name:
    """Give the schema's name as one name: SQL Server would take ``a.b`` for a database and more."""
    return quoted_name(table.schema_, quote=True)


def inspected(connection: sa.Connection, table: Table) -> UniqueKeys:
    """Look a table's keys up by SQLAlchemy's inspector; it knows no constraints of SQL Server's."""
    inspector, schema = sa.inspect(connection), quoted_schema(table)
    primary = inspector.get_pk_constraint(table.name, schema=schema)["constrained_columns"]
    others = inspector.get_unique_constraints(table.name, schema=schema)
    return UniqueKeys(tuple(primary), tuple(tuple(one["column_names"]) for one in others))
