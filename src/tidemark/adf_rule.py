"""What a lake that follows the rule of Azure Data Factory, `cursor > last maximum`, would lose.

For the demo, whose tables are small: all of a table is in memory. `tidemark.reconcile` is for real
ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl
import sqlalchemy as sa

from tidemark.digest import row_digests
from tidemark.extract.source import cursor_kind, describe, open_source
from tidemark.extract.strategy import columns_of, from_table, read_changes
from tidemark.lake_tables import scan
from tidemark.layout import Lake
from tidemark.metadata import Table
from tidemark.windows import ordinal

Key = tuple[object, ...]
Digests = Mapping[Key, bytes]


@dataclass(frozen=True)
class Difference:
    """The keys in which a lake's table differs from its source, sorted.

    Attributes:
        missing: At the source, not in the lake: committed late, with an older cursor.
        stale: In both, with other values: updated without moving the cursor forward.
        extra: In the lake, not at the source: deleted there.
    """

    missing: tuple[Key, ...]
    stale: tuple[Key, ...]
    extra: tuple[Key, ...]

    @property
    def count(self) -> int:
        """How many keys differ."""
        return len(self.missing) + len(self.stale) + len(self.extra)


@dataclass(frozen=True)
class SourceState:
    """A table as the source holds it at one moment.

    Attributes:
        digests: The digest of each row, by key.
        cursors: The place of each row's cursor on its line (see `windows.ordinal`), by key.
    """

    digests: Digests
    cursors: Mapping[Key, int | None]


def read_source(url: str, table: Table) -> SourceState:
    """Read a whole table of the source and digest each row; memory grows with the table."""
    digests: dict[Key, bytes] = {}
    cursors: dict[Key, int | None] = {}
    with open_source(url, table) as source:
        described = describe(source, table)
        kind = cursor_kind(table, described.columns)
        whole = sa.select(*columns_of(described)).select_from(from_table(table))
        for changes in read_changes(source, described, whole, table.name):
            rows = changes.rows
            keys = list(_keys(rows.select(list(table.key)).to_pylist(), table.key))
            values = row_digests(rows, described.columns.names).to_pylist()
            digests.update(zip(keys, values, strict=True))
            if kind is not None:
                texts = rows.column(table.cursor).to_pylist()
                places = (None if text is None else ordinal(kind, str(text)) for text in texts)
                cursors.update(zip(keys, places, strict=True))
    return SourceState(digests, cursors)


def read_silver(lake: Lake, table: Table) -> Digests:
    """Read the digests that silver's current state carries, by key."""
    frame = scan(lake, table.lake_name).select(*table.key, pl.col("_digest")).collect()
    keys = _keys(frame.select(table.key).to_dicts(), table.key)
    return dict(zip(keys, frame["_digest"].to_list(), strict=True))


def compare(source: Digests, lake: Digests) -> Difference:
    """Sort the keys that differ into missing, stale and extra."""
    return Difference(
        missing=_sorted(key for key in source if key not in lake),
        stale=_sorted(key for key in source if key in lake and source[key] != lake[key]),
        extra=_sorted(key for key in lake if key not in source),
    )


def after_plain_watermark(before: SourceState, after: SourceState) -> Digests:
    """Tell what a lake holds that follows the rule ``cursor > last maximum``, as ADF's does.

    Args:
        before: The source at the first, whole load.
        after: The source at the second load, which the rule restricts.
    """
    known = [place for place in before.cursors.values() if place is not None]
    last = max(known, default=-1)
    newer = {key for key, place in after.cursors.items() if place is not None and place > last}
    return {**before.digests, **{key: after.digests[key] for key in newer}}


def _keys(rows: Iterable[Mapping[str, object]], names: tuple[str, ...]) -> Iterable[Key]:
    return (tuple(row[name] for name in names) for row in rows)


def _sorted(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: tuple((v is not None, str(type(v)), v) for v in key)))
