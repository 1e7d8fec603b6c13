"""What a database's change log gives, through landing into bronze; SQLite plays the log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from core_harness import World, make_world

from tidemark.extract import watermark
from tidemark.extract.strategy import SOURCE_SEQUENCE, Ask, ReadPlan, whole_table

LOG = """
SELECT 1 AS user_id, 'a' AS user_name, NULL AS updated_at,
       'insert' AS _operation, '0x01' AS _source_sequence, 0 AS _version
UNION ALL SELECT 1, 'b', NULL, 'update', '0x02', 1
UNION ALL SELECT 2, 'x', NULL, 'insert', '0x03', 0
UNION ALL SELECT 1, NULL, NULL, 'delete', '0x04', 2
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, fields="strategy: watermark")


def planned(monkeypatch: pytest.MonkeyPatch, plan: Any) -> None:
    monkeypatch.setattr(watermark, "plan", plan)


def test_every_version_of_a_log_keeps_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ReadPlan(sa.text(LOG), "the log", position={"lsn": "0x04"})
    planned(monkeypatch, lambda _: log)
    copied = world.run()
    assert (copied["rows"], copied["deleted"]) == (4, 1)
    rows = [row for row in world.bronze() if row["user_id"] == 1]
    assert [row["_operation"] for row in rows] == ["insert", "update", "delete"]
    assert [row["_source_sequence"] for row in rows] == ["0x01", "0x02", "0x04"]
    first = rows[0]["_sequence"]
    steps = [row["_sequence"] - first for row in rows]
    assert steps == [timedelta(microseconds=i) for i in range(3)]
    assert [row["user_name"] for row in world.replay().values()] == ["x"]
    assert world.state.position == {"lsn": "0x04"}


def test_an_empty_read_of_a_log_stores_how_far_it_came(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(monkeypatch, lambda _: ReadPlan(sa.text(LOG), "the log", position={"lsn": "0x04"}))
    world.run()
    planned(monkeypatch, lambda _: ReadPlan(None, "nothing to read", position={"lsn": "0x09"}))
    assert world.run()["rows"] == 0
    assert world.state.position == {"lsn": "0x09"}


def test_a_full_reload_deletes_what_is_gone_and_says_why_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = sa.literal_column("'0x0A'", sa.String()).label(SOURCE_SEQUENCE)
    asks: list[Ask] = []

    def reload(ask: Ask) -> ReadPlan:
        asks.append(ask)
        return whole_table(ask, {"lsn": "0x0A"}, "the log was cleaned up", None, number)

    planned(monkeypatch, reload)
    world.put((1, "a", None), (2, "b", None))
    assert world.run()["note"] is None, "the first read of all is no event"
    world.sql("DELETE FROM DimUser WHERE user_id = 2")
    copied = world.run()
    assert copied["note"] == "read whole: table DimUser: the log was cleaned up"
    newest = {row["user_id"]: row for row in world.bronze()}
    assert (newest[1]["_operation"], newest[1]["_source_sequence"]) == ("upsert", "0x0A")
    assert (newest[2]["_operation"], newest[2]["_source_sequence"]) == ("delete", None)
    assert asks[-1].position == {"lsn": "0x0A"}
