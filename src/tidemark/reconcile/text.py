"""A reconciliation as text: for the terminal, and as Markdown to keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tidemark.errors import shown
from tidemark.reconcile.model import CLASSES, LEFT_OUT, TableResult, many

_SHOWN_KEYS, _KEPT_KEYS = 5, 200
_HEADER = ("table", "source", "lake", *CLASSES, "left out")


def render_text(results: Sequence[TableResult]) -> str:
    """Lay a reconciliation out for the terminal."""
    compared = [r for r in results if r.against is not None]
    parts = []
    if compared:
        rows = [_HEADER, *(_row(r) for r in compared)]
        parts.append("\n".join(_grid(rows)))
    for result in compared:
        parts += _details(result)
    parts += [f"{r.table}: FAILED\n  {r.error}" for r in results if r.error is not None]
    parts.append("\n".join(verdict(results)))
    return "\n\n".join(parts)


def verdict(results: Sequence[TableResult]) -> Iterator[str]:
    """Say what it comes to, and what to do now."""
    failed = [r.table for r in results if r.error is not None]
    differing = [r for r in results if r.differing]
    compared = len(results) - len(failed)
    if failed:
        yield f"{len(failed)} of {len(results)} tables could not be compared: {', '.join(failed)}"
    if not differing and compared:
        yield f"equal: {many(compared, 'table')}, as far as the last read came"
    if differing:
        keys = sum(r.differing for r in differing)
        yield f"different: {many(keys, 'key')} in {many(len(differing), 'table')}"
    mended = [r for r in differing if r.is_repaired]
    if mended:
        yield (
            f"repaired: {', '.join(r.table for r in mended)}: in bronze; the next run of the Dag "
            "merges it into silver"
        )
    if len(mended) < len(differing):
        yield "--repair reads these rows again, into bronze"
    pending = [r.table for r in results if r.pending and r.against == "silver"]
    if pending:
        yield f"pending: {many(len(pending), 'table')} with files that wait for silver"


def render_markdown(source: str, run_id: str, moment: datetime, options: str,
                    results: Sequence[TableResult]) -> str:  # fmt: skip
    """Lay a reconciliation out as a page to keep."""
    lines = [
        f"# Reconciliation of {source}",
        "",
        f"{moment:%Y-%m-%d %H:%M:%S} UTC, run `{run_id}`{options}",
        "",
        *(f"- {line}" for line in verdict(results)),
        "",
        f"| {' | '.join((*_HEADER, 'against', 'read up to', 'seconds'))} |",
        f"|---|{'--:|' * (len(_HEADER) - 1)}---|---|--:|",
    ]
    for r in results:
        if r.against is not None:
            cells = (*_row(r), r.against, r.bound or "-", f"{r.seconds:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- *{name}*: {meaning}" for name, meaning in CLASSES.items())]
    for r in results:
        lines += _section(r)
    return "\n".join([*lines, ""])


def _section(result: TableResult) -> Iterator[str]:
    notes = list(_notes(result))
    if result.error is None and not result.differing and not notes:
        return
    yield from ("", f"## {result.table}", "")
    if result.error is not None:
        yield f"Failed: {result.error}"
    yield from (f"- {line}" for line in notes)
    for name, keys in result.keys.items():
        if keys:
            yield from ("", f"### {name}: {result.counts[name]:,}", "")
            yield from (f"- `{_named(key)}`" for key in keys[:_KEPT_KEYS])
            more = result.counts[name] - min(len(keys), _KEPT_KEYS)
            if more:
                yield f"- … and {more:,} more"


def _row(result: TableResult) -> tuple[str, ...]:
    numbers = (result.counts.get(name, 0) for name in CLASSES)
    left_out = sum(result.left_out.values())
    cells = (result.source_rows, result.lake_rows, *numbers, left_out)
    return (result.table, *(f"{cell:,}" for cell in cells))


def _details(result: TableResult) -> list[str]:
    lines = [
        f"  {name:<9}  {_listed(keys, result.counts[name])}"
        for name, keys in result.keys.items()
        if keys
    ]
    lines += [f"  {line}" for line in _notes(result)]
    return ["\n".join([result.table, *lines])] if lines else []


def _notes(result: TableResult) -> Iterator[str]:
    if result.note:
        yield result.note
    for reason, count in result.left_out.items():
        if count:
            yield f"{many(count, 'key')} left out: {LEFT_OUT[reason]}"  # type: ignore[index]
    if result.settled:
        yield f"{many(result.settled, 'key')} differed at first, and no more when read again"
    mended = result.repair
    if mended:
        what = f"{many(mended.rows, 'row')}, of these {mended.deleted:,} deleted"
        yield f"written: {mended.file}: {what}" if mended.file else f"would be written: {what}"


def _listed(keys: Sequence[Mapping[str, Any]], count: int) -> str:
    shown = [_named(key) for key in keys[:_SHOWN_KEYS]]
    more = count - len(shown)
    return "; ".join([*shown, f"… and {more:,} more"] if more else shown)


def _named(key: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name}={'NULL' if v is None else shown(str(v))}" for name, v in key.items())
    return "".join(char if char.isprintable() else " " for char in text)


def _grid(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(w) for cell, w in zip(row, widths, strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells[1:]])
