"""What Airflow asks an installed package for: here, a command that it adds to its own.

Every ``airflow`` process imports this module, so that it imports nothing of Airflow until asked.
"""

from __future__ import annotations

import importlib
from argparse import SUPPRESS
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand, Arg, CLICommand

_COMMAND = "backfill"

# Airflow 2's flags that a scheduler makes meaningless, with what holds instead …
IGNORED_FLAGS = {
    ("-x", "--donot-pickle"): "Dags are never pickled",
    ("-l", "--local"): "the scheduler's executor runs the tasks",
    ("-I", "--ignore-first-depends-on-past"): "no task depends on the run before",
    ("--continue-on-failures",): "a failed run never stops the others",
    ("-y", "--yes"): "nothing is asked",
}
IGNORED_OPTIONS = {
    ("--delay-on-limit",): "the scheduler starts a run as soon as another ends",
    ("-S", "--subdir"): "the Dag is the one that the scheduler runs",
}
# … and those without which something else would run than was asked for.
REFUSED_FLAGS = {
    ("-m", "--mark-success"): "mark the runs in the UI",
    ("-i", "--ignore-dependencies"): "choose whole tables with --tables",
    ("--disable-retry",): "set tasks.retries to 0 in the source's file",
    ("--treat-dag-as-regex", "--treat-dag-id-as-regex"): "give one Dag id per command",
}
REFUSED_OPTIONS = {
    ("-t", "--task-regex"): "choose whole tables with --tables",
    ("--pool",): "set tasks.pool in the source's file",
}


def get_provider_info() -> dict[str, Any]:
    """Describe this package to Airflow's providers manager (``apache_airflow_provider``)."""
    return {
        "package-name": "tidemark",
        "name": "Tidemark",
        "description": "Metadata-driven ingestion, and `airflow dags backfill`.",
        "cli": [f"{__name__}.extend_commands"],
    }


def extend_commands() -> list[CLICommand]:
    """Put ``backfill`` among the commands of ``airflow dags``.

    Airflow takes whole groups only and refuses a second ``dags``, so the group that it has is
    replaced in the list to which it would add.

    Returns:
        Nothing to add.
    """
    # While Airflow's parser is being imported: the list is there already.
    commands = importlib.import_module("airflow.cli.cli_parser").airflow_commands
    for index, group in enumerate(commands):
        if group.name == "dags" and not any(c.name == _COMMAND for c in group.subcommands):
            subcommands = sorted([*group.subcommands, _command()], key=lambda c: str(c.name))
            commands[index] = group._replace(subcommands=tuple(subcommands))
    return []


def _command() -> ActionCommand:
    cli = _cli()
    command: ActionCommand = cli.ActionCommand(
        name=_COMMAND,
        help="Run a Dag for past data intervals",
        description=(
            "Run a Dag for the data intervals that begin between two dates, both included, as "
            "Airflow 2's command did. Creates an Airflow backfill: a running scheduler runs it."
        ),
        func=cli.lazy_load_command("tidemark.airflow.backfill.backfill"),
        args=_args(),
    )
    return command


def _args() -> tuple[Arg, ...]:
    cli = _cli()
    arg = cli.Arg
    moment = "2026-01-31 or 2026-01-31T10:00:00, in Airflow's default time zone (UTC)"
    return (
        arg(("dag_id",), help="The Dag, named like the source's file"),
        arg(
            ("-s", "--start-date"),
            help=f"First start of a data interval: {moment}",
            type=cli.parsedate,
            required=True,
        ),
        arg(
            ("-e", "--end-date"),
            help="Last start of a data interval, included; a plain date is its midnight",
            type=cli.parsedate,
            required=True,
        ),
        arg(("--tables",), help="Only these tables, by their names in the source or lake: A,B"),
        arg(("-c", "--conf", "--dag-run-conf"), dest="conf", help="JSON for the runs' conf"),
        *_how_args(),
        cli.ARG_VERBOSE,
        # Understood, not advertised.
        *(_flag(flags, SUPPRESS) for flags in (*IGNORED_FLAGS, *REFUSED_FLAGS)),
        *(arg(flags, help=SUPPRESS) for flags in (*IGNORED_OPTIONS, *REFUSED_OPTIONS)),
    )


def _how_args() -> tuple[Arg, ...]:
    cli = _cli()
    arg = cli.Arg
    return (
        arg(
            ("--reprocess-behavior",),
            choices=("none", "failed", "completed"),
            help="Which existing runs of an interval run again: none (default), failed ones, or "
            "every one that has ended",
        ),
        _flag(("--rerun-failed-tasks",), "The same as --reprocess-behavior failed"),
        _flag(("--reset-dagruns",), "The same as --reprocess-behavior completed"),
        arg(
            ("--max-active-runs",),
            type=cli.positive_int(allow_zero=False),
            help="Runs at the same time; default: the Dag's max_active_runs",
        ),
        _flag(("-B", "--run-backwards"), "Latest interval first"),
        _flag(("-n", "--dry-run"), "Only say which intervals would run"),
        _flag(
            ("--wait",),
            "Wait for every run and the backfill to end; exit code 1 if one failed",
        ),
    )


def _flag(flags: tuple[str, ...], text: str) -> Arg:
    flag: Arg = _cli().Arg(flags, help=text, action="store_true")
    return flag


def _cli() -> Any:  # its constructors carry no types
    return importlib.import_module("airflow.cli.cli_config")
