"""What a run costs after 1 % of a large table has changed, beside the initial load: `make bench`.

A table of a real PostgreSQL server is loaded once and then read again by each strategy, after some
of its rows have moved on: to bronze and the stored watermark, then silver and gold (SCD type 2) by
Spark on this machine. To start Java and Spark takes as long whatever the rows are, so that it is
measured by itself; the first changes also pay for what Java has to learn, the last are what a
machine that is up takes. In the end one row is changed: what that costs, a run costs whatever the
rows are.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
from postgres import server

from tidemark.ingest import TableJob, advance_watermark, copy_to_bronze, lookup_watermark
from tidemark.layout import Lake
from tidemark.metadata import Source, load_source
from tidemark.rebuild_command import spark_job
from tidemark.settings import Settings, load_settings
from tidemark.spark_conf import conf_for, job_variables, small_job
from tidemark.storage import open_store
from tidemark.warm_spark import end as end_machine
from tidemark.warm_spark import run_job

_Seconds = dict[str, float]

_YAML = """
source: {{connection: bench}}
tables:
  wide:
    {{schema: public, key: id, cursor: changed_at, strategy: {strategy}, gold: {{scd: 2}}}}
"""
_CREATE = """
DROP TABLE IF EXISTS wide;
CREATE TABLE wide (
  id bigint PRIMARY KEY, a int, b bigint, price numeric(10, 2), ratio double precision,
  name text, city text, born date, active boolean, changed_at timestamptz NOT NULL);
INSERT INTO wide SELECT i, i % 97, i * 1000003, (i % 100000) / 100.0, i / 7.0, 'name ' || i,
  CASE i % 3 WHEN 0 THEN NULL ELSE 'city ' || (i % 500) END,
  date '2000-01-01' + (i % 9000)::int, i % 2 = 1,
  timestamptz '2025-01-01 UTC' + i * interval '1 second'
  FROM generate_series(1::bigint, {rows}) AS i;
CREATE INDEX ON wide (changed_at);
ANALYZE wide
"""
_CHANGE = """
UPDATE wide SET a = a + 1, changed_at = timestamptz '2026-06-0{round} UTC' + id * interval '1 ms'
WHERE {which}
"""
_STRATEGIES = ("watermark", "snapshot")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--strategy", action="append", choices=_STRATEGIES, default=[])
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 9), help="of changes")
    args = parser.parse_args()
    print(
        f"PostgreSQL, {args.rows:,} rows x 10 columns, 1 % changed, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    with server() as url:
        for strategy in args.strategy or _STRATEGIES:
            print(strategy)
            start, initial, *later, one = _measure(url, strategy, args.rows, args.rounds)
            for number, changes in enumerate(later, 1):
                _print_ratios(f"changes {number} / initial load", start, initial, changes)
            _print_ratios("one row / initial load", start, initial, one)


def _print_ratios(title: str, start: float, initial: _Seconds, later: _Seconds) -> None:
    whole, part = sum(initial.values()), sum(later.values())
    each = ", ".join(f"{step} {later[step] / initial[step]:.3f}" for step in initial)
    print(f"  {title}: {each}, whole run {part / whole:.3f}")
    print(f"    with Spark's start in both: {(start + part) / (start + whole):.3f}", flush=True)


def _measure(
    url: str, strategy: str, rows: int, rounds: int
) -> tuple[float, *tuple[_Seconds, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        _execute(url, _CREATE.format(rows=rows))
        path = Path(folder) / "bench.yaml"
        path.write_text(_YAML.format(strategy=strategy))
        source, settings = load_source(path), load_settings()
        start = _timed(lambda: _start_spark(settings))
        print(f"  Spark's start {start:.1f} s", flush=True)
        runs = [_run(url, source, folder, rows)]
        for number in range(1, rounds + 1):
            _execute(url, _CHANGE.format(round=number, which=f"id % 100 = {number}"))
            runs.append(_run(url, source, folder, rows // 100))
        _execute(url, _CHANGE.format(round=rounds + 1, which="id = 1"))
        runs.append(_run(url, source, folder, 1))
        return start, *runs


def _start_spark(settings: Settings) -> None:
    end_machine(settings.warm_spark_folder)
    master = "local[*]"
    conf = conf_for(master) | {"spark.master": master}
    variables = os.environ | job_variables(os.environ, master)
    if run_job([small_job()], conf, variables, settings.warm_spark_folder, print):
        message = "Spark does not start"
        raise SystemExit(message)


def _execute(url: str, statements: str) -> None:
    with psycopg.connect(url) as connection:
        for statement in statements.split(";"):
            connection.execute(statement.encode())


def _run(url: str, source: Source, folder: str, wanted: int) -> _Seconds:
    lake = Lake(f"{folder}/lake")
    job = TableJob(open_store(lake.root), lake, source.tables["wide"], "bench", url)
    layer = spark_job(replace(load_settings(), lake=lake), source, "local[*]")
    seconds = {
        "bronze": _timed(lambda: _copy(job, wanted)),
        "silver": _timed(lambda: layer("silver", lake, ["wide"])),
        "gold": _timed(lambda: layer("gold", lake, ["wide"])),
    }
    steps = ", ".join(f"{step} {taken:.1f} s" for step, taken in seconds.items())
    print(f"  {wanted:>9,} rows: {steps}", flush=True)
    return seconds


def _copy(job: TableJob, wanted: int) -> None:
    copied = copy_to_bronze(job, lookup_watermark(job))
    advance_watermark(job, copied)
    if copied["rows"] != wanted:
        message = f"{copied['rows']} rows published, {wanted} expected"
        raise SystemExit(message)


def _timed(step: Callable[[], None]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
