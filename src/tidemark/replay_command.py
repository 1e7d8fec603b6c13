"""``tidemark replay``: what waits in quarantine, and its way into silver."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

from tidemark.errors import ConfigError, PipelineError
from tidemark.job_command import Failed, known_source, run_by_hand
from tidemark.layers_lock import as_a_run, as_the_writer
from tidemark.layout import Lake
from tidemark.metadata import Source, Table
from tidemark.quarantine import Held, change, decide, held_files, waiting
from tidemark.settings import Settings
from tidemark.storage import Store, open_store
from tidemark.suggestions import did_you_mean

_HELP = """\
Bring bronze files from quarantine into silver, when what was wrong is mended: a file
that was broken is back as it was, or its contradicting column is to be rescued.

  tidemark replay spotify --dry-run                 what waits, and why
  tidemark replay spotify                           all of it
  tidemark replay spotify --table DimUser --file DimUser_20260131T080000000000Z.parquet
  tidemark replay spotify --table DimUser --rescue  columns that contradict too: values that fit are
                                                    kept, others go into _rescued_data
  tidemark replay spotify --table DimUser --dismiss never: the rows came by another read

Late rows end as if they had come in time, and gold takes them with the Dag's next run. It may be
run again, also after it was killed.
"""
_PATIENCE = 60.0  # seconds
Waiting = dict[str, dict[str, Held]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tidemark replay``."""
    parser.description = _HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", help="the metadata file's stem, such as spotify")
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument(
        "--file", action="append", default=[], metavar="NAME", help="only this one; repeatable"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="say what waits; write nothing")
    what.add_argument(
        "--rescue", action="store_true", help="take files too whose columns contradict"
    )
    what.add_argument(
        "--dismiss", action="store_true", help="leave the files out for good; no run fails by them"
    )
    parser.add_argument(
        "--master", default="local[*]", help="where Spark runs (default: %(default)s)"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the command.

    Returns:
        The exit code, 0.

    Raises:
        TidemarkError: A file could not be replayed; the message says which and why.
    """
    source = known_source(settings, arguments.source)
    store, lake = open_store(settings.lake.root), settings.lake
    tables = source.tables_named(arguments.table)
    found = _chosen(store, lake, tables, arguments.file)
    for name, held in found.items():
        for file, why in held.items():
            print(f"{name}: {file} (since {why.since})\n  {why.reason}")
    if not found:
        print(f"{source.name}: nothing waits in quarantine")
    elif arguments.dry_run:
        print("This was a dry run: nothing was written.")
    elif arguments.dismiss:
        for name, held in found.items():
            done = dismiss(store, lake, source.name, name, held)
            for file in held:
                print(f"{name}: {_became(file, done)}")
    else:
        _replay(settings, source, found, arguments)
        print("replayed: gold takes the rows with the Dag's next run")
    return 0


def dismiss(
    store: Store, lake: Lake, source: str, table: str, files: Collection[str]
) -> dict[str, Held]:
    """Leave files out of silver for good; the next run no longer fails by them.

    Returns:
        Those that still waited, by name: a replay may have been faster.

    Raises:
        PipelineError: A rebuild is at work, which would not learn of it; or another writer.
    """
    alone = as_the_writer(lake, table, patience=_PATIENCE)
    with as_a_run(lake, source, patience=_PATIENCE), alone:
        # In Azure nobody is kept out: what still waits is looked up with each try to write.
        done: dict[str, Held] = {}

        def dismissed(now: dict[str, Held]) -> dict[str, Held]:
            done.clear()
            done.update({name: h for name, h in waiting(now).items() if name in files})
            return decide(now, done, "dismissed")

        change(store, lake, table, dismissed)
    return done


def _became(file: str, dismissed: Collection[str]) -> str:
    if file in dismissed:
        return f"{file} is dismissed: it stays in bronze, and no run reads it"
    return f"{file} waits no more: it was replayed, dismissed or moved away meanwhile"


def _chosen(store: Store, lake: Lake, tables: Sequence[Table], files: Sequence[str]) -> Waiting:
    all_ = {t.lake_name: waiting(held_files(store, lake, t.lake_name)) for t in tables}
    known = [file for held in all_.values() for file in held]
    for file in files:
        if file not in known:
            near, there = did_you_mean(file, known), ", ".join(known) or "none"
            raise ConfigError(f"file {file!r} waits in no quarantine{near} (waiting: {there})")
    chosen = {
        name: {file: why for file, why in held.items() if file in files or not files}
        for name, held in all_.items()
    }
    return {name: held for name, held in chosen.items() if held}


def _replay(
    settings: Settings, source: Source, found: Waiting, arguments: argparse.Namespace
) -> None:
    if source.compute != "spark":
        message = (
            f"{source.path}: compute is {source.compute!r}; start the bundle's job there: make run "
            f"JOB=replay PARAMS=source={source.name} (docs/schema-evolution.md)"
        )
        raise ConfigError(message)
    failed = run_by_hand(
        *(settings, source, "silver.py", found, arguments.master),
        *("--replay", *(["--rescue"] if arguments.rescue else [])),
        files=",".join(file for held in found.values() for file in held),
    )
    if failed:
        raise PipelineError(_failure(failed))


def _failure(failed: Failed) -> str:
    tables = failed.report.get("tables", {}).values()
    reasons = [table["error"] for table in tables if table["status"] == "failed"]
    why = "".join(f"\n  {reason}" for reason in reasons) or f"\n{failed.said[-1500:].rstrip()}"
    return f"replay: what could be replayed is in silver, the rest still waits:{why}"
