"""What the lake must hold, in plain Python: knows the CSV files and the documented semantics only.

No code of Tidemark's is used here. The strategy `snapshot` decides what a read takes: the rows that
are not as the last read left them, and the keys that are gone. Silver is what is left; gold follows
from the changes in the order of their reads.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]

INTEGERS = {
    "user_id", "artist_id", "track_id", "date_key", "stream_id", "listen_duration",
    "duration_sec", "day", "month", "year",
}  # fmt: skip
DATES = {"start_date", "end_date", "release_date", "date"}
STAMPS = {"updated_at", "stream_timestamp"}
KEYS = {
    "DimUser": "user_id",
    "DimArtist": "artist_id",
    "DimTrack": "track_id",
    "DimDate": "date_key",
    "FactStream": "stream_id",
}
CURSORS = {"DimDate": "date", "FactStream": "stream_timestamp"}
NAME_PUNCTUATION = " .,!?&'\u2019\"()/+:;-"
SCD2 = {"DimUser": "dim_user", "DimTrack": "dim_track", "DimDate": "dim_date"}
SCD1 = {"DimArtist": "dim_artist", "FactStream": "fact_stream"}


def load_rows(file: Path) -> list[Row]:
    """Read a CSV file as typed rows; empty is NULL."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        return [{k: typed(k, v) for k, v in row.items()} for row in csv.DictReader(text)]


def typed(column: str, text: str) -> Any:
    if text == "":
        return None
    if column in INTEGERS:
        return int(text)
    if column in DATES:
        return date.fromisoformat(text)
    return datetime.fromisoformat(text) if column in STAMPS else text


@dataclass(frozen=True)
class Read:
    """What one read took: rows as they are at the source, and keys that are gone from it."""

    rows: list[Row]
    deleted: list[Any]

    def __bool__(self) -> bool:
        return bool(self.rows or self.deleted)


@dataclass
class TableOracle:
    """One table of the source, what was read of it, and what must stand in each layer."""

    name: str
    source: dict[Any, Row] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    known: dict[Any, Row] = field(default_factory=dict)
    watermark: Any = None

    @property
    def key(self) -> str:
        return KEYS[self.name]

    @property
    def cursor(self) -> str:
        return CURSORS.get(self.name, "updated_at")

    def load(self, rows: Iterable[Row]) -> None:
        """A row inserts, or updates the row with its key; the last one wins."""
        for row in rows:
            self.source[row[self.key]] = row

    def read(self) -> None:
        """Take what a scheduled read must take, and move the watermark forward."""
        changed = [row for key, row in self.source.items() if self.known.get(key) != row]
        gone = [key for key in self.known if key not in self.source]
        self.reads.append(Read(changed, gone))
        self.known = dict(self.source)
        cursors = [row[self.cursor] for row in self.source.values()]
        self.watermark = max([*cursors, *([self.watermark] if self.watermark else [])])

    def changes(self) -> list[Row]:
        """Every version of a row, cleaned, in the order of the reads; deletes are not here."""
        return [clean(self.name, row) for read in self.reads for row in read.rows]

    def deletes(self) -> list[Any]:
        """The key of every delete, in the order of the reads."""
        return [key for read in self.reads for key in read.deleted]

    def silver(self) -> dict[Any, Row]:
        """The rows as the last read left them, cleaned."""
        return {key: clean(self.name, row) for key, row in self.known.items()}

    def history(self) -> dict[Any, list[tuple[Row, int, int | None]]]:
        """SCD type 2: per key its versions, each with the read it began in and ended in."""
        versions: dict[Any, list[tuple[Row, int, int | None]]] = {}
        for number, read in enumerate(filter(None, self.reads)):
            for raw in read.rows:
                row = clean(self.name, raw)
                known = versions.setdefault(row[self.key], [])
                if known and known[-1][2] is None:
                    if known[-1][0] == row:
                        continue
                    known[-1] = (known[-1][0], known[-1][1], number)
                known.append((row, number, None))
            for key in read.deleted:
                row, start, _ = versions[key][-1]
                versions[key][-1] = (row, start, number)
        return versions


def clean(table: str, row: Row) -> Row:
    """Apply the documented cleaning rule of a table."""
    return RULES.get(table, dict)(row)


def _user(row: Row) -> Row:
    return row | {"user_name": row["user_name"].strip().upper()}


def _track(row: Row) -> Row:
    seconds = row["duration_sec"]
    flag = "low" if seconds < 150 else "medium" if seconds < 300 else "high"
    name = row["track_name"].replace("-", " ").strip()
    return row | {
        "track_name": name,
        "album_name": row["album_name"].strip(),
        "duration_flag": flag,
    }


def _artist(row: Row) -> Row:
    kept = "".join(c for c in row["artist_name"] if _is_allowed(c))
    return row | {"artist_name": kept.strip()}


def _is_allowed(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category == "Nd" or character in NAME_PUNCTUATION


RULES: dict[str, Callable[[Row], Row]] = {
    "DimUser": _user,
    "DimTrack": _track,
    "DimArtist": _artist,
}
