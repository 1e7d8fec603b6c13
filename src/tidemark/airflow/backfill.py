"""``airflow dags backfill``, which Airflow 3 removed: ``airflow backfill create`` in its form."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from time import monotonic, sleep
from typing import Any, NoReturn

from airflow import settings as airflow_settings
from airflow.api_fastapi.common.dagbag import resolve_run_on_latest_version
from airflow.configuration import conf as airflow_conf
from airflow.jobs.job import most_recent_job
from airflow.models import DagModel, DagRun
from airflow.models.backfill import (
    AlreadyRunningBackfill,
    Backfill,
    DagNonPeriodicScheduleException,
    NoBackfillRunsToCreate,
    ReprocessBehavior,
    _create_backfill,
    _do_dry_run,
)
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk.exceptions import AirflowException
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.timetables.base import DagRunInfo
from airflow.utils import cli as cli_utils
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import Connection, event, func, select

from tidemark.airflow import provider
from tidemark.suggestions import did_you_mean

_POLL_SECONDS = 2.0
_CLOSE_SECONDS = 90.0
_LISTED = 40
_ENDED = (DagRunState.SUCCESS, DagRunState.FAILED)


@cli_utils.action_cli  # type: ignore[untyped-decorator]
def backfill(args: Namespace) -> None:
    """Create a backfill of a Dag, say what it will run, and wait for it if asked to.

    Raises:
        SystemExit: With the reason, if nothing can be created; with 1 if ``--wait`` saw a run fail.
    """
    for note in _notes(vars(args)):
        _say(note)
    if args.end_date < args.start_date:
        _fail(f"--end-date {_moment(args.end_date)} is before --start-date; swap them")
    reprocess, conf = _reprocess(args), _conf(args)
    dag = _dag(args.dag_id)
    _check_tables(dag, conf)
    backfill_id = None
    with _explained(args):
        infos = _infos(args, reprocess, conf)
        if infos and not args.dry_run:
            backfill_id = _create(args, dag, reprocess, conf)
    if not infos:
        _nothing(args, dag)
    elif backfill_id is None:
        _describe(f"dry run: {args.dag_id} would run", infos)
    else:
        _describe(f"backfill {backfill_id} of {args.dag_id} will run", infos)
        _say(*_how_to_watch(args.dag_id))
        if args.wait:
            _wait(backfill_id)


@contextlib.contextmanager
def _explained(args: Namespace) -> Iterator[None]:
    """End the command with what to do when Airflow refuses."""
    try:
        yield
    except DagNonPeriodicScheduleException:
        span = {"from_date": _day(args.start_date), "to_date": _day(args.end_date)}
        _fail(
            f"{args.dag_id} has no schedule, so no intervals; read a span of time in one run: "
            f"airflow dags trigger {args.dag_id} --conf '{json.dumps(span)}'"
        )
    except AlreadyRunningBackfill as error:
        _fail(f"{error} Wait for it, or cancel it at {_page(args.dag_id)}")
    except (AirflowException, NoBackfillRunsToCreate) as error:
        _fail(str(error))


def _notes(given: Mapping[str, Any]) -> list[str]:
    """Say what Airflow 2's flags mean now.

    Raises:
        SystemExit: A flag asks for what can't be done.
    """
    for flags, remedy in (provider.REFUSED_FLAGS | provider.REFUSED_OPTIONS).items():
        if given.get(_dest(flags)):
            _fail(f"{flags[-1]} is not possible any more; {remedy}")
    ignored = provider.IGNORED_FLAGS | provider.IGNORED_OPTIONS
    return [f"{f[-1]}: without effect, {why}" for f, why in ignored.items() if given.get(_dest(f))]


def _dest(flags: tuple[str, ...]) -> str:
    # As argparse names the value: by the first long flag.
    return next(f for f in flags if f.startswith("--")).lstrip("-").replace("-", "_")


def _reprocess(args: Namespace) -> ReprocessBehavior:
    asked = {
        name
        for name, given in (
            (args.reprocess_behavior, args.reprocess_behavior is not None),
            ("failed", args.rerun_failed_tasks),
            ("completed", args.reset_dagruns),
        )
        if given
    }
    if len(asked) > 1:
        _fail(f"the flags ask for both {' and '.join(sorted(asked))} runs again; give one of them")
    return ReprocessBehavior(asked.pop() if asked else "none")


def _conf(args: Namespace) -> dict[str, Any] | None:
    try:
        conf = json.loads(args.conf) if args.conf else {}
    except ValueError as error:
        _fail(f"--conf {args.conf!r} is no JSON: {error}")
    if not isinstance(conf, dict):
        _fail(f"--conf {args.conf!r} is no JSON object; write for example '{{\"tables\": []}}'")
    if args.tables:
        conf["tables"] = [name.strip() for name in args.tables.split(",") if name.strip()]
    return conf or None


def _check_tables(dag: SerializedDAG, conf: Mapping[str, Any] | None) -> None:
    """Refuse a misspelt table now: the runs would only fail on it."""
    param = dag.params.get_param("tables") if "tables" in dag.params else None
    schema: Mapping[str, list[str]] = param.schema if param else {}
    names = schema.get("examples") or []
    allowed = [*names, *(schema.get("lake_names") or [])]
    asked = (conf or {}).get("tables")
    for name in asked if isinstance(asked, list) else []:
        if allowed and name not in allowed:
            _fail(
                f"{dag.dag_id} has no table {name!r}{did_you_mean(name, allowed)}; "
                f"its tables are: {', '.join(names)}"
            )


def _dag(dag_id: str) -> SerializedDAG:
    """Load a Dag as the scheduler knows it; one that it has not seen yet is brought to it."""
    found = _serialized(dag_id)
    if found is None:
        _say(f"{dag_id}: not in Airflow's database yet; reading the Dag files …")
        # Imported when needed: it warns of a missing graphviz.
        from airflow.cli.commands.dag_command import dag_reserialize  # noqa: PLC0415

        dag_reserialize(Namespace(bundle_name=None))
        found = _serialized(dag_id)
    if found is None:
        with create_session() as session:
            names = session.scalars(select(DagModel.dag_id)).all()
        _fail(
            f"there is no Dag {dag_id!r}{did_you_mean(dag_id, names)}; the Dags are: "
            f"{', '.join(sorted(names)) or 'none'} (errors: airflow dags list-import-errors)"
        )
    return found


def _serialized(dag_id: str) -> SerializedDAG | None:
    with create_session() as session:
        return SerializedDagModel.get_dag(dag_id, session=session)


def _infos(
    args: Namespace, reprocess: ReprocessBehavior, conf: dict[str, Any] | None
) -> list[DagRunInfo]:
    """List the runs that Airflow would create: whole intervals, and those not run already."""
    with create_session() as session:
        found = _do_dry_run(
            dag_id=args.dag_id,
            from_date=args.start_date,
            to_date=args.end_date,
            reverse=args.run_backwards,
            reprocess_behavior=reprocess,
            dag_run_conf=conf,
            session=session,
        )
        return list(found)


def _create(
    args: Namespace, dag: SerializedDAG, reprocess: ReprocessBehavior, conf: dict[str, Any] | None
) -> int:
    with create_session() as session:
        latest = resolve_run_on_latest_version(None, args.dag_id, session, fallback=True)
    with _sqlite_waits():
        created = _create_backfill(
            dag_id=args.dag_id,
            from_date=args.start_date,
            to_date=args.end_date,
            max_active_runs=args.max_active_runs or dag.max_active_runs,
            reverse=args.run_backwards,
            dag_run_conf=conf,
            triggering_user_name=getuser(),
            reprocess_behavior=reprocess,
            run_on_latest_version=latest,
        )
    return int(created.id)


@contextlib.contextmanager
def _sqlite_waits() -> Iterator[None]:
    """Let SQLite wait for the scheduler's writes instead of failing on them.

    Airflow reads, then writes in the same transaction; if somebody else has written in between,
    SQLite answers "database is locked" at once, however long the timeout. A transaction that says
    at its beginning that it will write waits its turn.
    """
    engine = airflow_settings.get_engine()  # type: ignore[no-untyped-call]
    if engine.dialect.name != "sqlite":
        yield
        return
    event.listen(engine, "begin", _begin_immediate)
    try:
        yield
    finally:
        event.remove(engine, "begin", _begin_immediate)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _nothing(args: Namespace, dag: SerializedDAG) -> None:
    """Say why there is nothing to run: all of it has run, or no interval begins in the span."""
    if any(dag.iter_dagrun_infos_between(args.start_date, args.end_date)):
        _say(
            f"nothing to run: each interval of {args.dag_id} has a run, or has not ended yet; "
            "--reprocess-behavior completed runs them again"
        )
        return
    _fail(
        f"no data interval of {args.dag_id} begins between {_moment(args.start_date)} and "
        f"{_moment(args.end_date)} (both included)"
    )


def _describe(title: str, infos: list[DagRunInfo]) -> None:
    _say(f"{title} {len(infos)} data interval{'s' if len(infos) > 1 else ''}:")
    shown = infos if len(infos) <= _LISTED else [*infos[: _LISTED - 1], infos[-1]]
    for info in shown:
        if info is infos[-1] and len(shown) < len(infos):
            _say(f"  … {len(infos) - len(shown)} more …")
        start, end = info.data_interval or (info.run_after, info.run_after)
        _say(f"  {_moment(start)} to {_moment(end)}")


def _how_to_watch(dag_id: str) -> list[str]:
    with create_session() as session:
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id))
    lines = []
    if not _has_scheduler():
        lines.append("no scheduler is running: the runs wait for one (make ui, airflow scheduler)")
    if paused:
        lines.append(f"{dag_id} is paused: the runs wait until `airflow dags unpause {dag_id}`")
    return [*lines, f"watch: airflow dags list-runs {dag_id}, or {_page(dag_id)}"]


def _page(dag_id: str) -> str:
    base = airflow_conf.get("api", "base_url", fallback=None) or "http://localhost:8080"
    return f"{base.rstrip('/')}/dags/{dag_id}/backfills"


def _wait(backfill_id: int) -> None:
    """Print each change of the runs' states until all have ended, and the backfill with them.

    Raises:
        SystemExit: With 1 if a run failed.
    """
    shown = ""
    while True:
        states = _states(backfill_id)
        line = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        if line != shown:
            _say(f"  {line}")
            shown = line
        if all(state in _ENDED for state in states):
            break
        sleep(_POLL_SECONDS)
    if states[DagRunState.FAILED]:
        _fail(f"backfill {backfill_id}: {states[DagRunState.FAILED]} runs failed; see their mails")
    _wait_for_its_close(backfill_id)


def _wait_for_its_close(backfill_id: int) -> None:
    """Wait until the scheduler has closed the backfill: until then it refuses the Dag's next one.

    It looks every 30 s; where none runs any more, nothing is waited for.
    """
    deadline = monotonic() + (_CLOSE_SECONDS if _has_scheduler() else 0.0)
    while not _is_closed(backfill_id):
        if monotonic() >= deadline:
            _say(
                f"  backfill {backfill_id} is not closed yet: a running scheduler does it within "
                "half a minute, and refuses the Dag's next backfill until then"
            )
            return
        sleep(_POLL_SECONDS)


def _is_closed(backfill_id: int) -> bool:
    with create_session() as session:
        closed = select(Backfill.completed_at).where(Backfill.id == backfill_id)
        return session.scalar(closed) is not None


def _has_scheduler() -> bool:
    with create_session() as session:
        scheduler = most_recent_job("SchedulerJob", session=session)
        return scheduler is not None and scheduler.is_alive()


def _states(backfill_id: int) -> Counter[str]:
    with create_session() as session:
        rows = session.execute(
            select(DagRun.state, func.count())
            .where(DagRun.backfill_id == backfill_id)
            .group_by(DagRun.state)
        ).all()
    return Counter({str(state): count for state, count in rows})


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M %Z}"


def _day(value: datetime) -> str:
    return f"{value:%Y-%m-%d}"


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _fail(message: str) -> NoReturn:
    raise SystemExit(message)
