"""Silver's tables in the catalog, as a part of what a table's run has to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import SparkSession

from tidemark.layout import Lake
from tidemark.metadata import Source
from tidemark.spark.explain import explained
from tidemark.spark.silver import TableResult
from tidemark.spark.unity_catalog import register_tables
from tidemark.storage import open_store


def registered(
    session: SparkSession, lake_root: str, source: Source, results: Mapping[str, TableResult]
) -> dict[str, TableResult]:
    """Register the tables that are done; on Databricks alone.

    Args:
        session: The session.
        lake_root: The lake's folder or URL.
        source: The metadata.
        results: What silver did, by lake name.

    Returns:
        The results. A table that the catalog refuses has failed, and stays pending: the next run
        finds nothing to merge, and registers it.
    """
    lake, store, after = Lake(lake_root), open_store(lake_root), dict(results)
    for name, result in results.items():
        if result.status != "done":
            continue
        try:
            register_tables(session, lake_root, source, [name])
        except Exception as error:  # noqa: BLE001  one table's failure is never another's
            store.remove(lake.marker("silver", name))
            reason = f"its rows are in silver, but not in the catalog: {explained(name, error)}"
            after[name] = replace(result, status="failed", error=f"{name}: {reason}")
    return after
