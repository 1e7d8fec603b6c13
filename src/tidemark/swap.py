"""Tables that were built elsewhere, put in the place of those that are there.

A swap is many renames. What it will do is written down before the first one, and each rename is
its own record: whether it has been done shows in what is where. So a swap that was killed anywhere
is completed by carrying it out again, and nothing is ever deleted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from tidemark.errors import StateError
from tidemark.layout import Lake
from tidemark.storage import LocalStore

Exists = Callable[[str], bool]


@dataclass(frozen=True)
class Piece:
    """A file or folder of the lake that is exchanged.

    Attributes:
        path: Where it lies in the lake.
        old: Whether there is one to move aside.
        new: Whether there is one to move in.
    """

    path: str
    old: bool
    new: bool


@dataclass(frozen=True)
class Swap:
    """What a swap will do, does, or has done.

    Attributes:
        name: Tells it apart; a time.
        source: The source's name.
        tables: The lake names of the tables.
        new: The folder that the new pieces come from, under the same paths as in the lake.
        kept: The folder that the old pieces go to, under the same paths.
        pieces: What is exchanged, table by table.
    """

    name: str
    source: str
    tables: tuple[str, ...]
    new: str
    kept: str
    pieces: tuple[Piece, ...]


def paths_of(lake: Lake, tables: Mapping[str, str | None], gold: Iterable[str]) -> list[str]:
    """List everything that belongs to some tables: what a rebuild builds anew, and nothing else.

    Args:
        lake: The lake.
        tables: By lake name, the gold table's name if there is one.
        gold: Other gold tables: views, and tables of flows that are no table's own.
    """
    paths: list[str] = []
    for table, own in tables.items():
        paths += [lake.changes(table), lake.silver(table)]
        paths += [lake.checkpoint("silver", table), lake.marker("silver", table)]
        if own:
            paths += [*_gold_paths(lake, own), lake.gold_quarantine(own)]
            paths += [lake.marker("gold", table)]
    others = (path for name in gold for path in _gold_paths(lake, name))
    # The gold tables and quarantines above are among them.
    return list(dict.fromkeys([*paths, *others]))


def pieces(paths: Iterable[str], old: Exists, new: Exists) -> tuple[Piece, ...]:
    """Decide what is exchanged; an old one without a new one goes aside all the same."""
    found = (Piece(path, old(path), new(path)) for path in paths)
    return tuple(piece for piece in found if piece.old or piece.new)


def remaining(swap: Swap, exists: Exists) -> list[tuple[str, str]]:
    """List the renames, from and to, that have not been done; all of them at first."""
    moves: list[tuple[str, str]] = []
    for piece in swap.pieces:
        kept, new = f"{swap.kept}/{piece.path}", f"{swap.new}/{piece.path}"
        if piece.old and not exists(kept):
            moves.append((piece.path, kept))
        if piece.new and exists(new):
            moves.append((new, piece.path))
    return moves


def begin(store: LocalStore, lake: Lake, swap: Swap) -> None:
    """Write the journal: from now on the swap can only be completed."""
    store.write(lake.swap_file(swap.source), json.dumps(asdict(swap), indent=1).encode())


def unfinished(store: LocalStore, lake: Lake, source: str) -> Swap | None:
    """Read the journal of a swap that was begun and not completed; None if there is none.

    Raises:
        StateError: The journal can't be read.
    """
    return load(store, lake.swap_file(source))


def load(store: LocalStore, path: str) -> Swap | None:
    """Read what a swap does or did; None if there is no such file.

    Raises:
        StateError: It can't be read.
    """
    content = store.read(path)
    if content is None:
        return None
    try:
        value = json.loads(content.data)
        found = tuple(Piece(**piece) for piece in value.pop("pieces"))
        return Swap(**value | {"tables": tuple(value["tables"]), "pieces": found})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        message = (
            f"{path}: not the journal of a swap but {content.data[:80]!r}; restore the file from a "
            "backup: it says which tables are old and which are new"
        )
        raise StateError(message) from error


def complete(store: LocalStore, lake: Lake, swap: Swap) -> None:
    """Do what has not been done of a swap, and end it; the record stays beside what it kept."""
    for old, new in remaining(swap, store.exists):
        store.move(old, new)
    record = json.dumps(asdict(swap), indent=1).encode()
    store.write(record_file(swap.kept), record)
    # All that is left there are links, locks and empty folders.
    shutil.rmtree(store.root / swap.new, ignore_errors=True)
    store.remove(lake.swap_file(swap.source))


def record_file(kept: str) -> str:
    """Give the file that says what a swap did, in the folder of what it kept."""
    return f"{kept}/swap.json"


def _gold_paths(lake: Lake, name: str) -> list[str]:
    return [lake.gold(name), lake.checkpoint("gold", name), lake.auxiliary(name)]
