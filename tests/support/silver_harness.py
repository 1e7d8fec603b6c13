"""Silver as the Spark job leaves it, written without Spark, for the tests of what reads it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from core_harness import World
from deltalake import write_deltalake

from tidemark.pending import bronze_snapshot, mark_silver_done

META = {
    "_sequence": pa.timestamp("us", tz="UTC"),
    "_operation": pa.string(),
    "_source_sequence": pa.string(),
    "_digest": pa.binary(),
    "_run_id": pa.string(),
}


def newest_rows(world: World) -> list[dict[str, Any]]:
    """Replay bronze: the newest row of each key, but for those that were deleted."""
    rows = world.bronze()
    newest = {tuple(row[c] for c in world.table.key): row for row in rows}
    places = {(*(row[c] for c in world.table.key), row["_sequence"]) for row in rows}
    assert len(places) == len(rows), "two rows of one key have the same place"
    return [row for row in newest.values() if row["_operation"] != "delete"]


def write_silver(world: World, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write silver's current state, and say that it holds all of bronze."""
    snapshot = bronze_snapshot(world.store, world.lake, world.name)
    own = [field for field in schema if field.name not in META]
    whole = pa.schema([*own, *(pa.field(name, kind) for name, kind in META.items())])
    table = pa.Table.from_pylist(rows, whole)
    write_deltalake(
        world.lake.url(world.lake.silver(world.name)),
        table,
        mode="overwrite",
        schema_mode="overwrite",
    )
    mark_silver_done(world.store, world.lake, world.name, snapshot)
