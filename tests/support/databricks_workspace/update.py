"""One update of a pipeline, in a process of its own: the pipeline's files, on local Spark.

As on Databricks, nobody marks a table as done here: that is for who started the update.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tidemark.layout import Lake
from tidemark.metadata import Source, load_source, source_file
from tidemark.pending import silver_version
from tidemark.spark.pipeline import run_pipeline
from tidemark.spark.session import build_session
from tidemark.storage import open_store


def main() -> str | int:
    """Run all flows and views; give what failed, or 0."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    configuration: dict[str, str] = request["configuration"]
    lake = Lake(configuration["tidemark.lake"])
    config = Path(configuration["tidemark.config"])
    source = load_source(source_file(config, configuration["tidemark.source"]))
    if request["full_refresh"]:
        _reset(lake, source)
    spark = build_session("update", lake_root=lake.root)
    for name, value in configuration.items():
        spark.conf.set(name, value)
    store = open_store(lake.root)
    gold = {t.lake_name: t.gold.name for t in source.tables.values() if t.gold}
    tables = [name for name in gold if silver_version(store, lake, name) is not None]
    # `dlt/`: the runner takes the folder of `scd.py`, with the source's views in it.
    folder = next(Path(file).parent for file in request["files"] if file.endswith("scd.py"))
    report = run_pipeline(spark, lake, source, folder, tables)
    Path(request["report"]).write_text(json.dumps(asdict(report) | {"gold": gold}))
    return f"{report.failure}" if report.failure else 0


def _reset(lake: Lake, source: Source) -> None:
    for table in source.tables.values():
        if table.gold:
            name = table.gold.name
            own = (lake.gold(name), lake.gold_quarantine(name), lake.auxiliary(name))
            for path in (*own, lake.checkpoint("gold", name)):
                shutil.rmtree(lake.url(path), ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
