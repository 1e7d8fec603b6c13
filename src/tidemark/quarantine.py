"""Bronze files that silver leaves aside because they can't be read with a table's other files.

The file itself stays where it is, as every bronze file. What is kept is its name, why, and what has
been decided; beside silver's checkpoint, so that who builds silver anew judges all files anew.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from tidemark.errors import StateError
from tidemark.layout import Lake
from tidemark.storage import Content, Store, again

# `waiting` for somebody; `dismissed`: its rows are not wanted, or came by another read; `rescued`:
# replayed with values that do not fit, as it would be again when silver is built anew; `absent`:
# not in bronze for now. A stream passes over what it has met, so one that comes back waits again.
Decision = Literal["waiting", "dismissed", "rescued", "absent"]
_SETTLED = frozenset({"dismissed", "rescued"})


@dataclass(frozen=True)
class Held:
    """A file in quarantine.

    Attributes:
        reason: Why it can't be read, and what to do.
        since: When that was found, UTC, ISO 8601.
        token: Tells this quarantine apart from another one of the same file.
        decision: What became of it.
    """

    reason: str
    since: str
    token: str
    decision: Decision = "waiting"


def held_files(store: Store, lake: Lake, table: str) -> dict[str, Held]:
    """Read what is known of a table's files in quarantine, by the files' names.

    Where silver is built anew, in a folder of its own, what was decided before still holds.

    Raises:
        StateError: It can't be read.
    """
    return _read(store, lake, table, store.read(lake.quarantined_files(table)))


def waiting(held: Mapping[str, Held]) -> dict[str, Held]:
    """Give those of which nobody has decided anything, by name."""
    return {name: h for name, h in sorted(held.items()) if h.decision == "waiting"}


def seen(held: Mapping[str, Held], files: Collection[str]) -> dict[str, Held]:
    """Note which files are gone from bronze, and which have come back to it.

    Args:
        held: What is in quarantine.
        files: The names that lie in bronze.
    """
    there = {n: replace(h, decision="waiting") for n, h in held.items() if h.decision == "absent"}
    gone = {n: replace(h, decision="absent") for n, h in (waiting(held) | there).items()}
    return {
        **{name: there.get(name, h) for name, h in held.items() if name in files},
        **{name: h for name, h in gone.items() if name not in files},
    }


def hold(held: Mapping[str, Held], reasons: Mapping[str, str]) -> dict[str, Held]:
    """Add files, each with the reason."""
    now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    new = {name: Held(reason, now, uuid.uuid4().hex) for name, reason in reasons.items()}
    return {**held, **new}


def judged(
    held: Mapping[str, Held], files: Collection[str], reasons: Mapping[str, str]
) -> dict[str, Held]:
    """Say of files that were looked at which are held, each with the reason; the others are not.

    What somebody has decided of one meanwhile stands.
    """
    settled = {n: h for n, h in held.items() if n in files and h.decision in _SETTLED}
    others = {n: h for n, h in held.items() if n not in files}
    new = {name: reason for name, reason in reasons.items() if name not in settled}
    return hold({**others, **settled}, new)


def decide(held: Mapping[str, Held], files: Iterable[str], decision: Decision) -> dict[str, Held]:
    """Say what became of some files; one that is no longer there is passed over."""
    new = {n: replace(held[n], decision=decision) for n in files if n in held}
    return {**held, **new}


def change(
    store: Store, lake: Lake, table: str, wanted: Callable[[dict[str, Held]], Mapping[str, Held]]
) -> dict[str, Held]:
    """Change what is known of a table's files, by compare-and-set.

    Args:
        store: The lake's storage.
        lake: The lake.
        table: The table's name in the lake.
        wanted: Gives what is to be known; it is called again if another writer was faster.

    Returns:
        What is known afterwards.

    Raises:
        ReadOvertaken: Other writers kept getting in between.
        StateError: What is there can't be read.
    """
    path = lake.quarantined_files(table)
    return again(lambda: _changed(store, lake, table, wanted), path)


def told(source: str, table: str, held: Mapping[str, Held]) -> str:
    """Say which files wait, why, and how they come back."""
    reasons = [h.reason for h in held.values()]
    files = f"{len(held)} bronze file{'s are' if len(held) > 1 else ' is'} in quarantine"
    head = f"{table}: {files}, what is in the others is in silver:"
    remedy = (
        f"when that is mended: `tidemark replay {source} --table {table}`; or, if the rows came by "
        "another read, the same with --dismiss (docs/schema-evolution.md)"
    )
    return "\n  ".join([head, *reasons, remedy])


def _read(store: Store, lake: Lake, table: str, content: Content | None) -> dict[str, Held]:
    if content is None:
        if not lake.beside:
            return {}
        before = held_files(store, replace(lake, beside=""), table)
        return {n: h for n, h in before.items() if h.decision in _SETTLED}
    try:
        return {name: Held(**value) for name, value in json.loads(content.data).items()}
    except (ValueError, TypeError, AttributeError) as error:
        message = (
            f"{lake.quarantined_files(table)}: can't be read ({error}); remove it: the files that "
            "it names are then taken for merged, so read their rows again, or `tidemark rebuild` "
            f"{table}"
        )
        raise StateError(message) from error


def _changed(
    store: Store, lake: Lake, table: str, wanted: Callable[[dict[str, Held]], Mapping[str, Held]]
) -> dict[str, Held]:
    path = lake.quarantined_files(table)
    content = store.read(path)
    held = dict(wanted(_read(store, lake, table, content)))
    data = json.dumps({name: asdict(h) for name, h in sorted(held.items())}, indent=1).encode()
    is_new = bool(held) if content is None else data != content.data
    if is_new:
        store.write_if(path, data, content.version if content else None)
    return held
