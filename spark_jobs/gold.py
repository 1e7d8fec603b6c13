"""Entry point of the gold job: `spark-submit spark_jobs/gold.py --lake … --tables A,B …`.

The declarations are in `dlt/`, beside this file's folder; `tidemark.spark.pipeline` runs them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tidemark.errors import TidemarkError
from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.pending import mark_gold_done, silver_version
from tidemark.spark.pipeline import PipelineReport, run_pipeline
from tidemark.spark.session import build_session
from tidemark.storage import open_store


def main() -> int:
    """Run gold for the given tables and the views; 1 if one of them failed."""
    args = _arguments()
    try:
        report = _run(args)
    except TidemarkError as error:
        print(error, file=sys.stderr)
        return 1
    report.write(args.report)
    for name, table in report.tables.items():
        counts = f"{table.rows_in} changes read, {table.rows} applied"
        print(f"{name}: {counts}, {table.status}, {table.seconds:.1f} s")
    for name, view in report.views.items():
        print(f"{name}: {view.status}" + (f", {view.error}" if view.status == "skipped" else ""))
    if report.failure:
        print(report.failure, file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> PipelineReport:
    source = load_source(args.config / f"{args.source}.yaml")
    lake, store = Lake(args.lake), open_store(args.lake)
    tables = args.tables.split(",")
    # Looked up before the changes are read: one that comes meanwhile stays pending.
    versions = {name: silver_version(store, lake, name) for name in tables}
    spark = build_session(f"tidemark gold {args.source}")
    report = run_pipeline(spark, lake, source, args.pipeline, tables)
    for name in report.done:
        version = versions.get(name)
        if version is not None:
            mark_gold_done(store, lake, name, version)
    return report


def _arguments() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="the lake's folder or URL")
    parser.add_argument("--config", required=True, type=Path, help="folder of the metadata files")
    parser.add_argument("--source", required=True, help="the metadata file's stem")
    parser.add_argument("--tables", required=True, help="lake names, separated by commas")
    parser.add_argument("--report", required=True, type=Path, help="where to write the report")
    parser.add_argument("--pipeline", type=Path, default=here.parent / "dlt")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
