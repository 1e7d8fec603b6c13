"""What a run costs after 1 % of a large table has changed, beside the initial load: `make bench`.

The same SQLite table is loaded once and then read again by each strategy, after some of its rows
have moved on. What follows bronze is proportional to the rows published.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

from copy_to_bronze import CREATE, FILL

from tidemark.ingest import TableJob, advance_watermark, copy_to_bronze, lookup_watermark
from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.storage import open_store

_YAML = """
source: {{connection: bench}}
tables:
  Wide: {{key: id, cursor: changed_at, strategy: {strategy}}}
"""
_CHANGE = """
UPDATE Wide SET a = a + 1, changed_at = datetime('2026-01-01', (id % 86400) || ' seconds')
WHERE id % 100 = :part
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(
        f"{args.rows:,} rows x 10 columns, 1 % changed, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    for strategy in ("watermark", "snapshot"):
        ratios = [_measure(strategy, args.rows) for _ in range(args.repeats)]
        print(
            f"{strategy:<10} incremental / initial {statistics.median(ratios):.3f} (median of "
            f"{args.repeats}, {min(ratios):.3f} to {max(ratios):.3f})"
        )


def _measure(strategy: str, rows: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "bench.db"
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(CREATE)
            connection.execute("CREATE INDEX by_change ON Wide (changed_at)")
            connection.execute(FILL, {"rows": rows})
        path = Path(folder) / "bench.yaml"
        path.write_text(_YAML.format(strategy=strategy))
        job = TableJob(
            open_store(folder),
            Lake(folder),
            load_source(path).tables["Wide"],
            "bench",
            f"sqlite:///{database}",
        )
        initial = _run(job, rows)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(_CHANGE, {"part": 7})
        incremental = _run(job, rows // 100)
    print(f"  {strategy:<10} initial {initial:6.2f} s   incremental {incremental:6.2f} s")
    return incremental / initial


def _run(job: TableJob, wanted: int) -> float:
    begin = time.perf_counter()
    copied = copy_to_bronze(job, lookup_watermark(job))
    advance_watermark(job, copied)
    seconds = time.perf_counter() - begin
    if copied["rows"] != wanted:
        message = f"{copied['rows']} rows published, {wanted} expected"
        raise SystemExit(message)
    return seconds


if __name__ == "__main__":
    main()
