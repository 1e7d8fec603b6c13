"""Watermarks on a server: every digit counts, ties are seen once, and nothing is passed over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mssql_world import MssqlWorld

from tidemark.errors import ConfigError

Make = Callable[..., MssqlWorld]
READ = {"strategy": "watermark", "cursor": "changed", "lookback": "0s"}
# The declared type, and three values that follow one another as closely as the type allows.
CURSORS = [
    (
        "datetime2(7)",
        "'2026-01-01 00:00:00.0000001'",
        "'2026-01-01 00:00:00.0000002'",
        "'2026-01-01 00:00:00.0000003'",
    ),
    ("datetime2(0)", "'2026-01-01 00:00:01'", "'2026-01-01 00:00:02'", "'2026-01-01 00:00:03'"),
    (
        "datetime",
        "'2026-01-01 00:00:00.003'",
        "'2026-01-01 00:00:00.007'",
        "'2026-01-01 00:00:00.010'",
    ),
    ("smalldatetime", "'2026-01-01 00:01'", "'2026-01-01 00:02'", "'2026-01-01 00:03'"),
    (
        # The same wall clock further west is later.
        "datetimeoffset(7)",
        "'2026-01-01 00:00:00.0000001 +02:00'",
        "'2026-01-01 00:00:00.0000001 +01:00'",
        "'2026-01-01 00:00:00.0000002 +01:00'",
    ),
    ("date", "'2026-01-01'", "'2026-01-02'", "'2026-01-03'"),
    ("int", "1", "2", "3"),
    ("bigint", "9007199254740993", "9007199254740994", "9007199254740995"),
]


def fields(declared: str) -> dict[str, str]:
    return READ | ({"lookback": "0"} if declared.endswith("int") else {})


@pytest.mark.parametrize(("declared", "first", "second", "third"), CURSORS)
def test_a_bound_has_every_digit(
    make: Make, declared: str, first: str, second: str, third: str
) -> None:
    world = make(f"v int NULL, changed {declared} NULL", fields(declared))
    world.sql(f"INSERT INTO {{t}} VALUES (1, 0, {first}), (2, 0, {second})")
    assert world.step()["rows"] == 2
    stored = world.state_cdc()
    assert stored is not None
    # A tie with the watermark, committed later, and the very next value.
    world.sql(f"INSERT INTO {{t}} VALUES (3, 0, {second}), (4, 0, {third})")
    assert world.step()["rows"] == 2, "neither is lost, and nothing comes twice"
    assert sorted(world.held("v")) == [1, 2, 3, 4]
    assert world.state_cdc() != stored, "it moved to the third value"
    assert world.step()["rows"] == 0
    world.sql(f"UPDATE {{t}} SET v = 9, changed = {third} WHERE id = 1")
    assert world.step()["rows"] == 1
    assert world.held("v")[1] == (9,)


def test_rows_without_a_cursor_are_kept_up_with(make: Make) -> None:
    world = make("v int NULL, changed datetime2(7) NULL", READ)
    world.sql("INSERT INTO {t} VALUES (1, 0, NULL), (2, 0, '2026-01-01')")
    world.step()
    world.sql("UPDATE {t} SET v = 5 WHERE id = 1")
    assert world.step()["rows"] == 1
    assert world.held("v") == {1: (5,), 2: (0,)}


def test_a_row_of_the_future_waits(make: Make) -> None:
    world = make("v int NULL, changed datetime2(7) NULL", READ)
    world.sql("INSERT INTO {t} VALUES (1, 0, '2026-01-01'), (2, 0, '2099-01-01')")
    copied = world.step()
    assert copied["rows"] == 1
    assert sum(found["count"] for found in copied["not_seen"].values()) == 1
    assert (world.state_cdc() or "").startswith("2026-01-01")


def test_an_open_transaction_holds_the_bound(make: Make) -> None:
    world = make("v int NULL, changed datetime2(7) NULL", READ)
    assert world.server is not None
    may_see = world.server.rows("SELECT HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE')")
    if may_see != [(1,)]:
        pytest.skip("the login may not see open transactions")
    world.sql("INSERT INTO {t} VALUES (1, 0, SYSUTCDATETIME())")
    world.step()
    with world.server.open_transaction() as writer:
        writer.exec_driver_sql(f"INSERT INTO {world.full_name} VALUES (2, 0, SYSUTCDATETIME())")
        world.sql("INSERT INTO {t} VALUES (3, 0, SYSUTCDATETIME())")
        copied = world.step()
        assert "a transaction has been open" in (copied["note"] or "")
        writer.commit()
    world.step()
    assert sorted(world.held("v")) == [1, 2, 3]


def test_a_cursor_must_have_an_order(make: Make) -> None:
    world = make("changed uniqueidentifier NULL", READ)
    with pytest.raises(ConfigError, match="a cursor is a timestamp, a date or an integer"):
        world.step()
