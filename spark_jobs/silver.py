"""Entry point of the silver job: `spark-submit spark_jobs/silver.py --lake … --tables A,B …`.

The work is in `tidemark.spark.silver`; the cleaning rules are in `rules/`, beside this file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tidemark.metadata import load_source, source_file
from tidemark.spark.session import build_session
from tidemark.spark.silver import failure, run_silver, write_report


def main() -> int:
    """Run silver for the given tables; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="the lake's folder or URL")
    parser.add_argument("--config", required=True, type=Path, help="folder of the metadata files")
    parser.add_argument("--source", required=True, help="the metadata file's stem")
    parser.add_argument("--tables", required=True, help="lake names, separated by commas")
    parser.add_argument("--report", required=True, type=Path, help="where to write the report")
    parser.add_argument("--beside", default="", help="folder of the lake to build in instead")
    parser.add_argument("--rules", type=Path, default=Path(__file__).resolve().parent / "rules")
    args = parser.parse_args()
    source = load_source(source_file(args.config, args.source), args.rules)
    spark = build_session(f"tidemark silver {args.source}", lake_root=args.lake)
    tables = args.tables.split(",")
    results = run_silver(spark, args.lake, source, tables, args.rules, beside=args.beside)
    write_report(results, args.report)
    for name, r in results.items():
        print(f"{name}: {r.rows_in} rows read, {r.rows} changes, {r.status}, {r.seconds:.1f} s")
    if error := failure(results):
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
