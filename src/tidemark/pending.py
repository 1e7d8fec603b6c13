"""Which tables wait for silver and gold: decided by what lies in the lake, not by this run.

A run after a failed one so picks up what was left, and a run with nothing pending starts nothing.
All of it is read without Spark.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tidemark.errors import StateError
from tidemark.layout import Lake
from tidemark.published import bronze_files, file_name
from tidemark.storage import Store

_YOUNG = 10  # Delta writes a checkpoint then, and may forget older commits
_LOOK_BACK = 50  # commits; a maintenance makes some, none of them with rows
# What Delta and Databricks call the commits of a maintenance: they bring no row, and take none.
_TIDYING = {"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "CLUSTER BY"}


@dataclass(frozen=True)
class BronzeSnapshot:
    """What a table's bronze folder held at one moment.

    Attributes:
        newest: The published file with the greatest sequence; None if there is none.
        count: How many files are published. A file that a slow read published late, under an
            older sequence, shows in the count alone.
    """

    newest: str | None
    count: int


def bronze_snapshot(store: Store, lake: Lake, table: str) -> BronzeSnapshot:
    """Look at a table's published bronze files, ours and ADF's."""
    files = bronze_files(store, lake, table)
    published = [(sequence, file_name(file)) for file, sequence in files]
    newest = max(published)[1] if published else None
    return BronzeSnapshot(newest=newest, count=len(published))


def silver_pending(store: Store, lake: Lake, tables: Iterable[str]) -> list[str]:
    """Name the tables whose bronze holds a file that silver has not recorded as done."""
    return [t for t in tables if _is_silver_pending(store, lake, t)]


def mark_silver_done(store: Store, lake: Lake, table: str, snapshot: BronzeSnapshot) -> None:
    """Record that silver holds everything that `snapshot`, taken before the merge, saw."""
    _write(store, lake.marker("silver", table), asdict(snapshot))


def silver_version(store: Store, lake: Lake, table: str) -> int | None:
    """Give the newest commit of a table's changes; None before the first."""
    return max(_commits(store, lake, table), default=None)


def has_only_appends(store: Store, lake: Lake, table: str) -> bool:
    """Tell whether a table's changes are young, and every file that was ever added is still there.

    An OPTIMIZE replaces files, and a VACUUM after it takes them away: then the commits name files
    that are gone.
    """
    versions = sorted(_commits(store, lake, table))
    if versions != list(range(len(versions))) or len(versions) > _YOUNG:
        return False
    log = f"{lake.changes(table)}/_delta_log"
    commits = (store.read(f"{log}/{version:020}.json") for version in versions)
    return all(found is not None and b'{"remove":' not in found.data for found in commits)


def gold_pending(store: Store, lake: Lake, tables: Iterable[str]) -> list[str]:
    """Name the tables whose newest silver commit gold has not recorded as done.

    Commits that only tidied do not count: a maintenance starts no gold.
    """
    return [t for t in tables if _is_gold_pending(store, lake, t)]


def mark_gold_done(store: Store, lake: Lake, table: str, version: int) -> None:
    """Record that gold holds the changes up to `version`, looked up before gold began."""
    _write(store, lake.marker("gold", table), {"silver_version": version})


def _is_silver_pending(store: Store, lake: Lake, table: str) -> bool:
    snapshot = bronze_snapshot(store, lake, table)
    done = read_marker(store, lake.marker("silver", table))
    return snapshot.count > 0 and done != asdict(snapshot)


def _is_gold_pending(store: Store, lake: Lake, table: str) -> bool:
    version = silver_version(store, lake, table)
    done = read_marker(store, lake.marker("gold", table)).get("silver_version")
    if version is None or version == done:
        return False
    return not isinstance(done, int) or not _only_tidied(store, lake, table, done, version)


def _only_tidied(store: Store, lake: Lake, table: str, done: int, version: int) -> bool:
    if not done < version <= done + _LOOK_BACK:
        return False
    log = f"{lake.changes(table)}/_delta_log"
    commits = (store.read(f"{log}/{number:020}.json") for number in range(done + 1, version + 1))
    return all(found is not None and _operation(found.data) in _TIDYING for found in commits)


def _operation(commit: bytes) -> str | None:
    infos = (json.loads(line) for line in commit.splitlines() if b'"commitInfo"' in line)
    return next(
        (info["commitInfo"].get("operation") for info in infos if "commitInfo" in info), None
    )


def _commits(store: Store, lake: Lake, table: str) -> list[int]:
    names = (name.partition(".") for name in store.names(f"{lake.changes(table)}/_delta_log"))
    return [int(stem) for stem, _, rest in names if rest == "json" and stem.isdigit()]


def _write(store: Store, path: str, value: dict[str, object]) -> None:
    store.write(path, json.dumps(value, sort_keys=True).encode())


def read_marker(store: Store, path: str) -> dict[str, object]:
    """Read a layer's marker of a table; it is empty where there is none.

    Raises:
        StateError: The file holds something else.
    """
    content = store.read(path)
    if content is None:
        return {}
    try:
        value = json.loads(content.data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        message = (
            f"{path}: not a JSON object but {content.data[:80]!r}; delete the file: "
            "the table's layer is then built up again from what is pending, without loss"
        )
        raise StateError(message)
    return value
