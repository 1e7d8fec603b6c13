"""What the demo shows: a line that grows with each run, and a summary read in half a minute."""

from __future__ import annotations

import email
import email.policy
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tidemark.adf_rule import Difference, Key
from tidemark.lake_tables import scan
from tidemark.metadata import Source, Table
from tidemark.report import RunReport
from tidemark.settings import Settings
from tidemark.storage import open_store
from tidemark.watermark import load_state

_NAMED = 4


@dataclass
class StageLine:
    """One run's line on the screen; each stage is added when its report is there."""

    number: int
    title: str
    tables: int
    _shown: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._write(f"run {self.number} {self.title:<12}")

    def show(self, report: RunReport) -> None:
        """Add what the report has that is not on the line yet."""
        tables = list(report.tables.values())
        if len(tables) == self.tables and all(t.rows is not None for t in tables):
            rows = sum(t.rows or 0 for t in tables)
            self._once("bronze", f"{rows:>7,} rows   {'bronze ✓ ' if rows else ''}")
        if any(t.silver_rows is not None for t in tables):
            self._once("silver", "silver ✓ ")
        if any(t.gold_rows is not None for t in tables):
            self._once("gold", "gold ✓ ")

    def end(self, tasks: Mapping[str, str], state: str, seconds: float) -> None:
        """Close the line with what did not happen, and the seconds."""
        if tasks.get("silver") == tasks.get("gold") == "skipped":
            self._write("Spark not started        ")
        if state != "success":
            self._write("FAILED ")
        self._write(f"{seconds:>7.0f} s\n")

    def _once(self, stage: str, text: str) -> None:
        if stage not in self._shown:
            self._shown.add(stage)
            self._write(text)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def summary(
    settings: Settings,
    source: Source,
    differences: Mapping[str, Difference],
    adf_loses: Mapping[str, int],
) -> str:
    """Lay out how the lake stands to its source, what was not seen, and where to go on."""
    header = ("table", "source", "silver", "gold now", "history", "watermark", "ADF would lose")
    rows = [
        _row(settings, table, differences[name], adf_loses[name])
        for name, table in source.tables.items()
    ]
    lost = sum(adf_loses.values())
    seen = _not_seen(source, differences)
    parts = [
        "",
        *_grid([header, *rows]),
        f"{seen}; ADF's rule would lose {lost:,}" if lost else seen,
    ]
    parts += ["", *_mails(settings)]
    home = _relative(settings.home)
    parts += [
        'query  .venv/bin/tidemark show dim_user --where "user_id = 7"',
        "look   make ui          your own tables   config/spotify.yaml",
        f"lake   {home}/lake",
    ]
    return "\n".join(parts)


def _row(settings: Settings, table: Table, difference: Difference, adf: int) -> tuple[str, ...]:
    lake = settings.lake
    silver = _count(scan(lake, table.lake_name))
    at_source = silver - len(difference.extra) + len(difference.missing)
    watermark = load_state(open_store(lake.root), lake, table.lake_name).cdc or "-"
    now, history = "-", "-"
    if table.gold:
        gold = scan(lake, table.gold.name)
        has_history = "__END_AT" in gold.collect_schema()
        current = pl.col("__END_AT").is_null() if has_history else pl.lit(True)
        now = f"{_count(gold.filter(current)):,}"
        history = f"+{_count(gold.filter(~current)):,}" if has_history else "-"
    numbers = (f"{at_source:,}", f"{silver:,}", now, history, watermark[:16], f"{adf:,}")
    return (table.name, *numbers)


def _count(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _grid(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(w) for cell, w in zip(row, widths, strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells[1:]])


def _not_seen(source: Source, differences: Mapping[str, Difference]) -> str:
    found = []
    for name, table in source.tables.items():
        kinds = (
            ("deleted", differences[name].extra),
            ("back-dated", differences[name].stale),
            ("late", differences[name].missing),
        )
        parts = [f"{len(keys)} {kind} ({_named(keys)})" for kind, keys in kinds if keys]
        if parts:
            found.append(f"  {table.name}: {', '.join(parts)}")
    if not found:
        return "\n0 rows lost: silver is the source, row for row, deletes included"
    return "\nNOT SEEN by the tables' strategies:\n" + "\n".join(found)


def _named(keys: Sequence[Key]) -> str:
    names = [", ".join(map(str, key)) for key in keys[:_NAMED]]
    return ", ".join([*names, "…"] if len(keys) > _NAMED else names)


def _mails(settings: Settings) -> Iterable[str]:
    files = sorted((settings.home / "mail").glob("*.eml"), key=lambda path: path.stat().st_mtime)
    for file in files[-3:]:
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        yield f"mail   {message['Subject']} → {_relative(file)}"


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
