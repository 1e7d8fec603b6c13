"""``tidemark rebuild``: its options, what it prints, and the jobs that it starts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from tidemark import rebuild as rebuilding
from tidemark.errors import LakeError, PipelineError
from tidemark.job_command import Failed, run_by_hand, source_named
from tidemark.layout import Lake
from tidemark.metadata import Source
from tidemark.settings import Settings
from tidemark.swap import Swap, unfinished

_HELP = """\
Build a source's silver and gold anew from bronze alone: after a cleaning rule, an expectation or
the history's settings changed, or when a checkpoint was lost. Nothing is read from the source.

  tidemark rebuild spotify --dry-run           what would be rebuilt, and from what
  tidemark rebuild spotify                     all tables, and the views over them
  tidemark rebuild spotify --table DimUser     one table; the views are computed anew all the same
  tidemark rebuild spotify --undo NAME         bring back what the rebuild of that name replaced

It builds beside the tables that are there, with the jobs of a run, and swaps the new ones in when
all are built; what they replace is kept under _tidemark/replaced/ in the lake. Reads into bronze
may go on meanwhile; a run's silver and gold are refused until it has ended, so pause the Dag first.
Killed while it builds, it leaves the lake as it was; killed while it swaps, the same command
completes the swap.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tidemark rebuild``."""
    parser.description = _HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", help="the metadata file's stem, such as spotify")
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="NAME",
        help="only this table; may be given several times",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run", action="store_true", help="say what would be done; write nothing"
    )
    what.add_argument("--undo", metavar="NAME", help="bring back what that rebuild replaced")
    parser.add_argument(
        "--accept-missing",
        action="store_true",
        help="rebuild even if bronze no longer holds files that silver was built from",
    )
    parser.add_argument(
        "--master", default="local[*]", help="where Spark runs (default: %(default)s)"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the command.

    Returns:
        The exit code, 0.

    Raises:
        TidemarkError: Something can't be rebuilt; the message says what and why.
    """
    source = source_named(settings, arguments.source)
    lake = settings.lake
    if arguments.dry_run:
        _dry_run(lake, source, arguments)
    elif half := rebuilding.complete(lake, source.name):
        print(f"{source.name}: a rebuild of {', '.join(half.tables)} had been killed while it")
        print("swapped its tables in; the swap is whole now. Nothing was built anew: run again.")
        _print_kept(lake, half)
    elif arguments.undo:
        _print_kept(lake, rebuilding.undo(lake, source.name, arguments.undo))
        print("the next run goes on from there, and computes the views")
    else:
        found = _chosen(lake, source, arguments)
        tables = [b.table for b in found]
        job = spark_job(settings, source, arguments.master)
        _print_kept(lake, rebuilding.rebuild(lake, source, tables, job, print))
    return 0


def spark_job(settings: Settings, source: Source, master: str) -> rebuilding.Job:
    """Give what runs a layer's job with `spark-submit`, as a Dag's run does, and shows its lines.

    Args:
        settings: The places.
        source: The metadata.
        master: Where Spark runs.
    """

    def job(layer: rebuilding.Layer, lake: Lake, tables: Sequence[str]) -> None:
        print(f"{layer}: starting Spark", flush=True)
        failed = run_by_hand(settings, source, f"{layer}.py", tables, master, beside=lake.beside)
        if failed:
            raise PipelineError(_failure(layer, failed))

    return job


def _failure(layer: str, failed: Failed) -> str:
    done = failed.report
    each = [*done.get("tables", {}).values(), *done.get("views", {}).values()]
    reasons = [part["error"] for part in each if part["status"] == "failed"]
    why = "".join(f"\n  {reason}" for reason in reasons) or f"\n{failed.said[-1500:].rstrip()}"
    return f"{layer}: nothing was swapped in, the lake is as it was; mend it and run again:{why}"


def _chosen(lake: Lake, source: Source, arguments: argparse.Namespace) -> list[rebuilding.Bronze]:
    store = rebuilding.local_store(lake)
    surveyed = rebuilding.survey(store, lake, source.tables_named(arguments.table))
    found = rebuilding.chosen(surveyed, accept_missing=arguments.accept_missing)
    print(f"{source.name}: silver and gold from bronze, in {lake.root}")
    for bronze in found:
        print(f"  {_line(lake, store.root, bronze)}")
    for bronze in surveyed:
        if bronze not in found:
            print(f"  {bronze.table.lake_name}: never read, left out")
    return found


def _line(lake: Lake, root: Path, bronze: rebuilding.Bronze) -> str:
    table = bronze.table
    rows = _rows(root / file for file in bronze.files)
    targets = [lake.silver(table.lake_name), lake.changes(table.lake_name)]
    targets += [lake.gold(table.gold.name)] if table.gold else []
    return f"{table.lake_name}: {rows:,} rows in {len(bronze.files)} files -> {', '.join(targets)}"


def _rows(files: Iterable[Path]) -> int:
    from pyarrow import ArrowException, parquet  # noqa: PLC0415  # for a quick --help

    count = 0
    for file in files:
        try:
            count += parquet.read_metadata(file).num_rows
        except (ArrowException, OSError) as error:
            message = (
                f"{file}: can't be read as Parquet ({error}); move it out of its folder, and read "
                "its rows again: run with from_date and to_date around them"
            )
            raise LakeError(message) from error
    return count


def _dry_run(lake: Lake, source: Source, arguments: argparse.Namespace) -> None:
    half = unfinished(rebuilding.local_store(lake), lake, source.name)
    if half is not None:
        print(f"{source.name}: the swap of a killed rebuild would be completed, and no more:")
        for piece in half.pieces:
            print(f"  {piece.path}")
        return
    _chosen(lake, source, arguments)
    print("and the views over them. This was a dry run: nothing was built or written.")


def _print_kept(lake: Lake, done: Swap) -> None:
    tables = ", ".join(done.tables)
    print(f"swapped in: {tables}. What was there before is kept in {lake.url(done.kept)}")
    print(f"to bring it back: tidemark rebuild {done.source} --undo {done.name}")
