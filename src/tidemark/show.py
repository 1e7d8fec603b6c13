"""``tidemark show``: a lake table on the terminal."""

from __future__ import annotations

import argparse
import sys

import polars as pl

from tidemark.lake_tables import query, table_names
from tidemark.layout import Lake

_WIDTH = 160


def show(arguments: argparse.Namespace, lake: Lake) -> int:
    """Print rows of a table, or the list of tables.

    Returns:
        The exit code, 0.

    Raises:
        LakeError: There is no such table or column, or the condition is no SQL.
    """
    if arguments.table is None:
        for name, path in sorted(table_names(lake).items(), key=lambda item: item[1]):
            sys.stdout.write(f"{path:<28} tidemark show {name}\n")
        return 0
    limit = arguments.limit or None
    rows = query(
        lake,
        arguments.table,
        where=arguments.where,
        columns=[c.strip() for c in arguments.columns.split(",") if c.strip()],
        limit=None if limit is None else limit + 1,
        internal=arguments.internal,
        at=arguments.version if arguments.version is not None else arguments.timestamp,
    )
    shown = rows if limit is None else rows.head(limit)
    sys.stdout.write(shown.write_csv() if arguments.csv else f"{_table(shown)}\n")
    if rows.height > shown.height:
        sys.stderr.write(f"the first {limit} rows; --limit 0 shows all\n")
    return 0


def _table(rows: pl.DataFrame) -> str:
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=_WIDTH,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        fmt_str_lengths=60,
    ):
        return str(rows)
