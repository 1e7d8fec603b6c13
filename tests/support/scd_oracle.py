"""AUTO CDC in plain Python, written from its documentation: what any implementation must equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One change of one key; `columns` are pairs of name and value, without the key."""

    key: Hashable
    sequence: Any
    deleted: bool
    columns: tuple[tuple[str, Any], ...]

    def values(self, names: Iterable[str]) -> tuple[Any, ...]:
        """Give some of the columns, in this order."""
        by_name = dict(self.columns)
        return tuple(by_name.get(name) for name in names)


def current(events: Iterable[Event], names: list[str]) -> set[tuple[Any, ...]]:
    """SCD type 1: (key, *columns) of each key whose newest event is no delete."""
    newest = {key: timeline[-1] for key, timeline in _timelines(events).items()}
    return {(key, *event.values(names)) for key, event in newest.items() if not event.deleted}


def history(events: Iterable[Event], names: list[str], tracked: list[str]) -> set[tuple[Any, ...]]:
    """SCD type 2: (key, *columns, start, end) of every version."""
    rows = set()
    for key, timeline in _timelines(events).items():
        versions: list[list[Any]] = []
        is_open = False
        for event in timeline:
            same = is_open and event.values(tracked) == versions[-1][0].values(tracked)
            if event.deleted or not same:
                if is_open:
                    versions[-1][2] = event.sequence
                if not event.deleted:
                    versions.append([event, event.sequence, None])
            else:
                versions[-1][0] = event
            is_open = not event.deleted
        rows |= {(key, *event.values(names), start, end) for event, start, end in versions}
    return rows


def _timelines(events: Iterable[Event]) -> dict[Hashable, list[Event]]:
    """Order each key's events; of those with one sequence only the one that counts is left."""
    by_key: dict[Hashable, dict[Any, Event]] = defaultdict(dict)
    for event in events:
        rival = by_key[event.key].get(event.sequence)
        if rival is None or _rank(event) > _rank(rival):
            by_key[event.key][event.sequence] = event
    return {
        key: [by_sequence[s] for s in sorted(by_sequence, key=_sortable)]
        for key, by_sequence in by_key.items()
    }


def _rank(event: Event) -> tuple[Any, ...]:
    return event.deleted, _sortable(tuple(value for _, value in sorted(event.columns)))


def _sortable(value: Any) -> Any:
    """None sorts first, in Spark too."""
    if isinstance(value, tuple):
        return tuple(_sortable(part) for part in value)
    return (value is not None, value if value is not None else 0)
