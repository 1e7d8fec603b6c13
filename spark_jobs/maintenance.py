"""Entry point of the maintenance job: `spark-submit spark_jobs/maintenance.py --lake … …`.

The work is in `tidemark.spark.maintenance`; what is wanted of a table stands in the metadata.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tidemark.metadata import load_source, require_config, source_file
from tidemark.spark.maintenance import failure, run_maintenance, write_report
from tidemark.spark.session import build_session


def main() -> int:
    """Maintain the given tables, or all and the views; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="the lake's folder or URL")
    parser.add_argument("--config", required=True, type=Path, help="folder of the metadata files")
    parser.add_argument("--source", required=True, help="the metadata file's stem")
    parser.add_argument("--tables", default="", help="lake names, by commas; empty: all")
    parser.add_argument("--report", default="", help="where to write the report; lake:… there")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument(
        "--config-digest", default="", help="what `tidemark digest` says where it was deployed from"
    )
    args = parser.parse_args()
    require_config(args.config, args.config_digest)
    source = load_source(source_file(args.config, args.source))
    spark = build_session(f"tidemark maintenance {args.source}", lake_root=args.lake)
    tables = [name for name in args.tables.split(",") if name]
    pipeline = None if tables else Path(sys.argv[0]).resolve().parent.parent / "dlt"  # no __file__
    results = run_maintenance(
        spark, args.lake, source, tables, pipeline=pipeline, dry_run=args.dry_run
    )
    if args.report:
        write_report(results, args.lake, args.report)
    for table in results.values():
        for path, place in table.places.items():
            print(place.line(path, dry_run=args.dry_run))
    if error := failure(results):
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # Not by `sys.exit(0)`: on Databricks any exit may count as a failure.
    if failed := main():
        sys.exit(failed)
