"""The command line: ``tidemark <command>``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from tidemark import (
    maintain_command,
    rebuild_command,
    replay_command,
    sample,
    stream_command,
)
from tidemark.errors import ConfigError, TidemarkError
from tidemark.metadata import config_digest, load_all, rule_notes
from tidemark.settings import Settings, load_settings
from tidemark.time_travel import moment_of

_DESCRIPTION = """Metadata-driven ingestion: source database → bronze → silver → gold, in Airflow.

A first look:          make demo
Your own tables:       tidemark init <connection>, then `tidemark plan`
Airflow with this home: eval "$(tidemark env)", then any `airflow` command
"""
_ENVIRONMENT = """environment:
  TIDEMARK_HOME    Airflow's home, the local lake, the sample source (default .tidemark)
  TIDEMARK_CONFIG  the folder of the metadata files (default config)
  TIDEMARK_LAKE    the lake's root (default $TIDEMARK_HOME/lake)
  TIDEMARK_LAKE_CONNECTION  the Airflow connection that opens a lake in Azure
"""
_INIT = """\
Look at a database's catalog and write config/<name>.yaml: of each table its key, how its changes
are found, and why; what can't be ingested stands there as a comment that says what to do.

  tidemark init shop_sql                         all tables of the login's own schema
  tidemark init shop_sql --schema sales --name sales --table OrderLine --table Product
  tidemark init shop_sql --from-adf loop_input.json   the tables of a Data Factory pipeline
  tidemark init shop_sql --dry-run               print it, and write nothing

The connection is Airflow's: `airflow connections add …`, or AIRFLOW_CONN_<ID>; docs/connections.md.
The source is only read; the file holds no password. A file that is there is never overwritten.
"""
_RECONCILE_CODES = """exit codes:
  0  the lake is equal to its source, as far as the last read came;
     with --repair: all that differs is in bronze, and waits for the Dag's next run
  1  an error: a table could not be compared or repaired
  2  there are differences

example: tidemark reconcile spotify --table DimUser --repair --dry-run
"""
Command = Callable[[argparse.Namespace, Settings], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0, or 1 after an error, which is printed.
    """
    try:
        parsed = _parser().parse_args(arguments)
    except SystemExit as ended:  # with 2 for words that it does not know, which is a result here
        raise SystemExit(1 if ended.code else 0) from None
    command: Command = parsed.command
    try:
        return command(parsed, load_settings())
    except TidemarkError as error:
        print(f"tidemark: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `tidemark show … | head`: the reader has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidemark",
        description=_DESCRIPTION,
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="<command>")
    validate = commands.add_parser("validate", help="check every file of metadata")
    validate.set_defaults(command=_validate)
    digest = commands.add_parser(
        "digest", help="print the digest of config/, for `databricks bundle`"
    )
    digest.set_defaults(command=_digest)
    _add_sample(commands)
    env = commands.add_parser("env", help="print the exports that make `airflow` use this home")
    env.set_defaults(command=_env)
    _add_show(commands)
    _add_layers(commands)
    _add_init(commands)
    _add_plan(commands)
    _add_reconcile(commands)
    demo = commands.add_parser("demo", help="three runs of the sample")
    demo.set_defaults(command=_demo)
    ui = commands.add_parser("ui", help="Airflow's UI on localhost, with this home")
    ui.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    ui.set_defaults(command=_ui)
    return parser


def _add_layers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rebuild = commands.add_parser("rebuild", help="build silver and gold anew from bronze")
    rebuild_command.add_arguments(rebuild)
    rebuild.set_defaults(command=rebuild_command.run)
    replay = commands.add_parser("replay", help="files in quarantine, into silver")
    replay_command.add_arguments(replay)
    replay.set_defaults(command=replay_command.run)
    maintain = commands.add_parser("maintain", help="put small files together, remove old ones")
    maintain_command.add_arguments(maintain)
    maintain.set_defaults(command=maintain_command.run)
    stream = commands.add_parser("stream", help="silver of the continuous tables, without end")
    stream_command.add_arguments(stream)
    stream.set_defaults(command=stream_command.run)


