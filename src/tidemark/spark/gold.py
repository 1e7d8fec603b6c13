"""The gold job: the pending tables' changes into gold, and what was done recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tidemark.layers_lock import as_a_run
from tidemark.layout import Lake
from tidemark.metadata import Source
from tidemark.pending import mark_gold_done, silver_version
from tidemark.spark.pipeline import PipelineReport, run_pipeline
from tidemark.spark.session import build_session
from tidemark.storage import open_store


def run_gold(
    lake_root: str, source: Source, pipeline: Path, tables: Sequence[str], *, beside: str = ""
) -> PipelineReport:
    """Bring gold up to the tables' silver, and mark those that are done.

    Args:
        lake_root: The lake's folder or URL.
        source: The metadata.
        pipeline: The folder of the declarations, ``dlt/``.
        tables: Lake names.
        beside: A folder of the lake to build in, instead of the lake itself.

    Raises:
        PipelineError: The declarations contradict themselves, or a rebuild is at work; nothing
            was run.
    """
    lake, store = Lake(lake_root, beside), open_store(lake_root)
    with as_a_run(lake, source.name):
        # Looked up before the changes are read: one that comes meanwhile stays pending.
        versions = {name: silver_version(store, lake, name) for name in tables}
        spark = build_session(f"tidemark gold {source.name}", lake_root=lake_root)
        report = run_pipeline(spark, lake, source, pipeline, tables)
        for name in report.done:
            version = versions.get(name)
            if version is not None:
                mark_gold_done(store, lake, name, version)
    return report
