"""What it costs Airflow to parse the Dag folder with 5, 100 and 1,000 tables: `make bench parse`.

Each parse is the reading of `dags/tidemark_sources.py` in a fresh process, as Airflow's Dag
processor does it for each file, with one file of metadata of so many tables. Airflow's own import,
which each of its processes pays once, is measured apart, and so is the form that its database keeps
of the Dags; memory is the process's peak, and what both add to it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_PROJECT = Path(__file__).parents[1]
_TABLES = (5, 100, 1_000)
_CHILD = """
import json, resource, runpy, sys, time
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
begin = time.perf_counter()
from airflow import DAG
import tidemark.airflow.factory
imported, before = time.perf_counter() - begin, peak()
begin = time.perf_counter()
names = runpy.run_path(sys.argv[1])
parsed = time.perf_counter() - begin
dags = [value for value in names.values() if isinstance(value, DAG)]
tasks = sum(len(dag.tasks) for dag in dags)
from airflow.serialization.serialized_objects import DagSerialization
begin = time.perf_counter()
size = sum(len(json.dumps(DagSerialization.to_dict(dag))) for dag in dags)
print(json.dumps({"imported": imported, "parsed": parsed, "peak": peak(), "before": before,
  "serialized": time.perf_counter() - begin, "size": size / 2**20, "tasks": tasks}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(
        f"the Dag folder, {os.cpu_count()} cores, Python {platform.python_version()}, median of "
        f"{args.repeats} fresh processes each"
    )
    first = None
    for tables in _TABLES:
        results = [_measured(tables) for _ in range(args.repeats)]
        found = {name: statistics.median(r[name] for r in results) for name in results[0]}
        first = first or found
        _print(tables, found, first)


def _print(tables: int, found: dict[str, float], first: dict[str, float]) -> None:
    print(
        f"{tables:>6,} tables {found['tasks']:>6,.0f} tasks  parse {found['parsed']:6.2f} s "
        f"({found['parsed'] / first['parsed']:.1f} x that of {_TABLES[0]} tables, "
        f"{1000 * found['parsed'] / tables:.1f} ms a table)  "
        f"serialize {found['serialized']:6.2f} s, {found['size']:.1f} MB  "
        f"memory {found['peak']:.0f} MB, of which {found['peak'] - found['before']:.0f} MB for the "
        f"Dags  (import of Airflow {found['imported']:.1f} s)",
        flush=True,
    )


def _measured(tables: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config").mkdir()
        lines = [f"  Table{i}: {{key: id, cursor: updated_at}}\n" for i in range(tables)]
        text = f"source: {{connection: bench}}\ntables:\n{''.join(lines)}"
        (folder / "config" / "bench.yaml").write_text(text)
        environment = dict(os.environ) | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "TIDEMARK_HOME": str(folder),
            "TIDEMARK_CONFIG": str(folder / "config"),
            "TIDEMARK_PROJECT": str(_PROJECT),
        }
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", _CHILD, str(_PROJECT / "dags" / "tidemark_sources.py")],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
