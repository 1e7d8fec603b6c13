from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as sf
from scd_oracle import Event, current, history

from tidemark.errors import PipelineError
from tidemark.spark import autocdc
from tidemark.spark.autocdc import (
    FEW_BYTES,
    Events,
    Target,
    append_events,
    apply_events,
    merge_newest,
    remember_deletes,
)
from tidemark.spark.change_flow import ChangeFlow
from tidemark.spark.history import events_of
from tidemark.spark.later import earliest

SCHEMA = (
    "user_id INT, country STRING, plan STRING, updated_at INT, _sequence INT, _operation STRING"
)
NAMES = ["country", "plan", "updated_at"]
SCD1 = ChangeFlow(
    target="dim_user",
    source="dim_user_changes",
    keys=("user_id",),
    sequence_by="_sequence",
    apply_as_deletes="_operation = 'delete'",
    except_columns=("_operation",),
    scd_type=1,
)
SCD2 = replace(SCD1, scd_type=2, except_columns=("_operation", "_sequence"))
BUSINESS = "struct(updated_at, _sequence)"


@dataclass(frozen=True, order=True)
class Change:
    """A row of silver's changes."""

    user_id: int | None
    country: str | None
    plan: str | None
    updated_at: int | None
    sequence: int
    operation: str = "upsert"

    def event(self, flow: ChangeFlow) -> Event:
        columns = {"country": self.country, "plan": self.plan, "updated_at": self.updated_at}
        if flow.scd_type == 1:
            columns["_sequence"] = self.sequence
        by_business = flow.sequence_by == BUSINESS
        order = (self.updated_at, self.sequence) if by_business else self.sequence
        return Event(self.user_id, order, self.operation == "delete", tuple(columns.items()))


def _frame(spark: SparkSession, changes: Iterable[Change]) -> DataFrame:
    rows = [(c.user_id, c.country, c.plan, c.updated_at, c.sequence, c.operation) for c in changes]
    return spark.createDataFrame(rows, SCHEMA)


def _events(
    spark: SparkSession, changes: list[Change], flow: ChangeFlow, number: int, stream: str = "s"
) -> Events:
    deletes = any(change.operation == "delete" for change in changes)
    return _batch(_frame(spark, changes), flow, number, stream, deletes=deletes)


def _batch(
    frame: DataFrame, flow: ChangeFlow, number: int, stream: str = "s", *, deletes: bool = False
) -> Events:
    rows = events_of(frame, flow)
    first = rows.agg(earliest(rows.schema, among=sf.lit(True))).collect()[0][0]
    return Events(rows, deletes, stream, number, first, size=number % 2 * 2 * FEW_BYTES)


def _target(folder: Path, flow: ChangeFlow) -> Target:
    return Target(flow, str(folder / "gold"), str(folder / "auxiliary"))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, Row) else value


def _rows(spark: SparkSession, target: Target) -> list[tuple[Any, ...]]:
    found = spark.read.format("delta").load(target.table).collect()
    return [tuple(_plain(value) for value in row) for row in found]


def _expected(changes: Iterable[Change], flow: ChangeFlow) -> set[tuple[Any, ...]]:
    events = [change.event(flow) for change in changes]
    if flow.scd_type == 1:
        return current(events, [*NAMES, "_sequence"])
    return history(events, NAMES, list(flow.track) or NAMES)


def _assert_equal(
    spark: SparkSession, target: Target, changes: list[Change], batches: list[list[Change]]
) -> None:
    found, expected = _rows(spark, target), _expected(changes, target.flow)
    assert len(found) == len(set(found)), "a row is there twice"
    if set(found) != expected:  # one key's story reads better than a hundred rows
        key = min(row[0] or 0 for row in set(found) ^ expected)
        story = [[c for c in batch if (c.user_id or 0) == key] for batch in batches]
        picked = [sorted((r for r in s if (r[0] or 0) == key), key=str) for s in (found, expected)]
        pytest.fail(f"batches {story}\nfound    {picked[0]}\nexpected {picked[1]}")


def _versions(target: Target) -> int:
    """How many commits the target's and the auxiliary table's logs hold together."""
    tables = (Path(target.table), Path(target.auxiliary))
    return sum(len(list(table.glob("_delta_log/*.json"))) for table in tables)


