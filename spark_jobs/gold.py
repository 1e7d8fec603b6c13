"""Entry point of the gold job: `spark-submit spark_jobs/gold.py --lake … --tables A,B …`.

The declarations are in `dlt/`, beside this file's folder; `tidemark.spark.pipeline` runs them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tidemark.metadata import load_source, source_file
from tidemark.spark.gold import run_gold


def main() -> int:
    """Run gold for the given tables and the views; 1 if one of them failed."""
    args = _arguments()
    source = load_source(source_file(args.config, args.source))
    tables = [name for name in args.tables.split(",") if name]  # none: the views alone
    report = run_gold(args.lake, source, args.pipeline, tables, beside=args.beside)
    report.write(args.report)
    for name, table in report.tables.items():
        counts = f"{table.rows_in} changes read, {table.rows} applied"
        print(f"{name}: {counts}, {table.status}, {table.seconds:.1f} s")
    for what, found in (("dropped", report.dropped), ("kept all the same", report.warned)):
        for name, failed in found.items():
            for expectation, rows in failed.items():
                print(f"{name}: {rows} rows fail {expectation}, {what}")
    for name, view in report.views.items():
        print(f"{name}: {view.status}" + (f", {view.error}" if view.status == "skipped" else ""))
    if report.failure:
        print(report.failure, file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="the lake's folder or URL")
    parser.add_argument("--config", required=True, type=Path, help="folder of the metadata files")
    parser.add_argument("--source", required=True, help="the metadata file's stem")
    parser.add_argument("--tables", required=True, help="lake names, separated by commas")
    parser.add_argument("--report", required=True, type=Path, help="where to write the report")
    parser.add_argument("--beside", default="", help="folder of the lake to build in instead")
    parser.add_argument("--pipeline", type=Path, default=here.parent / "dlt")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