def _add_sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    source = commands.add_parser(
        "sample",
        help="write the sample source, or change it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sample.add_arguments(source)
    source.set_defaults(command=lambda arguments, settings: sample.run(arguments, settings.home))


def _add_show(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    show = commands.add_parser(
        "show",
        help="read a lake table, without Spark",
        epilog='example: tidemark show dim_user --where "user_id = 7" --columns user_name,country',
    )
    show.add_argument("table", nargs="?", help="its name; without one, the tables are listed")
    show.add_argument("--where", metavar="SQL", help='a condition, such as "user_id = 7"')
    show.add_argument("--columns", metavar="A,B", default="", help="default: all of the source's")
    show.add_argument(
        "--limit", type=int, default=20, help="rows at the most (default: 20; 0: all)"
    )
    show.add_argument("--internal", action="store_true", help="Tidemark's own columns (_…) too")
    show.add_argument("--csv", action="store_true", help="CSV instead of a table")
    when = show.add_mutually_exclusive_group()
    when.add_argument(
        "--version", type=int, metavar="N", help="the table as it was in this version of Delta's"
    )
    when.add_argument(
        "--timestamp",
        type=_moment,
        metavar="T",
        help='or as it was at a moment, such as "2026-01-31 08:00" (UTC without a zone)',
    )
    show.set_defaults(command=_show)


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = commands.add_parser(
        "init",
        help="write a first config from a database's catalog, or from ADF's list of tables",
        description=_INIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    init.add_argument("connection", help="the Airflow connection's id, such as spotify_sql")
    init.add_argument("--name", help="the file's stem (default: from the connection's id)")
    what = init.add_mutually_exclusive_group()
    what.add_argument("--schema", help="default: the login's own, such as dbo or public")
    what.add_argument(
        "--from-adf", type=Path, metavar="FILE", help="the tables of ADF's loop_input.json"
    )
    init.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="only this one; repeatable"
    )
    init.add_argument("--views", action="store_true", help="views too")
    init.add_argument("--dry-run", action="store_true", help="print the config, write nothing")
    init.set_defaults(command=_init)


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    plan = commands.add_parser(
        "plan",
        help="show what the next run would read, and how; nothing is written",
        description="Show of each table: its strategy and why, the window, the SQL, how many rows "
        "it gives now, what the strategy cannot see, and the columns whose type loses something. "
        "Nothing is written. Exit code 1: a table could not be planned.",
        epilog="example: tidemark plan spotify --table DimUser",
    )
    _add_source(plan)
    plan.set_defaults(command=_plan)


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", help="its file's stem in config/, such as spotify")
    command.add_argument(
        "--table", action="append", default=[], metavar="NAME", help="only this one; repeatable"
    )
    command.add_argument("--json", action="store_true", help="JSON instead of text")


def _add_reconcile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reconcile = commands.add_parser(
        "reconcile",
        help="compare a source with its lake, and mend what differs",
        description="Compare the source's rows with silver (or, where there is no silver, with the "
        "newest bronze row of each key: a lake that ADF wrote), by key and digest, without Spark.",
        epilog=_RECONCILE_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source(reconcile)
    reconcile.add_argument(
        "--deep",
        action="store_true",
        help="do not trust the digests that rows carry: digest bronze's newest rows anew",
    )
    reconcile.add_argument(
        "--repair", action="store_true", help="read the rows that differ again, into bronze"
    )
    reconcile.add_argument(
        "--dry-run", action="store_true", help="with --repair: only say what would be written"
    )
    reconcile.set_defaults(command=_reconcile)


def _digest(arguments: argparse.Namespace, settings: Settings) -> int:
    del arguments
    print(config_digest(settings.config))
    return 0


def _validate(arguments: argparse.Namespace, settings: Settings) -> int:
    del arguments
    loaded = load_all(settings.config, settings.rules_folder)
    for name, source in loaded.items():
        if isinstance(source, ConfigError):
            print(source, file=sys.stderr)
            continue
        print(f"{name}: {len(source.tables)} tables, good")
        for note in rule_notes(source, settings.rules_folder):
            print(f"{name}: note: {note}")
    if not loaded:
        raise ConfigError(
            f"{settings.config}: holds no *.yaml; `tidemark init <connection>` writes a first one"
        )
    broken = [name for name, source in loaded.items() if isinstance(source, ConfigError)]
    return 1 if broken else 0


def _env(arguments: argparse.Namespace, settings: Settings) -> int:
    del arguments
    from tidemark.home import environment, is_prepared, prepare  # noqa: PLC0415  # quick --help

    if not is_prepared(settings):
        print(f"preparing Airflow's database in {settings.home} (once)", file=sys.stderr)
        prepare(settings)
    for name, value in environment(settings).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _moment(text: str) -> datetime:
    try:
        return moment_of(text)
    except ValueError:
        message = f"{text!r} is no moment; write it like 2026-01-31 or 2026-01-31T08:00:00+01:00"
        raise argparse.ArgumentTypeError(message) from None


def _show(arguments: argparse.Namespace, settings: Settings) -> int:
    from tidemark.show import show  # noqa: PLC0415  # polars is needed here alone

    return show(arguments, settings.lake)


def _init(arguments: argparse.Namespace, settings: Settings) -> int:
    from tidemark.init.command import run  # noqa: PLC0415  # as above

    return run(arguments, settings)


def _plan(arguments: argparse.Namespace, settings: Settings) -> int:
    from tidemark.plan import run  # noqa: PLC0415  # as above

    return run(arguments, settings)


def _reconcile(arguments: argparse.Namespace, settings: Settings) -> int:
    from tidemark.reconcile.command import run  # noqa: PLC0415  # as above

    return run(arguments, settings)


def _demo(arguments: argparse.Namespace, settings: Settings) -> int:
    del arguments
    from tidemark.demo import run_demo  # noqa: PLC0415  # as above

    return run_demo(settings)


def _ui(arguments: argparse.Namespace, settings: Settings) -> int:
    from tidemark.ui import run_ui  # noqa: PLC0415  # as above

    return run_ui(settings, arguments.port)


if __name__ == "__main__":
    sys.exit(main())