def _life(draw: random.Random, user: int | None) -> list[Change]:
    """Events of one key: few distinct values, so that repeats, ties and late ones are common."""
    return [
        Change(
            user,
            draw.choice([None, "AT", "BE"]),
            draw.choice([None, "Free", "Family"]),
            draw.choice([None, 1, 2, 3]),
            draw.randrange(6),
            draw.choice(["upsert", "upsert", "insert", "delete"]),
        )
        for _ in range(draw.randrange(1, 9))
    ]


def _batches(draw: random.Random, changes: list[Change]) -> list[list[Change]]:
    """Any order, some events twice, split anywhere."""
    arriving = changes + draw.sample(changes, len(changes) // 5)
    draw.shuffle(arriving)
    cuts = sorted(draw.randrange(len(arriving)) for _ in range(draw.randrange(1, 4)))
    return [arriving[a:b] for a, b in zip([0, *cuts], [*cuts, len(arriving)], strict=True)]


FLOWS = {
    "scd1": SCD1,
    "scd1-business-time": replace(SCD1, sequence_by=BUSINESS),
    "scd2": SCD2,
    "scd2-tracked-business-time": replace(SCD2, sequence_by=BUSINESS, track=("country",)),
}


@pytest.mark.parametrize("name", FLOWS)
@settings(
    max_examples=20 if os.environ.get("TIDEMARK_SOAK") else 1,
    derandomize=not os.environ.get("TIDEMARK_SOAK"),
    phases=[Phase.generate],  # a seed can't be shrunk; the failing key's story is printed instead
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_any_order_and_split_gives_the_oracles_table(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, name: str, seed: int
) -> None:
    draw = random.Random(f"{name} {seed}")
    changes = [change for user in [None, *range(60)] for change in _life(draw, user)]
    batches = _batches(draw, changes)
    target = _target(tmp_path_factory.mktemp("autocdc"), FLOWS[name])

    for number, batch in enumerate(batches):
        apply_events(_events(spark, batch, target.flow, number), target)

    _assert_equal(spark, target, changes, batches)


def _one_after_the_other(changes: list[Change], *, by_business: bool) -> list[list[Change]]:
    """Batches of which each is later than all before, and holds ties and versions of its own."""
    moments = [(c.updated_at if by_business else c.sequence) or 0 for c in changes]
    bounds = [(0, 2), (2, 3), (3, 4), (4, 6)]
    pairs = list(zip(moments, changes, strict=True))
    return [[c for moment, c in pairs if low <= moment < high] for low, high in bounds]


@pytest.mark.parametrize("name", ["scd2", "scd2-tracked", "scd2-tracked-business-time"])
def test_batches_one_after_the_other_end_the_same_without_the_log_of_events(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    flow = FLOWS.get(name, replace(SCD2, track=("country",)))
    draw = random.Random(name)
    changes = [change for user in [None, *range(60)] for change in _life(draw, user)]
    batches = _one_after_the_other(changes, by_business=flow.sequence_by == BUSINESS)
    batches = [batch for batch in batches if batch]
    target = _target(tmp_path, flow)

    for number, batch in enumerate(batches):
        apply_events(_events(spark, batch, flow, number), target)
        monkeypatch.setattr(autocdc, "merge_versions", pytest.fail)

    assert len(batches) > 2
    _assert_equal(spark, target, changes, batches)


@pytest.mark.parametrize("moment", [10, 11], ids=["older", "same"])
def test_a_batch_that_is_not_later_than_everything_reads_the_log_of_events(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    target = _target(tmp_path, SCD2)
    known = [Change(1, "AT", "Free", 1, 10), Change(2, "AT", "Free", 1, 11)]
    batch = [Change(3, "BE", "Free", 2, 20), Change(1, "CH", "Free", 2, moment)]
    apply_events(_events(spark, known, SCD2, 0), target)
    monkeypatch.setattr(autocdc, "merge_later", pytest.fail)
    apply_events(_events(spark, batch, SCD2, 1), target)
    _assert_equal(spark, target, known + batch, [known, batch])


FIRST = [
    Change(1, "AT", "Free", 1, 10),
    Change(2, "AT", "Free", 1, 10),
    Change(3, "AT", "Free", 1, 10),
]
SECOND = [
    Change(1, "BE", "Free", 2, 20),
    Change(2, None, None, 2, 20, "delete"),
    Change(4, "AT", "Free", 2, 20),
]
THIRD = [
    Change(1, "CH", "Free", 1, 15),  # late: between two versions
    Change(2, "CH", "Free", 1, 15),  # late: older than the delete
    Change(3, "AT", "Free", 1, 10),  # again
]


@pytest.mark.parametrize("flow", [SCD1, SCD2], ids=["scd1", "scd2"])
def test_a_batch_that_was_cut_off_and_every_repetition_end_the_same(
    spark: SparkSession, tmp_path: Path, flow: ChangeFlow
) -> None:
    target = _target(tmp_path, flow)
    batches = [FIRST, SECOND, THIRD]
    first_half = remember_deletes if flow.scd_type == 1 else append_events
    for number, batch in enumerate(batches):
        events = _events(spark, batch, flow, number)
        first_half(events, target)  # killed here
        apply_events(events, target)
    _assert_equal(spark, target, FIRST + SECOND + THIRD, batches)

    commits = _versions(target)
    apply_events(_events(spark, THIRD, flow, 2), target)  # killed before the checkpoint
    assert _versions(target) == commits

    for number, batch in enumerate(batches):  # the checkpoint was lost: everything comes again
        apply_events(_events(spark, batch, flow, number, stream="another"), target)
    _assert_equal(spark, target, FIRST + SECOND + THIRD, batches)


def test_events_that_change_nothing_write_no_version(spark: SparkSession, tmp_path: Path) -> None:
    target = _target(tmp_path, SCD2)
    apply_events(_events(spark, FIRST, SCD2, 0), target)
    table = Path(target.table)
    commits = sorted(table.glob("_delta_log/*.json"))
    apply_events(_events(spark, FIRST, SCD2, 1), target)
    assert sorted(table.glob("_delta_log/*.json")) == commits


@pytest.mark.parametrize(
    ("flow", "moment"),
    [(SCD1, 20), (SCD2, 20), (SCD2, 21)],
    ids=["scd1", "scd2", "scd2-later"],
)
def test_a_new_column_arrives_and_one_that_left_becomes_null(
    spark: SparkSession, tmp_path: Path, flow: ChangeFlow, moment: int
) -> None:
    target = _target(tmp_path, flow)
    apply_events(_events(spark, FIRST, flow, 0), target)
    wider = _frame(spark, [Change(1, "AT", "Free", 2, 20)]).selectExpr("*", "'pop' AS genre")
    apply_events(_batch(wider, flow, 1), target)
    narrower = _frame(spark, [Change(2, "AT", "Free", 2, moment)]).drop("plan")
    apply_events(_batch(narrower, flow, 2), target)

    now = spark.read.format("delta").load(target.table)
    if flow.scd_type == 2:
        now = now.where("__END_AT IS NULL")
    found = {(r.user_id, r.plan, r.genre) for r in now.collect()}
    assert found == {(1, "Free", "pop"), (2, None, None), (3, "Free", None)}


@pytest.mark.parametrize("flow", [SCD1, SCD2], ids=["scd1", "scd2"])
def test_a_lost_state_is_named_and_nothing_is_written(
    spark: SparkSession, tmp_path: Path, flow: ChangeFlow
) -> None:
    target = _target(tmp_path, flow)
    with pytest.raises(PipelineError, match=r"dim_user: .* is gone, .* remove .* run again"):
        apply_events(_events(spark, SECOND, flow, 5), target)
    assert not Path(target.table).exists()


def test_a_lost_scd2_target_is_built_again_from_the_events(
    spark: SparkSession, tmp_path: Path
) -> None:
    target = _target(tmp_path, SCD2)
    apply_events(_events(spark, FIRST, SCD2, 0), target)
    elsewhere = replace(target, table=str(tmp_path / "empty"))
    apply_events(_events(spark, SECOND, SCD2, 1), elsewhere)
    _assert_equal(spark, elsewhere, FIRST + SECOND, [FIRST, SECOND])


def test_scd1_by_halves_needs_no_deletes(spark: SparkSession, tmp_path: Path) -> None:
    target = _target(tmp_path, SCD1)
    events = _events(spark, FIRST, SCD1, 0)
    remember_deletes(events, target)
    assert not Path(target.auxiliary).exists()  # no delete, no table
    merge_newest(events, target)
    _assert_equal(spark, target, FIRST, [FIRST])
