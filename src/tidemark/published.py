"""A table's published bronze files, wherever they lie in its folder: in it, or in a day's.

Which of the two a read writes to is the metadata's (`bronze_layout`). What is there is read in
both places always, so that the setting may change at any time.
"""

from __future__ import annotations

from datetime import datetime

from tidemark.layout import Lake, is_published_at, sequence_of
from tidemark.storage import Store


def names_in_bronze(store: Store, lake: Lake, table: str) -> list[str]:
    """List what lies where bronze files are published, by its path from the table's folder.

    Readers skip what begins with ``_`` or a dot, and so is left out here; files that are none of
    bronze by their names are not.
    """
    found = store.names_below(lake.bronze_folder(table))
    shown = (path for path in found if not file_name(path).startswith(("_", ".")))
    return [path for path in shown if is_published_at(path)]


def bronze_files(store: Store, lake: Lake, table: str) -> list[tuple[str, datetime]]:
    """List the published files, ours and ADF's, each with the sequence that its name tells."""
    folder = lake.bronze_folder(table)
    found = names_in_bronze(store, lake, table)
    stamped = ((f"{folder}/{path}", sequence_of(file_name(path))) for path in found)
    return [(file, sequence) for file, sequence in stamped if sequence is not None]


def file_name(path: str) -> str:
    """Give the last part of a path, by which a table's file is known wherever it lies."""
    return path.rpartition("/")[2]
