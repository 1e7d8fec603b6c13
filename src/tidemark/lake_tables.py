"""Read a lake's Delta tables without Spark."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import polars as pl

from tidemark.errors import LakeError
from tidemark.layout import Lake
from tidemark.storage import open_store


def table_names(lake: Lake) -> dict[str, str]:
    """List the lake's Delta tables: name → path relative to the lake.

    Raises:
        LakeError: The lake's root is a URL of a kind that this version can't open.
    """
    root = open_store(lake.root).root
    logs = sorted([*root.glob("silver/*/_delta_log"), *root.glob("gold/*/_delta_log")])
    return {log.parent.name: log.parent.relative_to(root).as_posix() for log in logs}


def scan(lake: Lake, name: str) -> pl.LazyFrame:
    """Open a silver or gold table, by its name, for reading.

    Raises:
        LakeError: There is no such table; names the nearest and lists those that are there.
    """
    names = table_names(lake)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        there = ", ".join(sorted(names)) or "none yet; run the Dag, or `make demo`"
        raise LakeError(f"table {name!r} is not in the lake {lake.root}{hint} (tables: {there})")
    return pl.scan_delta(open_store(lake.root).root / names[name])


def query(
    lake: Lake,
    name: str,
    *,
    where: str | None = None,
    columns: Sequence[str] = (),
    limit: int | None = None,
    internal: bool = False,
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

    Raises:
        LakeError: There is no such table or column, or the condition is no SQL.
    """
    frame = scan(lake, name)
    try:
        if where:
            frame = frame.filter(pl.sql_expr(where))
        present = frame.collect_schema().names()
        shown = columns or [c for c in present if internal or _is_business(c)]
        frame = frame.select(shown)
        return (frame.head(limit) if limit is not None else frame).collect()
    except pl.exceptions.PolarsError as error:
        columns_there = ", ".join(scan(lake, name).collect_schema().names())
        reason = str(error).splitlines()[0]
        raise LakeError(f"table {name!r}: {reason} (columns: {columns_there})") from error


def _is_business(column: str) -> bool:
    return not column.startswith("_") or column.startswith("__")
