"""One AUTO CDC flow: its source as a stream, what is new of it judged, counted and applied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as sf

from tidemark.errors import PipelineError
from tidemark.layout import Lake
from tidemark.spark.autocdc import Events, Target, apply_events
from tidemark.spark.begun import Batch, Judgement, begin, judgement_of
from tidemark.spark.expectations import (
    FAILED,
    Expectations,
    Violations,
    findings,
    judged,
    passed,
    quarantined,
    refuse,
    total,
    violations,
)
from tidemark.spark.graph import Query
from tidemark.spark.history import DELETED, SEQUENCE, events_of
from tidemark.spark.later import earliest
from tidemark.spark.row_size import bytes_of
from tidemark.spark.stream import drain, once, stream_id
from tidemark.suggestions import did_you_mean


@dataclass(frozen=True)
class Flow:
    """A flow ready to run.

    Attributes:
        target: The declaration and where it writes.
        query: Gives the source's stream.
        lake: The lake, which remembers what has been read.
        judgement: What an event must fulfil, and what becomes of one that does not.
    """

    target: Target
    query: Query
    lake: Lake
    judgement: Judgement

    @property
    def name(self) -> str:
        """The target's name."""
        return self.target.flow.target


@dataclass(frozen=True)
class FlowCounts:
    """What a flow's run has read: events, those that passed, and what expectations found.

    An event that fails two expectations counts for both, so that these can exceed the difference.
    """

    rows_in: int = 0
    rows: int = 0
    found: Violations = field(default_factory=Violations)


def run_flow(flow: Flow) -> FlowCounts:
    """Apply what is new in a flow's source to its target, and end.

    Raises:
        PipelineError: An event has no key column or no sequence, or fails an expectation that none
            may fail; or the target's state is gone.
    """
    counts: list[FlowCounts] = []
    drain(
        flow.query(),
        flow.lake.url(flow.lake.checkpoint("gold", flow.name)),
        lambda rows, number: counts.append(_apply(rows, number, flow)),
    )
    return FlowCounts(
        rows_in=sum(c.rows_in for c in counts),
        rows=sum(c.rows for c in counts),
        found=total([c.found for c in counts], flow.judgement.expectations),
    )


def _apply(rows: DataFrame, number: int, flow: Flow) -> FlowCounts:
    _check_keys(rows, flow)
    batch = Batch(flow.lake, flow.name, stream_id(rows), number)
    judgement = judgement_of(batch, flow.judgement)
    expectations = judgement.expectations
    with _events(rows, flow.target, expectations) as (events, facts):
        refuse(flow.name, facts, expectations)
        _require_sequence(facts, flow)
        begin(batch, judgement)
        if facts["rows"] < facts["rows_in"] and judgement.quarantine:
            _quarantine(rows, number, flow.lake.url(judgement.quarantine), expectations)
        if facts["rows"] or not number:
            passing = Events(
                events,
                bool(facts["deletes"]),
                batch.stream,
                number,
                earliest=facts["earliest"],
                size=facts["bytes"] or 0,
            )
            apply_events(passing, flow.target)
        found = violations(facts, expectations)
        return FlowCounts(facts["rows_in"], facts["rows"], found)


@contextmanager
def _events(
    rows: DataFrame, target: Target, expectations: Expectations
) -> Iterator[tuple[DataFrame, Row]]:
    """Judge the rows and count them in the one pass that also keeps them for what follows."""
    with_verdict = events_of(judged(rows, expectations.every), target.flow).persist()
    good = passed(expectations.drop)
    facts = with_verdict.agg(
        sf.count("*").alias("rows_in"),
        sf.count_if(good).alias("rows"),
        sf.count_if(good & sf.col(SEQUENCE).isNull()).alias("without_sequence"),
        sf.count_if(good & sf.col(DELETED)).alias("deletes"),
        earliest(with_verdict.schema, among=good).alias("earliest"),
        bytes_of(with_verdict.schema, among=good).alias("bytes"),
        *findings(expectations, target.flow.keys),
    )
    try:
        yield with_verdict.where(good).drop(FAILED), facts.collect()[0]
    finally:
        with_verdict.unpersist()


def _quarantine(rows: DataFrame, number: int, table: str, expectations: Expectations) -> None:
    """Keep the dropped rows of a batch as they came, whatever was kept of it before."""
    # Asked of the source again, and not of the events, which lack what the target leaves out.
    dropped = quarantined(rows, expectations.drop)
    writer = dropped.write.format("delta").mode("append").option("mergeSchema", "true")
    with once(rows.sparkSession, stream_id(rows), number, "quarantine"):
        writer.save(table)


def _require_sequence(facts: Row, flow: Flow) -> None:
    if facts["without_sequence"]:
        message = (
            f"{flow.target.flow.target}: {facts['without_sequence']} changes have no sequence: "
            f"{flow.target.flow.sequence_by} is NULL; drop them by an expectation, or order by "
            "another column (gold.sequence_by)"
        )
        raise PipelineError(message)


def _check_keys(rows: DataFrame, flow: Flow) -> None:
    declared = flow.target.flow
    for name in (*declared.keys, *declared.track):
        if name.lower() not in {n.lower() for n in rows.columns}:
            near = did_you_mean(name, rows.columns)
            message = (
                f"{declared.target}: no column {name!r} in {declared.source}{near}; "
                f"it has {', '.join(rows.columns)}"
            )
            raise PipelineError(message)
