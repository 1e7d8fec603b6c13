"""Read a lake's Delta tables without Spark."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import polars as pl
import pyarrow as pa

from tidemark.errors import LakeError
from tidemark.layout import Lake
from tidemark.storage import open_store
from tidemark.time_travel import checked, known_versions, version_at

_LAYERS = ("silver", "gold")
# One partition at a time, or memory grows with the machine's cores. And Spark writes a timestamp as
# 96 bits, which would else be taken for nanoseconds, and these end in 2262.
_ENGINE = {
    "datafusion.execution.target_partitions": "1",
    "datafusion.execution.parquet.coerce_int96": "us",
}


def table_names(lake: Lake) -> dict[str, str]:
    """List the lake's Delta tables: name → path relative to the lake.

    Raises:
        LakeError: The lake's root is a URL of a kind that this version can't open.
    """
    store = open_store(lake.root)
    found = ((name, f"{layer}/{name}") for layer in _LAYERS for name in store.folders(layer))
    return {name: path for name, path in found if store.names(f"{path}/_delta_log")}


def scan(lake: Lake, name: str, at: int | datetime | None = None) -> pl.LazyFrame:
    """Open a silver or gold table, by its name, for reading.

    Args:
        lake: The lake.
        name: The table's name.
        at: A version's number, or a moment: the version that was the newest then. None: now.

    Raises:
        LakeError: There is no such table, which names the nearest and lists those that are there;
            or no such version.
    """
    names = table_names(lake)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        there = ", ".join(sorted(names)) or "none yet; run the Dag, or `make demo`"
        raise LakeError(f"table {name!r} is not in the lake {lake.root}{hint} (tables: {there})")
    url, options = open_store(lake.root).delta(names[name])
    version = None
    if at is not None:
        known = known_versions(url, options)
        version = checked(name, at, known) if isinstance(at, int) else version_at(name, at, known)
    return pl.scan_delta(url, version=version, storage_options=options or None)


def read_batches(
    table: Any, columns: Sequence[str], rows: int = 50_000
) -> Iterator[pa.RecordBatch]:
    """Read columns of a table in batches, with bounded memory and in the types of its schema.

    Delta's own engine reads it, and not Arrow's dataset, which refuses deletion vectors.

    Args:
        table: A `deltalake.DeltaTable`, in the version in which it was opened.
        columns: The columns, in the order in which they are wanted.
        rows: How many rows a batch has at the most.

    Raises:
        DeltaError, pyarrow.ArrowException: A file can't be read, or a column is not there.
    """
    from deltalake import QueryBuilder  # noqa: PLC0415  # `show` does without

    names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    engine = QueryBuilder({**_ENGINE, "datafusion.execution.batch_size": str(rows)})
    found = engine.register("lake", table).execute(f"SELECT {names} FROM lake")  # noqa: S608  # quoted
    types = pa.schema(table.schema().to_arrow())
    # The engine gives texts and bytes as views, which a hash or a cast may not know.
    wanted = pa.schema([types.field(name) for name in columns])
    for batch in pa.RecordBatchReader.from_stream(found):
        yield batch.cast(wanted)


def query(
    lake: Lake,
    name: str,
    *,
    where: str | None = None,
    columns: Sequence[str] = (),
    limit: int | None = None,
    internal: bool = False,
    at: int | datetime | None = None,
) -> pl.DataFrame:
    """Read rows of a table.

    Args:
        lake: The lake.
        name: The table's name, such as ``dim_user`` or ``DimUser_changes``.
        where: A SQL condition, such as ``user_id = 7``.
        columns: The columns to show; all without it.
        limit: How many rows at the most.
        internal: Whether to show Tidemark's own columns, which begin with ``_`` (those of an SCD
            type 2 history, ``__START_AT`` and ``__END_AT``, are always shown).
        at: A version's number, or a moment; None: now.

    Raises:
        LakeError: There is no such table or column, or the condition is no SQL.
    """
    frame = scan(lake, name, at)
    try:
        if where:
            frame = frame.filter(pl.sql_expr(where))
        present = frame.collect_schema().names()
        shown = columns or [c for c in present if internal or _is_business(c)]
        frame = frame.select(shown)
        return (frame.head(limit) if limit is not None else frame).collect()
    except FileNotFoundError as error:
        message = (
            f"table {name!r}: a file of this version is gone ({error}); a VACUUM removes those of "
            "old versions: choose a later one"
        )
        raise LakeError(message) from error
    except pl.exceptions.PolarsError as error:
        columns_there = ", ".join(scan(lake, name, at).collect_schema().names())
        reason = str(error).splitlines()[0]
        raise LakeError(f"table {name!r}: {reason} (columns: {columns_there})") from error


def _is_business(column: str) -> bool:
    return not column.startswith("_") or column.startswith("__")
