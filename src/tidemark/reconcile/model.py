"""What a reconciliation found, as plain values: the form in which it is kept, shown and judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Class = Literal["missing", "stale", "different", "extra"]
LeftOut = Literal["waiting", "newer", "unread"]

CLASSES: dict[Class, str] = {
    "missing": "at the source, not in the lake",
    "stale": "in both, and the source's is newer by its cursor",
    "different": "in both with other values, though the source's cursor is not newer",
    "extra": "in the lake, not at the source: deleted there",
}
LEFT_OUT: dict[LeftOut, str] = {
    "waiting": "in bronze files that silver has not merged yet",
    "newer": "changed at the source after the last read, by the cursor",
    "unread": "changed at the source after the last read, by what the strategy keeps",
}
EQUAL, FAILED, DIFFERENT = 0, 1, 2


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        deep: Digest the newest bronze row of each key anew, instead of trusting what it carries.
        repair: Read the rows that differ again, into bronze.
        dry_run: With `repair`: only say what would be written.
    """

    deep: bool = False
    repair: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Repair:
    """What was written to mend a table, or would be.

    Attributes:
        rows: The rows of the new bronze file.
        deleted: Of these, the deletes.
        file: The file; None if there was nothing to write, or nothing was to be written.
        sequence: The read's own, as text.
    """

    rows: int
    deleted: int
    file: str | None = None
    sequence: str | None = None


@dataclass(frozen=True)
class TableResult:
    """What was found of one table.

    Attributes:
        table: Its name in the lake.
        against: What it was compared with: ``silver``, or ``bronze`` where there is no silver.
        source_rows: Rows at the source.
        lake_rows: Rows of the lake's current state.
        counts: How many keys differ, by class.
        keys: The keys, by class, the first of them only where there are very many.
        left_out: How many keys differ and can't be judged yet, by reason.
        settled: How many keys differed at first and were equal when they were read again.
        bound: The watermark of the last read.
        pending: Whether published files wait for silver.
        buckets: Over how many hash buckets the keys were spread.
        buckets_differing: How many of them were compared row by row and differ.
        seconds: Wall clock.
        repair: What was written.
        note: What else is worth telling.
        error: Why the table could not be compared or repaired.
    """

    table: str
    against: str | None = None
    source_rows: int = 0
    lake_rows: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    settled: int = 0
    bound: str | None = None
    pending: bool = False
    buckets: int = 0
    buckets_differing: int = 0
    seconds: float = 0.0
    repair: Repair | None = None
    note: str | None = None
    error: str | None = None

    @property
    def differing(self) -> int:
        """How many keys differ."""
        return sum(self.counts.values())

    @property
    def is_repaired(self) -> bool:
        """Whether everything that differs was written to bronze."""
        return self.repair is not None and self.repair.file is not None


def exit_code(results: Iterable[TableResult]) -> int:
    """Judge a reconciliation: 1 after an error, 2 where differences remain, else 0."""
    found = list(results)
    if any(result.error is not None for result in found):
        return FAILED
    if any(result.differing and not result.is_repaired for result in found):
        return DIFFERENT
    return EQUAL


def summary(result: TableResult) -> str:
    """Say in one line what was found of a table."""
    if result.error is not None:
        return result.error
    found = [f"{count:,} {name}" for name, count in result.counts.items() if count]
    if not found:
        return "equal"
    mended = f"; written to bronze: {many(result.repair.rows, 'row')}" if result.repair else ""
    if result.repair and not result.repair.file:
        mended = f"; would be written to bronze: {many(result.repair.rows, 'row')}"
    return f"{', '.join(found)}{mended}"


def many(count: int, what: str) -> str:
    """Write a number of things."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
