"""What each strategy reads and what it can never see, in words: for docs, reports and the plan."""

from __future__ import annotations

from tidemark.metadata.types import Strategy

READS: dict[Strategy, str] = {
    "snapshot": "the whole table, compared with what was read before",
    "rowversion": "the rows whose rowversion is not below the last read's bound",
    "change_tracking": "the keys that SQL Server has recorded as changed, with their rows",
    "cdc": "every change that SQL Server's capture has recorded",
}
_DEFAULT = "the value that a new column's DEFAULT gives to rows that do not change"
# So that nobody has to find out.
CANNOT_SEE: dict[Strategy, tuple[str, ...]] = {
    "watermark": (
        "deletes",
        "updates that do not move the cursor",
        "rows committed with a cursor below the window (a longer `lookback` sees them)",
        "rows dated in the future until their time has come (`future: take` reads them)",
        _DEFAULT,
    ),
    "snapshot": ("versions of a row that came and went between two reads",),
    "rowversion": (
        "deletes",
        "versions of a row that came and went between two reads",
        "rows of a partition that was switched in",
        _DEFAULT,
    ),
    "change_tracking": ("versions of a row that came and went between two reads", _DEFAULT),
    "cdc": (
        "a change of a configured key that is not the table's primary key",
        "rows of a partition that was switched in or out",
    ),
}
