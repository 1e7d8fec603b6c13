"""The sample source: ``tidemark sample`` makes it, changes it, or fills it from CSV files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from tidemark.sample.changes import KINDS, Changes, advance
from tidemark.sample.csv_files import load_csv
from tidemark.sample.data import create
from tidemark.sample.schema import SCHEMA, SampleTable

__all__ = [
    "SCHEMA",
    "Changes",
    "SampleTable",
    "add_arguments",
    "advance",
    "create",
    "default_path",
    "load_csv",
    "run",
]

_HELP = """\
Make a small source database to try things on: five tables in one SQLite file, the same rows each
time. Without options it is written anew, whatever was there.

  tidemark sample                        500 users, 500 artists, 500 tracks, 365 days, 1,000 streams
  tidemark sample --step 2               then let life go on: new rows, updates, late rows, ...
  tidemark sample --from data/initial    or fill it from your own DimUser.csv, FactStream.csv, ...
"""


def default_path(home: Path) -> Path:
    """Return where the sample lies in a Tidemark home."""
    return home / "source" / "spotify.db"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tidemark sample``."""
    parser.description = _HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--step",
        type=_step,
        metavar="N",
        help="1 writes it anew; 2, 3, ... change it, each step once and in order (--step 2)",
    )
    what.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="DIR",
        help="load DIR/<Table>.csv: a row inserts, or updates the row with its key; empty is NULL",
    )
    parser.add_argument(
        "--path",
        type=Path,
        metavar="FILE",
        help="the SQLite file (default: source/spotify.db in TIDEMARK_HOME)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check and print what would be done, write nothing"
    )


def _step(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a step; steps are 1, 2, 3, ...")
    return int(text)


def run(arguments: argparse.Namespace, home: Path) -> int:
    """Run ``tidemark sample`` and print rows per table.

    Args:
        arguments: parsed by a parser that ``add_arguments`` filled.
        home: the Tidemark home, which holds the sample unless ``--path`` says otherwise.

    Returns:
        The exit code, 0.

    Raises:
        SourceError: see ``create``, ``advance`` and ``load_csv``.
        SourceUnavailable: another process holds the database.
    """
    path: Path = arguments.path or default_path(home)
    dry: bool = arguments.dry_run
    if arguments.folder:
        _print_rows("loaded", load_csv(path, arguments.folder, dry_run=dry))
        _print_done("load", "loaded", f"{arguments.folder} into {path}", dry)
    elif arguments.step in (None, 1):
        replaces = "; this replaces the file that was there" if path.exists() else ""
        _print_rows("rows", create(path, dry_run=dry))
        _print_done("write", "wrote", f"{path}{replaces}", dry)
    else:
        changes = advance(path, arguments.step, dry_run=dry)
        _print_changes(changes)
        _print_done("apply", "applied", f"step {changes.step} to {path}", dry)
    return 0


def _print_done(present: str, past: str, what: str, dry: bool) -> None:
    print(f"would {present} {what} (dry run)" if dry else f"{past} {what}")


def _print_rows(title: str, rows: dict[str, int]) -> None:
    _print_table(["table", title], ((name, [count]) for name, count in rows.items()))


def _print_changes(changes: Changes) -> None:
    rows = ((name, list(counts.values())) for name, counts in changes.per_table.items())
    _print_table(["table", *KINDS.values()], rows)
    print(changes.summary())


def _print_table(titles: Sequence[str], rows: Iterable[tuple[str, list[int]]]) -> None:
    print(f"{titles[0]:<12}" + "".join(f"{title:>12}" for title in titles[1:]))
    for name, counts in rows:
        print(f"{name:<12}" + "".join(f"{count:>12,}" for count in counts))
