"""How far the initial load of a table has come that is read in ranges of its key.

It is part of ``cdc.json`` until the load is whole. A range is done when its file lies in bronze,
under the sequence that was set aside for it, or when it was found to be empty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

from tidemark.metadata import BronzeLayout
from tidemark.windows import Kind


@dataclass(frozen=True)
class KeyRange:
    """A part of a table: ``low <= column < high``.

    Attributes:
        column: The first column of the key.
        low: As text; None: from the beginning, rows without a value included.
        high: As text; None: without end.
    """

    column: str
    low: str | None
    high: str | None

    def describe(self) -> str:
        """Write the range as a reader of the log wants it."""
        left = f"{self.low} <= " if self.low is not None else ""
        right = f" < {self.high}" if self.high is not None else ""
        return f"{left}{self.column}{right}"


@dataclass(frozen=True)
class InitialLoad:
    """An initial load in ranges, as it was planned.

    What changes at the source after the plan is read by the first read behind the load, which goes
    on from `high` and `position`: a range may therefore be read at any later time.

    Attributes:
        sequence: The sequence of the first range, UTC; the others follow by microseconds.
        key: The columns of the key; the ranges are of the first.
        bounds: Where one range ends and the next begins, ascending, as text.
        strategy: The strategy that the load was planned by.
        position: What the strategy goes on from afterwards.
        high: The cursor value up to which all rows are in bronze afterwards.
        tail: With strategy `watermark`: the cursor value from which the next read reads again.
        cursor: The column that `high` is a value of.
        kind: The cursor's kind.
        layout: Where the ranges are published: of two attempts at a range, only one may be.
        empty: The ranges that were found to hold no row.
    """

    sequence: datetime
    key: tuple[str, ...]
    bounds: tuple[str, ...]
    strategy: str
    position: Mapping[str, str] = field(default_factory=dict)
    high: str | None = None
    tail: str | None = None
    cursor: str | None = None
    kind: Kind | None = None
    layout: BronzeLayout = "flat"
    empty: tuple[int, ...] = ()

    @property
    def ranges(self) -> tuple[KeyRange, ...]:
        """The ranges; together they hold every row, and none twice."""
        edges = [None, *self.bounds, None]
        return tuple(KeyRange(self.key[0], low, high) for low, high in pairwise(edges))

    @property
    def last(self) -> datetime:
        """The sequence of the last range."""
        return self.sequence_of(len(self.bounds))

    def sequence_of(self, number: int) -> datetime:
        """Give the sequence under which a range is published."""
        return self.sequence + timedelta(microseconds=number)

    def holds(self, sequence: datetime) -> bool:
        """Tell whether a sequence was set aside for one of the ranges."""
        return self.sequence <= sequence <= self.last

    def missing(self, published: Collection[datetime]) -> list[int]:
        """Number the ranges that are still to be read, from 0.

        Args:
            published: The sequences of the table's bronze files.
        """
        numbers = range(len(self.bounds) + 1)
        return [n for n in numbers if n not in self.empty and self.sequence_of(n) not in published]


def as_json(load: InitialLoad) -> dict[str, Any]:
    """Write a load as it is stored."""
    return {
        "sequence": load.sequence.isoformat(),
        "bounds": list(load.bounds),
        "strategy": load.strategy,
        "position": dict(load.position),
        "high": load.high,
        "tail": load.tail,
        "cursor": load.cursor,
        "kind": load.kind,
        "key": list(load.key),
        "layout": load.layout,
        "empty": list(load.empty),
    }


def from_json(value: Mapping[str, Any]) -> InitialLoad:
    """Read a load back.

    Raises:
        KeyError: Something is missing.
        ValueError: The sequence is no moment.
        TypeError: Something is of another type.
    """
    return InitialLoad(
        sequence=datetime.fromisoformat(value["sequence"]).astimezone(UTC),
        bounds=tuple(value["bounds"]),
        strategy=value["strategy"],
        position=dict(value["position"]),
        high=value["high"],
        tail=value["tail"],
        cursor=value["cursor"],
        kind=cast("Kind | None", value["kind"]),
        key=tuple(value["key"]),
        layout=cast("BronzeLayout", value["layout"]),
        empty=tuple(value["empty"]),
    )
