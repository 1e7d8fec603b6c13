"""Entry point of the silver job: `spark-submit spark_jobs/silver.py --lake … --tables A,B …`.

The work is in `tidemark.spark.silver`; the cleaning rules are in `rules/`, beside this file.
"""

from __future__ import annotations

import argparse
import signal
import sys
from functools import partial
from pathlib import Path

from pyspark.sql import SparkSession

from tidemark.metadata import Source, load_source, require_config, source_file
from tidemark.spark.continuous import Stream, follow, set_by
from tidemark.spark.registration import registered
from tidemark.spark.replay import rebuilt, run_replay
from tidemark.spark.session import build_session
from tidemark.spark.silver import TableResult, failure, run_silver, write_report


def main() -> int:
    """Run silver for the given tables; 1 if one of them failed."""
    args = _arguments()
    require_config(args.config, args.config_digest)
    source = load_source(source_file(args.config, args.source), args.rules)
    spark = build_session(f"tidemark silver {args.source}", lake_root=args.lake)
    if args.continuous:
        return _follow(spark, source, args)
    results = _results(spark, source, args)
    if not args.beside:
        results = registered(spark, args.lake, source, results)
    write_report(results, args.report, args.lake)
    for name, r in results.items():
        print(f"{name}: {r.rows_in} rows read, {r.rows} changes, {r.status}, {r.seconds:.1f} s")
    if error := failure(results):
        print(error, file=sys.stderr)
        return 1
    return 0


def _results(
    spark: SparkSession, source: Source, args: argparse.Namespace
) -> dict[str, TableResult]:
    tables = [name for name in args.tables.split(",") if name]
    if args.replay:
        files = [name for name in args.files.split(",") if name]
        tables = tables or [table.lake_name for table in source.tables.values()]
        rescue = args.rescue == "true"
        return run_replay(spark, args.lake, source, tables, args.rules, files=files, rescue=rescue)
    results = run_silver(spark, args.lake, source, tables, args.rules, beside=args.beside)
    if not args.beside:
        return results
    again = run_replay(
        spark, args.lake, source, tables, args.rules, rescue=True, beside=args.beside
    )
    return rebuilt(results, again)


def _follow(spark: SparkSession, source: Source, args: argparse.Namespace) -> int:
    """Follow the continuous tables until a signal ends it; 1 if one was given up."""
    stop = set_by(signal.SIGINT, signal.SIGTERM)  # Spark has set its own handlers by now
    found = [t.lake_name for t in source.tables.values() if t.processing == "continuous"]
    tables = [name for name in args.tables.split(",") if name] or found
    print(f"following {', '.join(tables) or 'no table'}, every {args.every:g} s", flush=True)
    say = partial(print, flush=True)
    stream = Stream(spark, args.lake, source, args.rules, args.every, stop, say)
    return follow(stream, tables)


def _arguments() -> argparse.Namespace:
    rules = Path(sys.argv[0]).resolve().parent / "rules"  # Databricks knows no __file__
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="the lake's folder or URL")
    parser.add_argument("--config", required=True, type=Path, help="folder of the metadata files")
    parser.add_argument("--source", required=True, help="the metadata file's stem")
    parser.add_argument("--tables", default="", help="lake names, separated by commas")
    parser.add_argument(
        "--report", default="", help="where to write the report: a file, or lake:<path in the lake>"
    )
    parser.add_argument(
        "--config-digest", default="", help="what `tidemark digest` says where Airflow runs"
    )
    parser.add_argument(
        "--continuous", action="store_true", help="keep running; default: the continuous tables"
    )
    parser.add_argument("--every", type=float, default=10, help="with it: seconds between looks")
    parser.add_argument("--replay", action="store_true", help="merge what waits in quarantine")
    parser.add_argument("--files", default="", help="with --replay: these files, not all")
    parser.add_argument(  # a job's parameter is a text
        "--rescue",
        nargs="?",
        choices=("true", "false"),
        const="true",
        default="false",
        help="with --replay: files too whose columns contradict",
    )
    parser.add_argument("--beside", default="", help="folder of the lake to build in instead")
    parser.add_argument("--rules", type=Path, default=rules)
    return parser.parse_args()


if __name__ == "__main__":
    # Not by `sys.exit(0)`: on Databricks any exit may count as a failure.
    if failed := main():
        sys.exit(failed)
