"""What a pipeline's event log says of an update, as the run's report holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidemark.airflow.event_log import gold_part
from tidemark.metadata import load_source


def _event(flow: str, rows: int, *, status: str = "RUNNING", **failed: int) -> dict[str, Any]:
    found = [
        {"dataset": "main.gold.dim_user_changes", "name": name, "failed_records": count}
        for name, count in failed.items()
    ]
    progress = {
        "status": status,
        "metrics": {"num_output_rows": rows},
        "data_quality": {"expectations": found},
    }
    return {
        "origin": {"flow_name": f"main.gold.{flow}"},
        "details": {"flow_progress": progress},
    }


def test_rows_expectations_and_quarantine_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "music.yaml"
    path.write_text(
        "source: {connection: c}\n"
        "tables:\n"
        "  DimUser:\n"
        "    key: id\n"
        "    gold: {scd: 2, expect: {named: name > ''}, expect_or_drop: {known: id > 0}}\n"
        "  Stream: {key: id, gold: {scd: 1}}\n"
    )
    events = [
        _event("dim_user", 5, named=2, known=1),
        _event("dim_user", 2, named=0, known=3),
        _event("dim_user_quarantine_flow", 1),
        _event("dim_user_quarantine_flow", 3, status="COMPLETED"),
        _event("streams_by_day", 7, status="COMPLETED"),
    ]
    part = gold_part(events, load_source(path))
    assert part["tables"]["DimUser"]["rows"] == 7
    assert part["tables"]["DimUser"]["rows_in"] == 11
    assert part["warned"] == {"dim_user": {"named": 2}}
    assert part["dropped"] == {"dim_user": {"known": 4}}
    assert part["quarantined"] == {"dim_user": 4}
    assert set(part["views"]) == {"streams_by_day"}
