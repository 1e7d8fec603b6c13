"""An initial load in ranges on a server, by each type that a key may have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mssql_world import MssqlWorld

from tidemark import initial_load

Make = Callable[..., MssqlWorld]
NOW = "SYSUTCDATETIME()"
# By type, nine values; the eighth is the seventh again.
KEYS = {
    "int": "{n} - 4",
    "bigint": "{n} * CAST(1000000000000 AS bigint)",
    "decimal(18,4)": "{n} * 1.5 - 4",
    "varchar(20)": "CHAR(97 + {n}) + '''b-' + CHAR(97 - {n})",
    "nvarchar(20)": "NCHAR(228 + {n}) + N'-z'",
    "char(9)": "CHAR(65 + {n})",
    "uniqueidentifier": "CAST(CONCAT({n}, 'F9619FF-8B86-D011-B42D-', 9 - {n}, '0C04FC964FF') "
    "AS uniqueidentifier)",
    "date": "DATEADD(day, {n}, CAST('2026-01-01' AS date))",
    "datetime": "DATEADD(ms, 4 * {n}, CAST('2026-01-01T10:00:00' AS datetime))",
    "datetime2(7)": "DATEADD(ns, 100 * {n}, CAST('2026-01-01T10:00:00' AS datetime2(7)))",
    "datetimeoffset(7)": "TODATETIMEOFFSET(DATEADD(ns, 100 * {n}, "
    "CAST('2026-01-01T10:00:00' AS datetime2(7))), 60 * {n})",
}


@pytest.mark.parametrize("declared", KEYS)
def test_the_ranges_hold_every_row_and_none_twice(make: Make, declared: str) -> None:
    fields = {
        "key": "[k, id]", "cursor": "changed", "strategy": "watermark", "initial_ranges": "3",
    }  # fmt: skip
    world = make(f"k {declared} NULL, changed datetime2(7) NULL", fields)
    for number in range(9):
        value = KEYS[declared].replace("{n}", str(min(number, 7)))
        world.sql(f"INSERT INTO {{t}} (id, k, changed) VALUES ({number}, {value}, {NOW})")
    world.sql(f"INSERT INTO {{t}} (id, k, changed) VALUES (9, NULL, {NOW})")
    missing = initial_load.missing_ranges(world.job())
    assert len(missing) == 3
    for number in reversed(missing):
        assert initial_load.copy_range(world.job(), number)["rows"] > 0
    initial_load.finish(world.job())
    assert sorted(world.bronze_table().column("id").to_pylist()) == list(range(10))
    world.sql(f"INSERT INTO {{t}} (id, changed) VALUES (10, {NOW})")
    assert world.step()["rows"] == 1, "the next read goes on behind the load"
