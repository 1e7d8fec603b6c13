"""A run's report as text of at most 100 columns, for the log, the mail and the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from tidemark.report.model import NotSeen, RunReport, TableReport

WIDTH = 100


def render_text(report: RunReport) -> str:
    """Lay a report out for a log, a mail or a terminal: at most 100 columns."""
    return "\n\n".join(part for part in (render_tables(report), render_failures(report)) if part)


def render_tables(report: RunReport) -> str:
    """Lay out what a run did with each table, and what it could not see."""
    if not report.tables:
        return "no table was read"
    tables = list(report.tables.values())
    sections = [_grid(tables)]
    windows = [(t.name, _window(t)) for t in report.tables.values() if t.window]
    sections += _section("rows read", windows)
    sections += _section("note", [(t.name, t.note) for t in report.tables.values() if t.note])
    sections += _section("dropped by an expectation of gold", _found(report.dropped))
    kept = [(table, _rows(count)) for table, count in sorted(report.quarantined.items()) if count]
    sections += _section("kept in gold/<table>_quarantine", kept)
    sections += _section("kept against an expectation of gold", _found(report.warned))
    unseen = [(t.name, _unseen(n)) for t in report.tables.values() for n in t.not_seen if n.count]
    sections += _section("not seen", unseen)
    sections += _section("kept aside by silver", [*map(_aside, filter(_is_aside, tables))])
    broken = [
        (f"{layer}: {t.name}", error)
        for t in report.tables.values()
        for layer, error in (("silver", t.silver_error), ("gold", t.gold_error))
        if error is not None
    ]
    return "\n\n".join(sections + _section("left out by a later layer", broken))


def render_failures(report: RunReport) -> str:
    """Lay out every failed task with its exception; empty if none failed."""
    lines = ["failed tasks"] if report.failures else []
    for failure in report.failures:
        attempt = f" (try {failure.try_number})" if failure.try_number else ""
        lines.append(f"  {_shorten(failure.task_id, WIDTH - 12)}{attempt}")
        for line in failure.exception.splitlines():
            lines += textwrap.wrap(
                _plain(line), WIDTH, initial_indent="    ", subsequent_indent="    "
            )
        # Never wrapped: a link that is broken in two can't be followed.
        lines += [f"    {url}" for url in (failure.run_url, failure.log_url) if url]
    return "\n".join(lines)


def _grid(tables: list[TableReport]) -> str:
    header = ("table", "published", "read", "unchanged", "silver", "gold", "watermark")
    rows = [header] + [
        (
            table.name,
            *(_number(count) for count in (table.rows, table.read, table.unchanged)),
            "failed" if table.silver_error is not None else _number(table.silver_rows),
            "failed" if table.gold_error is not None else _number(table.gold_rows),
            table.watermark or "-",
        )
        for table in tables
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    # The name gives way: figures and watermarks must stay whole.
    widths[0] = min(widths[0], max(8, WIDTH - sum(widths[1:]) - 2 * (len(header) - 1)))
    return "\n".join(_grid_line(row, widths) for row in rows)


def _grid_line(row: tuple[str, ...], widths: list[int]) -> str:
    name, *numbers, watermark = row
    cells = [_shorten(name, widths[0]).ljust(widths[0])]
    cells += [text.rjust(width) for text, width in zip(numbers, widths[1:-1], strict=True)]
    return _shorten("  ".join([*cells, watermark]), WIDTH)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _plain(text: str) -> str:
    """Keep what a driver puts into its messages from steering the reader's terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _shorten(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _window(table: TableReport) -> str:
    return f"{table.window}{' (backfill: the watermark stays)' if table.backfill else ''}"


def _found(counts: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str]]:
    return [
        (table, f"{name}: {_rows(count)}")
        for table, found in sorted(counts.items())
        for name, count in sorted(found.items())
        if count
    ]


def _is_aside(table: TableReport) -> bool:
    return bool(table.quarantined or table.rescued)


def _aside(table: TableReport) -> tuple[str, str]:
    files = ", ".join(table.quarantined)
    parts = [f"in quarantine: {files}"] if files else []
    parts += [f"{_rows(table.rescued)} with _rescued_data"] if table.rescued else []
    return table.name, "; ".join(parts)


def _unseen(found: NotSeen) -> str:
    keys = ", ".join(found.keys)
    more = ", …" if found.count > len(found.keys) else ""
    return f"{found.reason}: {_rows(found.count)}" + (f" ({keys}{more})" if keys else "")


def _section(title: str, lines: Iterable[tuple[str, str]]) -> list[str]:
    listed = [(_shorten(name, 40), text) for name, text in lines]
    if not listed:
        return []
    indent = 4 + max(len(name) for name, _ in listed)
    wrapped = [
        textwrap.fill(
            " ".join(_plain(text).split()),
            WIDTH,
            initial_indent=f"  {name.ljust(indent - 4)}  ",
            subsequent_indent=" " * indent,
        )
        for name, text in listed
    ]
    return ["\n".join([title, *wrapped])]
