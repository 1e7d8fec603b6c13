"""What a run costs after 1 % of a large table has changed, beside the initial load: `make bench`.

A table of a real PostgreSQL server is loaded once and then read again by each strategy, after some
of its rows have moved on: to bronze and the stored watermark, then silver and gold (SCD type 2) by
Spark on this machine, whose Java is started anew for each run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from postgres import server

from tidemark.ingest import TableJob, advance_watermark, copy_to_bronze, lookup_watermark
from tidemark.layout import Lake
from tidemark.metadata import Source, load_source
from tidemark.rebuild_command import spark_job
from tidemark.settings import load_settings
from tidemark.storage import open_store
from tidemark.warm_spark import end as end_machine

_YAML = """
source: {{connection: bench}}
tables:
  wide:
    {{schema: public, key: id, cursor: changed_at, strategy: {strategy}, gold: {{scd: 2}}}}
"""
_STEPS = ("bronze", "silver", "gold")
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
UPDATE wide SET a = a + 1, changed_at = timestamptz '2026-06-01 UTC' + id * interval '1 ms'
WHERE id % 100 = 7
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(
        f"PostgreSQL, {args.rows:,} rows x 10 columns, 1 % changed, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    with server() as url:
        for strategy in ("watermark", "snapshot"):
            both = [_measure(url, strategy, args.rows) for _ in range(args.repeats)]
            for step in (*_STEPS, "whole run"):
                _print_ratio(
                    f"{strategy} {step}", [later[step] / first[step] for first, later in both]
                )


def _print_ratio(title: str, ratios: list[float]) -> None:
    print(
        f"{title:<20} incremental / initial {statistics.median(ratios):.3f} (median of "
        f"{len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f})",
        flush=True,
    )


def _measure(url: str, strategy: str, rows: int) -> tuple[dict[str, float], dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        _execute(url, _CREATE.format(rows=rows))
        path = Path(folder) / "bench.yaml"
        path.write_text(_YAML.format(strategy=strategy))
        source = load_source(path)
        initial = _run(url, source, folder, rows)
        _execute(url, _CHANGE)
        return initial, _run(url, source, folder, rows // 100)


def _execute(url: str, statements: str) -> None:
    with psycopg.connect(url) as connection:
        for statement in statements.split(";"):
            connection.execute(statement.encode())


def _run(url: str, source: Source, folder: str, wanted: int) -> dict[str, float]:
    lake = Lake(f"{folder}/lake")
    job = TableJob(open_store(lake.root), lake, source.tables["wide"], "bench", url)
    settings = load_settings()
    end_machine(settings.warm_spark_folder)  # each run starts Spark itself
    layer = spark_job(settings, source, "local[*]")
    seconds = {
        "bronze": _timed(lambda: _copy(job, wanted)),
        "silver": _timed(lambda: layer("silver", lake, ["wide"])),
        "gold": _timed(lambda: layer("gold", lake, ["wide"])),
    }
    print(f"  {wanted:>9,} rows", *(f"{step} {taken:.1f} s" for step, taken in seconds.items()))
    return seconds | {"whole run": sum(seconds.values())}


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
