"""What is kept of a reconciliation: a part of the run's report per table, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pydantic import TypeAdapter

from tidemark import report
from tidemark.layout import Lake
from tidemark.reconcile.model import Options, TableResult, summary
from tidemark.reconcile.text import render_markdown
from tidemark.storage import Store

_RESULT = TypeAdapter(TableResult)
PAGE = "reconcile.md"


def new_run_id(moment: datetime) -> str:
    """Name a run that no Dag started."""
    return f"reconcile__{moment.astimezone(UTC).isoformat()}"


def keep_table(store: Store, lake: Lake, source: str, run_id: str, result: TableResult) -> None:
    """Put a table's result into the run's report; what was repaired stands there as a read."""
    name = result.table
    part = asdict(result) | {"summary": _line(result)}
    report.record(store, lake, source, run_id, f"reconcile.{name}", part)
    if result.is_repaired and result.repair is not None:
        copied = {
            "table": name,
            "rows": result.repair.rows,
            "deleted": result.repair.deleted,
            "read": result.repair.rows - result.repair.deleted,
            "file": result.repair.file,
            "sequence": result.repair.sequence,
            "low": result.bound,
            "window": "the keys that reconcile found to differ",
            "backfill": True,
        }
        report.record(store, lake, source, run_id, f"copy.{name}", copied)


def kept_table(
    store: Store, lake: Lake, source: str, run_id: str, table: str
) -> TableResult | None:
    """Read a table's result back; None if it left none."""
    part = report.read_part(store, lake, source, run_id, f"reconcile.{table}")
    return None if part is None else _RESULT.validate_python(part)


def keep_page(  # noqa: PLR0917  as `report.record`
    store: Store,
    lake: Lake,
    source: str,
    run_id: str,
    options: Options,
    results: Sequence[TableResult],
) -> str:
    """Write the page; give its path in the lake."""
    path = f"{lake.run_folder(source, run_id)}/{PAGE}"
    asked = [name for name, wanted in asdict(options).items() if wanted]
    shown = f", with {', '.join(asked)}" if asked else ""
    page = render_markdown(source, run_id, datetime.now(UTC), shown, results)
    store.write(path, page.encode())
    return path


def _line(result: TableResult) -> str:
    return f"{summary(result)} ({result.note})" if result.note else summary(result)
