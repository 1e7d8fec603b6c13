"""Build silver and gold anew from bronze alone, beside what is there, and swap them in when whole.

The very jobs of a run do the building, in a folder of the lake that has a silver, a gold and
checkpoints of its own and reads the lake's own bronze. Bronze is append-only: reads may go on
meanwhile, and what they publish after the rebuild looked is pending for the first run after it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tidemark import swap
from tidemark.errors import LakeError
from tidemark.layers_lock import as_a_rebuild, refuse_half_swapped
from tidemark.layout import Lake, sequence_text
from tidemark.metadata import Source, Table
from tidemark.pending import gold_pending
from tidemark.published import bronze_files, file_name
from tidemark.quarantine import held_files
from tidemark.storage import LocalStore, open_store

Layer = Literal["silver", "gold"]
# Runs a layer's job for tables, in the lake that it is given; raises if one of them failed.
Job = Callable[[Layer, Lake, Sequence[str]], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Bronze:
    """What a table can be rebuilt from.

    Attributes:
        table: The table.
        files: The published files, relative to the lake, but for those dismissed from quarantine.
        lost: The names of files that silver was built from and that bronze no longer holds.
        has_silver: Whether there is a silver that would be replaced.
    """

    table: Table
    files: tuple[str, ...]
    lost: tuple[str, ...]
    has_silver: bool


def local_store(lake: Lake) -> LocalStore:
    """Open the lake of a rebuild.

    Raises:
        LakeError: It is no local folder, whose tables could be swapped by renaming.
    """
    store = open_store(lake.root)
    if not isinstance(store, LocalStore):
        message = (
            f"lake {lake.root!r}: a rebuild swaps its tables in by renaming, which only a local "
            "folder offers at once (docs/azure-lake.md); nothing was changed"
        )
        raise LakeError(message)
    return store


def survey(store: LocalStore, lake: Lake, tables: Iterable[Table]) -> list[Bronze]:
    """Look at what tables can be rebuilt from; reads the names of files alone."""
    return [_bronze(store, lake, table) for table in tables]


def chosen(found: Iterable[Bronze], *, accept_missing: bool = False) -> list[Bronze]:
    """Leave out the tables that have never been read, and refuse what would lose rows.

    Raises:
        LakeError: Bronze no longer holds what silver was built from, or holds nothing at all.
    """
    found = list(found)
    problems = [_problem(b) for b in found if not accept_missing or not b.files]
    if reasons := [problem for problem in problems if problem]:
        raise LakeError("\n  ".join(["nothing was rebuilt:", *reasons]))
    kept = [b for b in found if b.files]
    if not kept:
        names = ", ".join(b.table.lake_name for b in found)
        raise LakeError(f"{names}: bronze holds no file to rebuild from; run the Dag first")
    return kept


def rebuild(lake: Lake, source: Source, tables: Sequence[Table], job: Job, say: Say) -> swap.Swap:
    """Build tables and the views over them anew, and swap them in once all of them are built.

    Args:
        lake: The lake.
        source: The metadata.
        tables: The tables; their bronze holds something.
        job: Runs a layer's job.
        say: Takes a line on how it gets on.

    Raises:
        LakeError: A run's job, or another rebuild, is at work.
        TidemarkError: A table can't be built; the lake is as it was.
    """
    store = local_store(lake)
    with as_a_rebuild(lake, source.name):
        refuse_half_swapped(store, lake, source.name)
        left = store.root / lake.rebuild_folder(source.name)
        if left.is_dir() and any(left.iterdir()):
            say("an earlier rebuild was killed before its swap; what it had built is removed")
            shutil.rmtree(left, ignore_errors=True)
        planned = _built(store, lake, source, tables, job)
        swap.begin(store, lake, planned)
        swap.complete(store, lake, planned)
    return planned


def complete(lake: Lake, source: str) -> swap.Swap | None:
    """Complete the swap of a rebuild that was killed; None if there is none.

    Raises:
        LakeError: A run's job, or another rebuild, is at work.
    """
    store = local_store(lake)
    if swap.unfinished(store, lake, source) is None:
        return None
    with as_a_rebuild(lake, source):
        half = swap.unfinished(store, lake, source)
        if half is not None:
            swap.complete(store, lake, half)
        return half


def undo(lake: Lake, source: str, name: str) -> swap.Swap:
    """Bring back what a rebuild replaced; what is there now is kept in its turn.

    The next run reads on from where the old tables were, and computes the views.

    Args:
        lake: The lake.
        source: The source's name.
        name: The rebuild's name.

    Raises:
        LakeError: There is no such rebuild, or a run is at work.
    """
    store = local_store(lake)
    with as_a_rebuild(lake, source):
        refuse_half_swapped(store, lake, source)
        done = swap.load(store, swap.record_file(f"{lake.replaced_folder(source)}/{name}"))
        if done is None:
            raise LakeError(_no_such(store, lake, source, name))
        # Without their markers the tables are pending for gold, and so the views are computed.
        markers = {lake.marker("gold", table) for table in done.tables}
        there = {p.path for p in done.pieces if p.old} - markers
        paths = [piece.path for piece in done.pieces]
        planned = replace(
            _swap(lake, source, done.tables),
            new=done.kept,
            pieces=swap.pieces(paths, store.exists, there.__contains__),
        )
        swap.begin(store, lake, planned)
        swap.complete(store, lake, planned)
    return planned


def _bronze(store: LocalStore, lake: Lake, table: Table) -> Bronze:
    name = table.lake_name
    there = [file for file, _ in bronze_files(store, lake, name)]
    held = held_files(store, lake, name).items()
    dismissed = {file for file, h in held if h.decision == "dismissed"}
    files = [file for file in there if file_name(file) not in dismissed]
    met = store.read(lake.stream_schema(name))
    known: set[str] = set(json.loads(met.data)["files"]) if met else set()
    lost = known - {file_name(file) for file in there}
    has_silver = store.exists(lake.changes(name)) or store.exists(lake.silver(name))
    return Bronze(table, tuple(files), tuple(sorted(lost)), has_silver)


def _problem(bronze: Bronze) -> str | None:
    name = bronze.table.lake_name
    if not bronze.files and bronze.has_silver:
        return (
            f"{name}: bronze/{name} holds no file, and its silver would be lost; restore the "
            "files, or name the other tables with --table"
        )
    if bronze.lost:
        return (
            f"{name}: silver was built from {len(bronze.lost)} files that bronze/{name} no longer "
            f"holds, such as {bronze.lost[0]}: their rows would be lost; restore them, or accept "
            "it with --accept-missing"
        )
    return None


def _built(
    store: LocalStore, lake: Lake, source: Source, tables: Sequence[Table], job: Job
) -> swap.Swap:
    """Build everything in a folder of its own, and plan the swap; on an error nothing is left."""
    planned = _swap(lake, source.name, [t.lake_name for t in tables])
    shadow = replace(lake, beside=planned.new)
    try:
        _link_others(store, lake, shadow, source, planned.tables)
        job("silver", shadow, planned.tables)
        waiting = gold_pending(store, shadow, [t.lake_name for t in tables if t.gold])
        # Also for the views alone, and for flows that read the changes of a table without gold.
        job("gold", shadow, waiting)
    except BaseException:
        shutil.rmtree(store.root / lake.rebuild_folder(source.name), ignore_errors=True)
        raise
    names = {t.lake_name: t.gold.name if t.gold else None for t in tables}
    paths = swap.paths_of(lake, names, _built_gold(store, shadow))
    new = f"{planned.new}/"
    found = swap.pieces(paths, store.exists, lambda path: store.exists(new + path))
    return replace(planned, pieces=found)


def _link_others(
    store: LocalStore, lake: Lake, shadow: Lake, source: Source, rebuilt: Sequence[str]
) -> None:
    """Let views and flows also see the tables that are not rebuilt, as they are."""
    for table in source.tables.values():
        if table.lake_name in rebuilt:
            continue
        gold = [lake.gold(table.gold.name)] if table.gold else []
        for path in (lake.changes(table.lake_name), *gold):
            if store.exists(path):
                target = (store.root / path).resolve()
                store.local_path(f"{shadow.beside}/{path}").symlink_to(target)


def _built_gold(store: LocalStore, shadow: Lake) -> list[str]:
    folder = store.root / Path(shadow.gold("any")).parent
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in there if not path.is_symlink())


def _swap(lake: Lake, source: str, tables: Sequence[str]) -> swap.Swap:
    name = sequence_text(datetime.now(UTC))
    new = f"{lake.rebuild_folder(source)}/{name}"
    kept = f"{lake.replaced_folder(source)}/{name}"
    return swap.Swap(name, source, tuple(tables), new, kept, ())


def _no_such(store: LocalStore, lake: Lake, source: str, name: str) -> str:
    folder = store.root / lake.replaced_folder(source)
    records = sorted(path.parent.name for path in folder.glob("*/swap.json"))
    there = ", ".join(records) or "none"
    return f"{source}: {lake.url(lake.replaced_folder(source))} has no {name!r} (there: {there})"
