"""SQL Server's strategies: every decision, and every statement as a golden file.

No server is asked here: a fake gives the scalar answers, and each statement is parsed as T-SQL and
compared with ``tests/unit/golden/tsql``. To write these files anew after a wanted change, run

    TIDEMARK_GOLDEN=write .venv/bin/pytest tests/unit/test_sqlserver_strategies.py

and read the difference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlglot
from fake_sqlserver import DECLARED, ask, rendered

from tidemark.errors import SourceError, StateError
from tidemark.extract import cdc, change_tracking, rowversion, snapshot, watermark
from tidemark.extract.cdc import Instance, Log, choose_instance
from tidemark.extract.change_tracking import Tracking
from tidemark.extract.rowversion import Counter, held_note

GOLDEN = Path(__file__).parent / "golden" / "tsql"
Answers = dict[str, list[tuple[Any, ...]]]
COLUMNS = frozenset(DECLARED)


def rv(number: int) -> bytes:
    return number.to_bytes(8, "big")


def lsn(number: int) -> bytes:
    return number.to_bytes(10, "big")


def counter(active: int, last: int) -> Answers:
    return {"MIN_ACTIVE_ROWVERSION": [(rv(active), rv(last))]}


def tracking(current: int | None, least: int | None, begun: int = 0) -> Answers:
    return {
        "CHANGE_TRACKING_CURRENT_VERSION": [(current,)],
        "CHANGE_TRACKING_MIN_VALID_VERSION": [(least, 77, begun, "then")],
    }


def capture(newest: int | None, least: int = 50, columns: Any = COLUMNS) -> Answers:
    return {
        "fn_cdc_get_max_lsn": [(None if newest is None else lsn(newest),)],
        "OBJECT_ID(N'cdc.change_tables')": [(9,)],
        "FROM cdc.change_tables": [("sales_Order]Line", lsn(least), 9)],
        "cdc.captured_columns": [(name,) for name in columns],
    }


# --- rowversion


@pytest.mark.parametrize(
    ("low", "active", "last", "reason"),
    [
        (None, 100, 99, "no rowversion of an earlier read"),
        (0, 100, 99, None),
        (100, 100, 99, None),
        (99, 100, 150, None),
        (101, 100, 99, "0x0000000000000065 is above the server's, 0x0000000000000064: .*restored"),
    ],
)
def test_a_rowversion_above_the_counter_is_a_restore(
    low: int | None, active: int, last: int, reason: str | None
) -> None:
    found = rowversion.reload_reason(low, Counter(active, last))
    assert (found is None) == (reason is None)
    assert re.search(reason or "", found or "")


def test_an_open_transaction_that_holds_the_bound_is_named_with_its_age() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert held_note("DimUser", Counter(100, 99), None, now) is None
    note = held_note("DimUser", Counter(100, 120), now - timedelta(minutes=5), now)
    assert note is not None
    assert "DimUser: a transaction open for 300 s, since 2026-01-01 11:55:00+00:00" in note
    assert "unknown age" in (held_note("DimUser", Counter(100, 120), None, now) or "")


def test_a_rowversion_read_goes_from_the_stored_bound_to_the_least_active(tmp_path: Path) -> None:
    asked, statements = ask(tmp_path, counter(100, 120), {"rowversion": "0x0000000000000032"})
    plan = rowversion.plan(asked)
    assert not plan.whole
    assert plan.position == {"rowversion": "0x0000000000000064"}
    assert plan.window == "0x0000000000000032 <= row_version < 0x0000000000000064"
    assert plan.high == "2026-01-01 11:59:59.1234567", "with all its digits"
    assert "holds the bound" in (plan.note or "")
    bound, fixed = (
        next(i for i, text in enumerate(statements) if part in text)
        for part in ("MIN_ACTIVE_ROWVERSION", "ISOLATION LEVEL SNAPSHOT")
    )
    assert bound < fixed, "the bound is older than the rows"


def test_a_rowversion_that_has_not_moved_reads_nothing(tmp_path: Path) -> None:
    position = {"rowversion": "0x0000000000000064"}
    plan = rowversion.plan(ask(tmp_path, counter(100, 99), position)[0])
    assert (plan.statement, plan.position, plan.note) == (None, position, None)


def test_after_a_restore_the_rowversions_are_read_whole(tmp_path: Path) -> None:
    position = {"rowversion": "0x00000000000000FF"}
    plan = rowversion.plan(ask(tmp_path, counter(100, 99), position)[0])
    assert plan.whole
    assert plan.position == {"rowversion": "0x0000000000000064"}
    assert "table Order]Line: the stored rowversion" in (plan.note or "")


def test_a_table_without_a_rowversion_is_named(tmp_path: Path) -> None:
    declared = {k: v for k, v in DECLARED.items() if v != "rowversion"}
    asked, _ = ask(tmp_path, counter(100, 99), declared=declared)
    with pytest.raises(SourceError, match=r"Order\]Line: strategy rowversion needs a column"):
        rowversion.plan(asked)


def test_a_position_that_is_no_number_is_named(tmp_path: Path) -> None:
    asked, _ = ask(tmp_path, counter(100, 99), {"rowversion": "x"})
    with pytest.raises(StateError, match=r"OrderLine_cdc/cdc.json holds the rowversion 'x'"):
        rowversion.plan(asked)


# --- change tracking


@pytest.mark.parametrize(
    ("last", "current", "least", "reason"),
    [
        (0, 0, 0, None),
        (0, 7, 0, None),
        (7, 7, 7, None),
        (3, 7, 3, None),
        (None, 7, 0, "no version of an earlier read"),
        (8, 7, 0, "8 is above the server's, 7: a restore"),
        (2, 7, 3, "2 is below the least valid one, 3"),
        (0, 7, 1, "0 is below the least valid one, 1"),
        (3, 7, None, "ENABLE CHANGE_TRACKING.*GRANT VIEW CHANGE TRACKING"),
        (None, 7, None, "ENABLE CHANGE_TRACKING"),
        (3, None, None, "off in the database"),
        (None, None, None, "off in the database"),
    ],
)
def test_a_version_that_is_not_in_the_record_is_a_full_reload(
    tmp_path: Path, last: int | None, current: int | None, least: int | None, reason: str | None
) -> None:
    found = change_tracking.reload_reason(last, "77/0/then", Tracking(current, least, "77/0/then"))
    assert (found is None) == (reason is None)
    assert re.search(reason or "", found or "")
    position = {} if last is None else {"version": str(last), "tracked": "77/0/then"}
    plan = change_tracking.plan(ask(tmp_path, tracking(current, least), position)[0])
    assert plan.whole == (reason is not None)
    assert re.search(reason or "^$", plan.note or "")
    whole_record = current is not None and least is not None
    expected = {"version": str(current), "tracked": "77/0/then"} if whole_record else {}
    assert plan.position == expected, "without a record there is nothing to go on from"


def test_another_record_of_the_table_is_a_full_reload(tmp_path: Path) -> None:
    position = {"version": "5", "tracked": "77/0/then"}
    plan = change_tracking.plan(ask(tmp_path, tracking(5, 5, begun=5), position)[0])
    assert plan.whole
    assert "created, emptied or tracked anew" in (plan.note or "")


def test_a_quiet_table_stores_its_new_version(tmp_path: Path) -> None:
    position = {"version": "5", "tracked": "77/0/then"}
    plan = change_tracking.plan(ask(tmp_path, tracking(9, 0), position)[0])
    assert plan.position["version"] == "9"
    assert plan.window == "5 < version <= 9"


def test_the_version_is_taken_under_snapshot_before_the_rows(tmp_path: Path) -> None:
    asked, statements = ask(tmp_path, tracking(9, 0))
    change_tracking.plan(asked)
    parts = ["SNAPSHOT\n", "CURRENT_VERSION", "TOP 1 1", "MIN_VALID_VERSION", "TOP 1 CONVERT"]
    places = [next(i for i, text in enumerate(statements) if part in text) for part in parts]
    assert places == sorted(places)


def test_the_first_read_of_all_is_no_event(tmp_path: Path) -> None:
    asked, _ = ask(tmp_path, tracking(9, 0))
    object.__setattr__(asked, "known", False)
    assert change_tracking.plan(asked).note is None


def test_a_database_without_snapshot_is_named(tmp_path: Path) -> None:
    answers = {"is_read_committed_snapshot_on": [(False, 0)], **tracking(9, 0)}
    with pytest.raises(SourceError, match="ALLOW_SNAPSHOT_ISOLATION ON"):
        change_tracking.plan(ask(tmp_path, answers)[0])


def test_a_key_that_is_not_the_primary_key_is_named(tmp_path: Path) -> None:
    position = {"version": "5", "tracked": "77/0/then"}
    asked, _ = ask(tmp_path, tracking(9, 0), position, primary_key=("id",))
    with pytest.raises(SourceError, match=r"primary key of sales.eu.Order\]Line, \(id\), and key"):
        change_tracking.plan(asked)


# --- change data capture


@pytest.mark.parametrize(
    ("last", "newest", "least", "reason"),
    [
        (60, 70, 50, None),
        (70, 70, 50, None),
        (49, 70, 50, None),
        (49, 40, 50, None),
        (48, 70, 50, "below the least, 0x00000000000000000032, .*cleaned up"),
        (71, 70, 50, "0x00000000000000000047 is above the server's.*a restore"),
        (None, 70, 50, "no LSN of an earlier read"),
        (60, None, 50, "nothing was captured yet"),
        (60, 70, 0, "lacks SELECT"),
    ],
)
def test_an_lsn_outside_of_the_capture_is_a_full_reload(
    tmp_path: Path, last: int | None, newest: int | None, least: int, reason: str | None
) -> None:
    log = Log(Instance("sales_Order]Line", least, COLUMNS), newest)
    found = cdc.reload_reason(last, log)
    assert (found is None) == (reason is None)
    assert re.search(reason or "", found or "")
    position = {} if last is None else {"lsn": f"0x{lsn(last).hex()}"}
    plan = cdc.plan(ask(tmp_path, capture(newest, least), position)[0])
    assert plan.whole == (reason is not None)
    assert re.search(reason or "^$", plan.note or "")


@pytest.mark.parametrize(
    ("newest", "least", "stored"), [(70, 50, 70), (40, 50, 49), (None, 50, None), (70, 0, None)]
)
def test_the_lsn_is_stored_with_every_read(
    tmp_path: Path, newest: int | None, least: int, stored: int | None
) -> None:
    """A new instance begins above what was captured: that is no gap, the next time."""
    expected = {} if stored is None else {"lsn": f"0x{lsn(stored).hex().upper()}"}
    assert cdc.plan(ask(tmp_path, capture(newest, least))[0]).position == expected


def test_no_new_lsn_reads_nothing(tmp_path: Path) -> None:
    plan = cdc.plan(ask(tmp_path, capture(70), {"lsn": "0x00000000000000000046"})[0])
    assert (plan.statement, plan.position) == (None, {"lsn": "0x00000000000000000046"})


def test_the_newest_instance_with_all_columns_that_reaches_back_is_read() -> None:
    old, new = Instance("old", 10, frozenset("ab")), Instance("new", 60, frozenset("abc"))
    both = [new, old]
    assert choose_instance(both, "ab", 70) == new
    assert choose_instance(both, "ab", 59) == new
    assert choose_instance(both, "ab", 58) == old
    assert choose_instance(both, "ab", 5) == new
    assert choose_instance(both, "ab", None) == new
    assert choose_instance(both, "abc", 20) == new, "the old one lacks a column"
    assert choose_instance(both, "abcd", 70) is None


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"FROM cdc.change_tables": []}, "no capture instance that the login may see; EXEC sys"),
        ({"OBJECT_ID(N'cdc.change_tables')": [(None,)]}, "no capture instance"),
        (
            {"cdc.captured_columns": [("order_id",), ("line]no",), ("quantity",)]},
            "sales_Order]Line does not record per%cent:x, changed_at, row_version; create a second",
        ),
    ],
)
def test_a_table_that_is_not_captured_whole_is_named(
    tmp_path: Path, answers: Answers, message: str
) -> None:
    with pytest.raises(SourceError, match=re.escape(message)):
        cdc.plan(ask(tmp_path, {**capture(70), **answers})[0])


# --- watermark: which cap held


def test_a_watermark_stays_below_the_oldest_open_transaction(tmp_path: Path) -> None:
    begun = datetime(2026, 1, 1, 11, 0)  # noqa: DTZ001  # the server's own time, an hour ahead
    held = {
        "sys.dm_tran_active_transactions": [(begun, 60)],
        "AND changed_at <= CAST(:param_3": [("2026-01-01 09:30:00.0000001",)],
    }
    plan = watermark.plan(ask(tmp_path, held)[0])
    assert plan.high == "2026-01-01 09:30:00.0000001"
    assert "a transaction has been open since 2026-01-01 09:59:59+00:00" in (plan.note or "")


def test_a_login_that_may_not_see_transactions_is_told(tmp_path: Path) -> None:
    blind = {"HAS_PERMS_BY_NAME(NULL": [(0,)]}
    note = watermark.plan(ask(tmp_path, blind)[0]).note
    assert "GRANT VIEW SERVER STATE" in (note or "")


# --- statements


CASES: dict[str, tuple[ModuleType, Answers, Mapping[str, str]]] = {
    "rowversion_initial": (rowversion, counter(100, 120), {}),
    "rowversion_incremental": (
        rowversion, counter(100, 120), {"rowversion": "0x0000000000000032"},
    ),
    "change_tracking_initial": (change_tracking, tracking(9, 0), {}),
    "change_tracking_incremental": (
        change_tracking, tracking(9, 0), {"version": "0", "tracked": "77/0/then"},
    ),
    "cdc_initial": (cdc, capture(70), {}),
    "cdc_incremental": (cdc, capture(70), {"lsn": "0x0000000000000000003C"}),
    "watermark_initial": (watermark, {}, {}),
    "watermark_incremental": (watermark, {}, {}),
    "snapshot_initial": (snapshot, {}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_statements_are_t_sql_and_as_they_were(tmp_path: Path, case: str) -> None:
    strategy, answers, position = CASES[case]
    low = "2026-01-01 10:00:00.1234567" if case == "watermark_incremental" else None
    asked, statements = ask(tmp_path, answers, position, low=low)
    plan = strategy.plan(asked)
    assert plan.statement is not None
    plain = [text for text in statements if not text.startswith(("ROLLBACK", "SET "))]
    for text in [*plain, rendered(plan.statement)]:
        _parse(text)
    content = (
        "\n".join([*(f"-- before the rows\n{text}" for text in statements), "-- the rows"])
        + f"\n{rendered(plan.statement)}"
    )
    path = GOLDEN / f"{case}.sql"
    if os.environ.get("TIDEMARK_GOLDEN") == "write":
        path.write_text(content)
    assert content == path.read_text(), f"see how to write {path.name} anew at the file's top"


def _parse(text: str) -> None:
    # sqlglot does not know the word CHANGES in CHANGETABLE(CHANGES t, v).
    sqlglot.parse_one(text.replace("CHANGETABLE(CHANGES ", "CHANGETABLE("), dialect="tsql")


def test_names_are_quoted_and_values_are_bound(tmp_path: Path) -> None:
    for strategy, answers, position in CASES.values():
        asked, _ = ask(tmp_path, answers, position)
        text = rendered(strategy.plan(asked).statement).split("\n-- ")[0]
        assert "Order]]Line]" in text
        assert "Order]Line" not in text
        assert "[per%cent:x]" in text
        assert "2026" not in text
