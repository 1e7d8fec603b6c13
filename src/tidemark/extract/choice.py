"""Which strategy a table is read by, and why."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import cast

from tidemark.errors import SourceError
from tidemark.extract import cdc, change_tracking, rowversion, snapshot, watermark
from tidemark.extract.source import OpenSource
from tidemark.extract.strategy import Strategy
from tidemark.metadata import Strategy as Name
from tidemark.metadata import Table

_MODULES: dict[Name, ModuleType] = {
    "watermark": watermark,
    "snapshot": snapshot,
    "rowversion": rowversion,
    "change_tracking": change_tracking,
    "cdc": cdc,
}
_SQL_SERVERS: frozenset[Name] = frozenset({"rowversion", "change_tracking", "cdc"})


@dataclass(frozen=True)
class Choice:
    """A strategy chosen.

    Attributes:
        name: As in the metadata.
        strategy: What plans the reads.
        reason: Why this one, in words.
    """

    name: Name
    strategy: Strategy
    reason: str


def choose(source: OpenSource, table: Table) -> Choice:
    """Choose a table's strategy: the metadata's, else the best that the table offers.

    Raises:
        SourceError: The metadata names a strategy that this kind of database does not have.
    """
    recorded = source.dialect.records(source.connection, table)
    offered, withheld = recorded.offered, recorded.withheld
    if table.strategy and table.strategy in withheld:
        raise SourceError(_no_grant(table, table.strategy, withheld[table.strategy]))
    if table.strategy:
        name, reason = table.strategy, "config/ names it"
    elif offered:
        name, reason = offered[0], f"the database offers it for this table ({', '.join(offered)})"
    elif table.cursor:
        name, reason = "watermark", f"there is a cursor, {table.cursor}, and no change log"
    else:
        name, reason = "snapshot", "there is neither a cursor nor a change log"
    if withheld and not table.strategy:
        reason += "".join(f"; for {s}: {grant} TO the login" for s, grant in withheld.items())
    kind = source.connection.dialect.name
    if name in _SQL_SERVERS and kind != "mssql":
        message = (
            f"table {table.name}: strategy {name} is SQL Server's, and the source is {kind}; "
            "say `strategy: snapshot`, which sees everything, or `watermark`, in config/"
        )
        raise SourceError(message)
    return Choice(name, cast(Strategy, _MODULES[name]), reason)


def _no_grant(table: Table, strategy: Name, grant: str) -> str:
    return (
        f"table {table.name}: strategy {strategy}: the database keeps what it needs, and the login "
        f"may not read it; {grant} TO the login, or name another strategy in config/"
    )
