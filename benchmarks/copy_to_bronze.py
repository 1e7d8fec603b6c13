"""What `copy_to_bronze` costs beside the bare loop: `make bench`.

Both read the same SQLite table in batches and write Parquet (snappy). The bare loop keeps the
database's values as they come and does nothing else: no window, no digest, no types checked, no
file published. The ratio of the two is what counts: it is taken in one run, several times.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tidemark.ingest import TableJob, advance_watermark, copy_to_bronze, lookup_watermark
from tidemark.layout import Lake
from tidemark.metadata import Table, load_source
from tidemark.storage import open_store

_BATCH = 50_000
_YAML = """
source: {connection: bench}
tables:
  Wide: {key: id, cursor: changed_at}
"""
CREATE = """
CREATE TABLE Wide (
  id INTEGER PRIMARY KEY, a INTEGER, b BIGINT, price DECIMAL(10, 2), ratio DOUBLE,
  name TEXT, city TEXT, born DATE, active BOOLEAN, changed_at DATETIME)
"""
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
INSERT INTO Wide SELECT i, i % 97, i * 1000003, (i % 100000) / 100.0, i / 7.0, 'name ' || i,
  CASE i % 3 WHEN 0 THEN NULL ELSE 'city ' || (i % 500) END,
  date('2000-01-01', (i % 9000) || ' days'), i % 2,
  datetime('2025-01-01', (i % 30000000) || ' seconds') FROM n
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "bench.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(CREATE)
            connection.execute(FILL, {"rows": args.rows})
        table = _table(Path(folder))
        ratios = []
        for number in range(args.repeats):
            bare = _timed(lambda: _bare(database, Path(folder) / "bare.parquet"))
            ours = _timed(lambda n=number: _copy(database, Path(folder) / f"lake{n}", table))
            ratios.append(ours / bare)
            print(
                f"bare loop {bare:6.2f} s   copy_to_bronze {ours:6.2f} s   ratio {ours / bare:.2f}"
            )
    print(
        f"{args.rows:,} rows x 10 columns, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}: ratio {statistics.median(ratios):.2f} (median of "
        f"{args.repeats}, {min(ratios):.2f} to {max(ratios):.2f})"
    )


def _table(folder: Path) -> Table:
    path = folder / "bench.yaml"
    path.write_text(_YAML)
    return load_source(path).tables["Wide"]


def _bare(database: Path, file: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        cursor = connection.execute("SELECT * FROM Wide")
        names = [column[0] for column in cursor.description]
        writer = None
        while rows := cursor.fetchmany(_BATCH):
            batch = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
            writer = writer or pq.ParquetWriter(file, batch.schema, compression="snappy")
            writer.write_table(batch)
        if writer:
            writer.close()


def _copy(database: Path, lake: Path, table: Table) -> None:
    store = open_store(str(lake))
    job = TableJob(store, Lake(str(lake)), table, "bench", f"sqlite:///{database}")
    advance_watermark(job, copy_to_bronze(job, lookup_watermark(job)))


def _timed(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
