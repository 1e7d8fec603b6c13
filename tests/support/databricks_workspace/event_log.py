"""A pipeline's event log, made of what its run reported.

https://docs.databricks.com/aws/en/ldp/monitor-event-log-schema
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Event = dict[str, Any]

# `tidemark.spark.expectations.refuse`
_BROKEN = re.compile(r"expectation '([^']+)' .*? is not met by \d+ rows, such as (\{.*?\})")


def moment(milliseconds: int | None = None) -> str:
    """Write a moment as the log does: UTC, milliseconds."""
    at = (
        datetime.now(UTC)
        if milliseconds is None
        else datetime.fromtimestamp(milliseconds / 1000, UTC)
    )
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def events_of(
    origin: Mapping[str, str],
    begun: str,
    state: str,
    report: Mapping[str, Any] | None,
    error: str | None,
) -> list[Event]:
    """Write the events of an update.

    Args:
        origin: The pipeline's and the update's ids.
        begun: When the update was created.
        state: How it ended.
        report: What `update.py` left: a `PipelineReport`, and the gold table of each table.
        error: Why the whole failed, if it did.
    """
    events = [_event(origin, "create_update", "INFO", "Update was started.", at=begun)]
    if report is not None:
        for name, table in report["tables"].items():
            events += _flow(origin, report, report["gold"].get(name, name), table)
        for name, rows in report["quarantined"].items():
            counts = {"metrics": {"num_output_rows": rows}}
            events.append(_progress(origin, f"{name}_quarantine_flow", "COMPLETED", counts))
        for name, view in report["views"].items():
            status = {"done": "COMPLETED", "skipped": "SKIPPED"}.get(view["status"], "FAILED")
            events.append(_progress(origin, name, status, {}, view["error"]))
    flows_failed = report is not None and any(e.get("error") for e in events)
    failure = _error(str(error)) if state == "FAILED" and not flows_failed else None
    level = "ERROR" if state == "FAILED" else "INFO"
    events.append(
        _event(origin, "update_progress", level, f"Update is {state}.", error=failure)
        | {"details": {"update_progress": {"state": state}}}
    )
    return events


def _flow(
    origin: Mapping[str, str], report: Mapping[str, Any], name: str, table: Mapping[str, Any]
) -> Iterator[Event]:
    yield _progress(origin, name, "STARTING", {})
    failed = table["status"] == "failed"
    if not failed:
        # The counts come in parts, as each batch ends.
        first, rest = divmod(table["rows"], 2)[0], table["rows"] - table["rows"] // 2
        for rows, share in ((first, 0), (rest, 1)):
            yield _progress(
                origin,
                name,
                "RUNNING",
                {
                    "metrics": {"num_output_rows": rows},
                    "data_quality": _quality(report, name, rows, share),
                },
            )
    yield _progress(origin, name, "FAILED" if failed else "COMPLETED", {}, table["error"])


def _quality(report: Mapping[str, Any], name: str, rows: int, share: int) -> dict[str, Any]:
    counts = {**report["dropped"].get(name, {}), **report.get("warned", {}).get(name, {})}
    return {
        "dropped_records": sum(report["dropped"].get(name, {}).values()) * share,
        "expectations": [
            {
                "name": expectation,
                "dataset": f"{name}_changes",
                "passed_records": rows,
                "failed_records": failed * share,
            }
            for expectation, failed in counts.items()
        ],
    }


def _progress(
    origin: Mapping[str, str],
    flow: str,
    status: str,
    details: Mapping[str, Any],
    error: str | None = None,
) -> Event:
    level = "ERROR" if status == "FAILED" else "INFO"
    message = f"Flow '{flow}' is {status}."
    failure = _error(_violation(flow, error)) if status == "FAILED" else None
    event = _event(origin, "flow_progress", level, message, error=failure)
    event["origin"] |= {"flow_name": flow, "dataset_name": flow}
    return event | {"details": {"flow_progress": {"status": status, **details}}}


def _violation(flow: str, error: str | None) -> str:
    """Tell of a failed expectation as the service does, with the row that violates it."""
    broken = _BROKEN.search(str(error))
    if broken is None:
        return str(error)
    return (
        f"[EXPECTATION_VIOLATION.VERBOSITY_ALL] Flow '{flow}' failed to meet the expectation. "
        f"Violated expectations: '{broken[1]}'. Input data: '{broken[2]}'. "
        f"Output record: '{broken[2]}'. Missing input data: false"
    )


def _error(message: str) -> dict[str, Any]:
    outer = {"class_name": "com.databricks.pipelines.FlowFailed", "message": "The flow failed."}
    inner = {"class_name": "org.apache.spark.SparkException", "message": message}
    exceptions = [outer, inner] if message.startswith("[") else [inner]
    return {"fatal": False, "exceptions": exceptions}


def _event(  # noqa: PLR0917  what every event has
    origin: Mapping[str, str],
    kind: str,
    level: str,
    message: str,
    error: Mapping[str, Any] | None = None,
    at: str | None = None,
) -> Event:
    known = {"id": str(uuid.uuid4()), "origin": dict(origin), "timestamp": at or moment()}
    told = {"message": message, "level": level, "event_type": kind, "maturity_level": "STABLE"}
    return known | told | ({"error": dict(error)} if error else {})
