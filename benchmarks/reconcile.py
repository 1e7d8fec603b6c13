"""What it costs to compare a large table with the lake, row by row: `make bench reconcile`.

A table of a real PostgreSQL server is copied to bronze, then rows are changed behind the copy's
back. A process of its own compares the source with bronze, as before a cut-over from ADF: every row
is digested on both sides, and what differs is found by key. A lake with silver is compared too:
there the digests stand in the table already. The peak of memory is that of the whole process, and
beside it stands that of the same comparison of a hundredth of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from bench_table import STATEMENTS
from deltalake import write_deltalake
from postgres import server

from tidemark.ingest import TableJob, advance_watermark, copy_to_bronze, lookup_watermark
from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.pending import bronze_snapshot, mark_silver_done
from tidemark.reconcile import Options, reconcile_table
from tidemark.storage import open_store

_YAML = """
source: {connection: bench}
tables:
  wide: {schema: bench, key: id, cursor: changed_at, strategy: watermark}
"""
_LEAST_ROWS = 200  # of a hundredth of which a row of each kind differs
_BEHIND = """
UPDATE bench.wide SET a = a + 1 WHERE id % 1000 = 1;
DELETE FROM bench.wide WHERE id % 1000 = 2;
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--compare", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rows < _LEAST_ROWS:
        parser.error(f"--rows {args.rows}: {_LEAST_ROWS:,} is the least, as 2 of 1,000 differ")
    if args.compare:
        _compare(**json.load(sys.stdin))
        return
    print(
        f"PostgreSQL, rows of 10 columns, 2 of 1,000 differ, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    with server() as url:
        for rows in (args.rows // 100, args.rows):
            with tempfile.TemporaryDirectory() as folder:
                _measure(url, folder, rows)


def _measure(url: str, folder: str, rows: int) -> None:
    statements = STATEMENTS["postgresql"].format(schema="bench", rows=rows)
    _execute(url, f"DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench; {statements}")
    Path(folder, "bench.yaml").write_text(_YAML)
    job = _job(url, folder)
    copied = copy_to_bronze(job, lookup_watermark(job))
    advance_watermark(job, copied)
    _execute(url, _BEHIND)
    wanted = {"different": len(range(1, rows + 1, 1000)), "extra": len(range(2, rows + 1, 1000))}
    for against in ("bronze", "silver"):
        if against == "silver":
            _write_silver(job)
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, __file__, "--compare"],
            input=json.dumps({"url": url, "folder": folder}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        if found["counts"] != wanted:
            message = f"{found['counts']} were found, {wanted} are wanted"
            raise SystemExit(message)
        print(
            f"  {rows:>10,} rows against {against}: {found['seconds']:6.1f} s, "
            f"{rows / found['seconds']:>9,.0f} rows/s, peak {found['megabytes']:,} MB",
            flush=True,
        )


def _compare(url: str, folder: str) -> None:
    begin = time.perf_counter()
    result = reconcile_table(_job(url, folder), Options())
    found = {
        "seconds": time.perf_counter() - begin,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "counts": {name: count for name, count in result.counts.items() if count},
    }
    print(json.dumps(found))


def _job(url: str, folder: str) -> TableJob:
    lake = Lake(f"{folder}/lake")
    table = load_source(Path(folder, "bench.yaml")).tables["wide"]
    return TableJob(open_store(lake.root), lake, table, "bench", url)


def _write_silver(job: TableJob) -> None:
    """Write silver as the first run of the silver job would, without Spark."""
    name = job.table.lake_name
    snapshot = bronze_snapshot(job.store, job.lake, name)
    files = sorted(Path(job.lake.root, job.lake.bronze_folder(name)).glob("*.parquet"))

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            yield from pq.ParquetFile(file).iter_batches()

    reader = pa.RecordBatchReader.from_batches(pq.read_schema(files[0]), batches())
    write_deltalake(job.lake.url(job.lake.silver(name)), reader)
    mark_silver_done(job.store, job.lake, name, snapshot)


def _execute(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in filter(str.strip, statements.split(";")):
            connection.execute(statement.encode())


if __name__ == "__main__":
    main()
