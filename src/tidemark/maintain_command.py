"""``tidemark maintain``: its options, and the job that it starts."""

from __future__ import annotations

import argparse

from tidemark.azure_url import is_azure
from tidemark.errors import LakeError, PipelineError
from tidemark.job_command import run_by_hand, source_named
from tidemark.settings import Settings

_HELP = """\
Put the small files of a source's silver and gold together, and remove those that no longer count:
what `maintenance` in config/ says of each table. Rows stay as they are.

  tidemark maintain spotify --dry-run          what would be done
  tidemark maintain spotify --table DimUser    one table

In a local lake it refuses to begin beside a run's silver or gold, and a run that begins meanwhile
waits for it. Elsewhere nobody is kept out: pause the Dag, and say so with --paused.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tidemark maintain``."""
    parser.description = _HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", help="the metadata file's stem, such as spotify")
    parser.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and look")
    parser.add_argument("--paused", action="store_true", help="a lake in Azure: no run is at work")
    parser.add_argument(
        "--master", default="local[*]", help="where Spark runs (default: %(default)s)"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run the command.

    Returns:
        The exit code, 0.

    Raises:
        TidemarkError: A table could not be maintained; the message says which and why.
    """
    source = source_named(settings, arguments.source)
    chosen = source.tables_named(arguments.table)
    tables = [table.lake_name for table in chosen] if arguments.table else []  # all, and the views
    root = settings.lake.root
    if is_azure(root) and not (arguments.paused or arguments.dry_run):
        message = (
            f"lake {root!r}: nothing keeps a run out meanwhile, and one of the two would "
            f"fail; `airflow dags pause {source.name}`, wait for its run, and say --paused"
        )
        raise LakeError(message)
    flags = ["--dry-run"] if arguments.dry_run else []
    master = arguments.master
    if failed := run_by_hand(settings, source, "maintenance.py", tables, master, *flags):
        raise PipelineError(f"{source.name}: maintenance failed:\n{failed.said[-3000:].strip()}")
    return 0
