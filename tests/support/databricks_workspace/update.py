"""One update of a pipeline, in a process of its own: the pipeline's files, on local Spark.

The files are those that the pipeline declares, and the session has the configuration that it
declares, and nothing else of a pipeline's. As on Databricks, all flows that were declared run, and
nobody marks a table as done here: that is for who started the update.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from databricks_workspace.libraries import declared_files
from tidemark.layout import Lake
from tidemark.metadata import load_source, source_file
from tidemark.pending import silver_version
from tidemark.spark.graph import Graph, load_graph
from tidemark.spark.pipeline import run_graph
from tidemark.spark.session import build_session
from tidemark.storage import open_store


def main() -> str | int:
    """Run all flows and views; give what failed, or 0."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    configuration: dict[str, str] = request["configuration"]
    files = declared_files(request["libraries"])
    lake = Lake(configuration["tidemark.lake"])
    config = Path(configuration["tidemark.config"])
    source = load_source(source_file(config, configuration["tidemark.source"]))
    spark = build_session("update", lake_root=lake.root)
    for name, value in configuration.items():
        spark.conf.set(name, value)
    graph = load_graph(files)
    if request["full_refresh"]:
        _reset(lake, graph)
    store = open_store(lake.root)
    gold = {t.lake_name: t.gold.name for t in source.tables.values() if t.gold}
    declared = [name for name, target in gold.items() if target in graph.flows]
    tables = [name for name in declared if silver_version(store, lake, name) is not None]
    report = run_graph(spark, lake, source, graph, tables)
    Path(request["report"]).write_text(json.dumps(asdict(report) | {"gold": gold}))
    return f"{report.failure}" if report.failure else 0


def _reset(lake: Lake, graph: Graph) -> None:
    for name in graph.flows:
        own = (lake.gold(name), lake.gold_quarantine(name), lake.auxiliary(name))
        for path in (*own, lake.checkpoint("gold", name)):
            shutil.rmtree(lake.url(path), ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
