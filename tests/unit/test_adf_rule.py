"""What ADF's rule loses of a real day's changes: the figures that the README names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from tidemark import sample
from tidemark.adf_rule import SourceState, after_plain_watermark, compare, read_source
from tidemark.metadata import Table, load_source

PROJECT = Path(__file__).parents[2]
REAL = PROJECT.parent / "shared/data/spotify"


@pytest.mark.parametrize("folder", [REAL] if REAL.is_dir() else [])
def test_of_a_real_days_changes_the_plain_rule_misses_nearly_all(
    folder: Path, tmp_path: Path
) -> None:
    tables = load_source(PROJECT / "config/spotify.yaml").tables
    cursors = {name: table.cursor or "" for name, table in tables.items()}
    missed = total = 0
    for file in (folder / "incremental").glob("*.csv"):
        newest = max(row[cursors[file.stem]] for row in _rows(folder / "initial" / file.name))
        later = [row[cursors[file.stem]] > newest for row in _rows(file)]
        missed, total = missed + later.count(False), total + len(later)
    assert f"misses {missed} of {total} rows" in (PROJECT / "README.md").read_text()

    database = tmp_path / "spotify.db"
    before, after = (
        _states(database, folder / step, list(tables.values()))
        for step in ("initial", "incremental")
    )
    lost = {n: compare(after[n].digests, after_plain_watermark(before[n], after[n])) for n in after}
    # One row that it misses has a later one of the same key behind it, which it reads.
    assert sum(difference.count for difference in lost.values()) == missed - 1


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def _states(database: Path, folder: Path, tables: Sequence[Table]) -> dict[str, SourceState]:
    sample.load_csv(database, folder)
    return {table.name: read_source(f"sqlite:///{database}", table) for table in tables}
