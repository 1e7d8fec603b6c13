"""What a run did, as plain values: the form in which reports are read and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NotSeen:
    """Rows that the strategy could not take along, counted, with some of their keys."""

    reason: str
    count: int
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableReport:
    """What one run did with one table; None is a step that left no part.

    Attributes:
        name: The table's name in the lake.
        rows: Rows published to bronze.
        read: Rows read from the source, those of the lookback included.
        unchanged: Rows of the lookback dropped by their digest.
        window: The read's condition, readable.
        watermark: The watermark after the run, as the state stores it.
        backfill: The data interval replaced the window; the watermark stays.
        note: What else is worth telling of the read.
        not_seen: What the strategy can't see.
        silver_rows, gold_rows: Rows of the table in that layer.
        silver_error, gold_error: Why the layer failed for this table.
        rescued: Rows that silver took with values kept in ``_rescued_data`` alone.
        quarantined: Names of the bronze files that silver leaves aside until somebody decides.
    """

    name: str
    rows: int | None = None
    read: int | None = None
    unchanged: int | None = None
    window: str | None = None
    watermark: str | None = None
    backfill: bool = False
    note: str | None = None
    not_seen: tuple[NotSeen, ...] = ()
    silver_rows: int | None = None
    silver_error: str | None = None
    gold_rows: int | None = None
    gold_error: str | None = None
    rescued: int = 0
    quarantined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A task that failed, with its exception as text, free of secrets.

    Attributes:
        task_id: The task.
        exception: Its class and message.
        try_number: The attempt, from 1.
        log_url: Where its log is.
        run_url: Where what it ran elsewhere is: a run on Databricks.
    """

    task_id: str
    exception: str
    try_number: int | None = None
    log_url: str | None = None
    run_url: str | None = None


@dataclass(frozen=True)
class RunReport:
    """What one Dag run did: of each table, of gold's expectations, and what failed.

    Attributes:
        source: The source's name, which is the Dag's id.
        run_id: The Dag run's id.
        tables: By lake name, sorted.
        dropped: Rows that an expectation dropped, by gold table and expectation.
        warned: Rows that failed an expectation and were kept, by gold table and expectation.
        quarantined: How many dropped rows a quarantine table got, by gold table.
        failures: Failed tasks, sorted by id.
    """

    source: str
    run_id: str
    tables: Mapping[str, TableReport] = field(default_factory=dict)
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    warned: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
