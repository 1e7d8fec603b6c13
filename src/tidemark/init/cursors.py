"""Which columns say when a row changed, by type and name, and which only may.

A name is taken at its word: ``updated_at`` and ``RowModifiedDate`` speak of the row,
``password_changed_at`` of one column, and ``updated_by`` of somebody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tidemark.init.facts import Column, TableFacts
from tidemark.metadata import snake_case

_CHANGE = frozenset(
    {"updated", "update", "upd", "modified", "modification", "modify", "mod", "changed", "change"}
    | {"chg", "edited", "mtime", "upd8", "lastmodified", "lastupdated", "lastupdate", "lastchanged"}
)
# What may stand beside it without making it another thing's time.
_BESIDE = frozenset(
    {"at", "on", "date", "time", "datetime", "timestamp", "tstamp", "stamp", "ts", "dt", "dtm"}
    | {"utc", "gmt", "tz", "last", "when", "row", "record", "rec", "sys", "system", "db"}
)
_ORDER = {"timestamp": 0, "integer": 1, "date": 2}


@dataclass(frozen=True)
class Candidates:
    """The columns that could be a table's cursor, the best first.

    Attributes:
        sure: Their type and name say that they move with each change of the row.
        perhaps: Times that may stay as they are when a row changes.
    """

    sure: tuple[Column, ...]
    perhaps: tuple[Column, ...]


def candidates(facts: TableFacts) -> Candidates:
    """Find the columns that could be a table's cursor."""
    own = frozenset(_words(facts.name))
    sure = [c for c in facts.columns if c.kind and _moves_with_the_row(c.name, own)]
    times = [c for c in facts.columns if c.kind in {"timestamp", "date"} and c not in sure]
    return Candidates(_best_first(sure), _best_first(times))


def _moves_with_the_row(name: str, table_words: frozenset[str]) -> bool:
    words = set(_words(name))
    return bool(words & _CHANGE) and words <= _CHANGE | _BESIDE | table_words


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", snake_case(name)) if word]


def _best_first(columns: Iterable[Column]) -> tuple[Column, ...]:
    # Python's sort keeps the source's order among equals.
    return tuple(sorted(columns, key=lambda c: (_ORDER[c.kind or ""], c.nullable, not c.indexed)))
