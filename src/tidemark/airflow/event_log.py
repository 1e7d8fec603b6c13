"""What a pipeline's event log says of one update: rows, expectations, and why a flow failed.

https://docs.databricks.com/aws/en/ldp/monitor-event-log-schema: the counts are in the events of
type ``flow_progress``, in each as many as were added since the one before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidemark.metadata import Source

Event = Mapping[str, Any]

# What a violated expectation quotes after its name: the row itself, which is nobody's to mail.
# https://docs.databricks.com/aws/en/error-messages/expectation-violation-error-class
_ROW = re.compile(r"\.?\s*\b(?:Input data|Output record|Missing input data):.*", re.DOTALL)
_LONGEST = 500
# The flow that keeps what a table's expectations drop, `tidemark.spark.declare.keep_dropped`.
_QUARANTINE = "_quarantine_flow"
_BAD = {"FAILED", "STOPPED"}


@dataclass(frozen=True)
class _Flow:
    rows: int | None = None
    status: str | None = None
    error: str | None = None


def of_update(events: Iterable[Event], update_id: str) -> list[Event]:
    """Pick an update's events, the oldest first."""
    own = [event for event in events if event.get("origin", {}).get("update_id") == update_id]
    return sorted(own, key=lambda event: str(event.get("timestamp", "")))


def gold_part(events: Iterable[Event], source: Source) -> dict[str, Any]:
    """Write what an update did as a local run of gold does, for the run's report.

    Args:
        events: The update's own, the oldest first.
        source: The metadata: which expectation drops, and which gold table is whose.
    """
    listed = list(events)
    flows, failed = _flows(listed), _failed_records(listed)
    gold = {table.gold.name: table for table in source.tables.values() if table.gold}
    kept = {f"{name}{_QUARANTINE}": name for name in gold}
    dropped: dict[str, dict[str, int]] = {}
    warned: dict[str, dict[str, int]] = {}
    for (dataset, name), count in failed.items():
        if not count:
            continue
        table = _target(dataset, gold)
        found = gold[table].gold if table in gold else None
        drops = found is not None and name in found.expect_or_drop
        (dropped if drops else warned).setdefault(table, {})[name] = count
    return {
        "tables": {
            gold[name].lake_name: _table(flow, sum(dropped.get(name, {}).values()))
            for name, flow in flows.items()
            if name in gold
        },
        "dropped": dropped,
        "warned": warned,
        "quarantined": {kept[n]: flow.rows for n, flow in flows.items() if n in kept and flow.rows},
        "views": {n: _view(flow) for n, flow in flows.items() if n not in gold and n not in kept},
    }


def failure_lines(events: Iterable[Event]) -> list[str]:
    """Say what failed, a line each: the flow, and why in the log's own words; not the rows.

    What failed as a whole, before any flow or beside it, is told only if no flow tells more.
    """
    errors = [event for event in events if event.get("error")]
    flows = [event for event in errors if event.get("origin", {}).get("flow_name")]
    lines = []
    for event in flows or errors:
        name = event.get("origin", {}).get("flow_name")
        lines.append(f"flow {_bare(name)}: {_reason(event)}" if name else _reason(event))
    return list(dict.fromkeys(lines))


def failed_flows(events: Iterable[Event]) -> set[str]:
    """Name the flows that failed."""
    return {name for name, flow in _flows(events).items() if flow.status in _BAD}


def dropped_line(part: Mapping[str, Any]) -> str | None:
    """Say how many rows which expectation dropped; None if none was."""
    counts = [
        f"{table}.{name}: {count}"
        for table, found in sorted(part["dropped"].items())
        for name, count in sorted(found.items())
        if count
    ]
    return f"rows dropped: {', '.join(counts)}" if counts else None


def _flows(events: Iterable[Event]) -> dict[str, _Flow]:
    flows: dict[str, _Flow] = {}
    for event in events:
        name, progress = event.get("origin", {}).get("flow_name"), _progress(event)
        if name and progress:
            flow, rows = flows.get(_bare(name), _Flow()), _rows(progress.get("metrics") or {})
            flows[_bare(name)] = replace(
                flow,
                rows=flow.rows if rows is None else (flow.rows or 0) + rows,
                status=progress.get("status") or flow.status,
                error=_reason(event) if event.get("error") else flow.error,
            )
    return flows


def _failed_records(events: Iterable[Event]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for event in events:
        quality = _progress(event).get("data_quality") or {}
        for found in quality.get("expectations") or ():
            key = _bare(str(found["dataset"])), str(found["name"])
            counts[key] = counts.get(key, 0) + int(found.get("failed_records") or 0)
    return counts


def _progress(event: Event) -> Mapping[str, Any]:
    details = event.get("details") or {}
    if isinstance(details, str):  # in the table of the event log it is text
        details = json.loads(details)
    progress: Mapping[str, Any] = details.get("flow_progress") or {}
    return progress


def _rows(metrics: Mapping[str, Any]) -> int | None:
    if metrics.get("num_output_rows") is not None:
        return int(metrics["num_output_rows"])
    merged = [metrics.get("num_upserted_rows"), metrics.get("num_deleted_rows")]
    return (
        sum(int(n) for n in merged if n is not None) if any(m is not None for m in merged) else None
    )


def _table(flow: _Flow, dropped: int) -> dict[str, Any]:
    failed = flow.status in _BAD
    return {
        "rows_in": None if flow.rows is None else flow.rows + dropped,
        "rows": flow.rows,
        "status": "failed" if failed else "done",
        "error": (flow.error or f"the flow is {flow.status}") if failed else None,
    }


def _view(flow: _Flow) -> dict[str, Any]:
    status = {"SKIPPED": "skipped", **dict.fromkeys(_BAD, "failed")}.get(flow.status or "", "done")
    return {"rows": flow.rows, "status": status, "error": flow.error}


def _reason(event: Event) -> str:
    """Give an error's own words: of its exceptions, the one with an error class, else the first."""
    exceptions = event["error"].get("exceptions") or [{}]
    messages = [str(e.get("message") or e.get("class_name") or "") for e in exceptions]
    told = next((m for m in messages if m.startswith("[")), messages[0])
    text = " ".join(_ROW.sub("", told or str(event.get("message", ""))).split())
    return text[:_LONGEST]


def _target(dataset: str, gold: Mapping[str, object]) -> str:
    """Give the gold table that a dataset with expectations feeds: itself, or that of its view."""
    stem = dataset.removesuffix("_changes")
    return stem if stem in gold else dataset


def _bare(name: str) -> str:
    """Cut catalog and schema off a name."""
    return name.replace("`", "").rpartition(".")[2]
