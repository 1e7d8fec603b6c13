"""Each strategy on a server: what it promises to see reaches bronze, and a gap is never silent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mssql_world import MssqlWorld, Server

from tidemark.extract import sqlserver_rights
from tidemark.extract.source import open_source
from tidemark.plan import plan_table
from tidemark.reconcile import reconcile_table
from tidemark.reconcile.model import Options

Make = Callable[..., MssqlWorld]
DDL = "v int NULL, name nvarchar(50) NULL, changed datetime2(7) NULL"
NOW = "SYSUTCDATETIME()"


def source_state(world: MssqlWorld) -> dict[int, tuple[Any, ...]]:
    assert world.server is not None
    rows = world.server.rows(f"SELECT id, v, name FROM {world.full_name}")
    return {row[0]: tuple(row[1:]) for row in rows}


def settle(world: MssqlWorld) -> dict[str, Any]:
    """Read, and check that bronze says what the source holds."""
    copied = world.step()
    assert world.held("v", "name") == source_state(world)
    return copied


def live(world: MssqlWorld, read: Callable[[MssqlWorld], Any] = settle) -> None:
    """Insert, update with and without the cursor, delete, insert again; read after each."""
    world.sql(f"INSERT INTO {{t}} (id, v, name, changed) VALUES (1, 1, N'é', {NOW})")
    world.sql(f"INSERT INTO {{t}} (id, v, name, changed) VALUES (2, 2, NULL, {NOW})")
    read(world)
    world.sql(f"UPDATE {{t}} SET v = 10, changed = {NOW} WHERE id = 1")
    read(world)
    world.sql("UPDATE {t} SET v = 11 WHERE id = 1")  # the cursor stays
    read(world)
    world.sql("INSERT INTO {t} (id, v, name, changed) VALUES (3, 3, N'c', '2001-01-01')")
    read(world)
    world.sql("DELETE FROM {t} WHERE id = 2")
    read(world)
    world.sql(f"INSERT INTO {{t}} (id, v, name, changed) VALUES (2, 20, N'again', {NOW})")
    world.sql("DELETE FROM {t} WHERE id = 1")
    read(world)
    assert world.step()["rows"] == 0, "nothing changed, nothing published"


def test_snapshot_sees_everything(make: Make) -> None:
    live(make(DDL, {"strategy": "snapshot"}))


def test_watermark_sees_what_moves_the_cursor_and_reconcile_the_rest(make: Make) -> None:
    world = make(DDL, {"strategy": "watermark", "cursor": "changed"})
    world.sql(f"INSERT INTO {{t}} VALUES (1, 1, N'a', {NOW}), (2, 2, N'b', {NOW})")
    settle(world)
    world.sql(f"UPDATE {{t}} SET v = 10, changed = {NOW} WHERE id = 1")
    settle(world)
    world.sql("DELETE FROM {t} WHERE id = 2")
    assert world.step()["rows"] == 0, "a delete is invisible to a watermark; `plan` says so"
    assert "deletes" in " ".join(plan_table(world.job()).cannot_see)


def test_rowversion_sees_inserts_and_updates_whatever_their_times(make: Make) -> None:
    world = make(f"{DDL}, rv rowversion", {"strategy": "rowversion"})
    world.sql("INSERT INTO {t} (id, v, name) VALUES (1, 1, N'a'), (2, 2, N'b')")
    settle(world)
    world.sql("UPDATE {t} SET v = 10 WHERE id = 1")
    assert settle(world)["rows"] == 1
    world.sql("INSERT INTO {t} (id, v, name, changed) VALUES (3, 3, N'c', '2001-01-01')")
    assert settle(world)["rows"] == 1
    assert world.step()["rows"] == 0


def test_rowversion_waits_for_an_open_transaction(make: Make) -> None:
    world = make(f"{DDL}, rv rowversion", {"strategy": "rowversion"})
    world.sql("INSERT INTO {t} (id, v) VALUES (1, 1)")
    settle(world)
    assert world.server is not None
    with world.server.open_transaction() as writer:
        writer.exec_driver_sql(f"INSERT INTO {world.full_name} (id, v) VALUES (2, 2)")
        world.sql("INSERT INTO {t} (id, v) VALUES (3, 3)")
        copied = world.step()
        assert "holds the bound" in (copied["note"] or "")
        writer.commit()
    settle(world)
    assert sorted(world.held("v")) == [1, 2, 3]


def test_a_rowversion_above_the_servers_is_a_restore(make: Make) -> None:
    world = make(f"{DDL}, rv rowversion", {"strategy": "rowversion"})
    world.sql("INSERT INTO {t} (id, v) VALUES (1, 1)")
    settle(world)
    rewrite(world, "0x7FFFFFFFFFFFFFFF")
    copied = settle(world)
    assert copied["anew"]
    assert "restore" in copied["note"]


def rewrite(world: MssqlWorld, position: str) -> None:
    """Let the state claim another position than the last read's."""
    path = Path(world.lake.root) / world.lake.state_file(world.name)
    content = json.loads(path.read_text())
    text = json.dumps(content)
    for value in world.positions():
        text = text.replace(json.dumps(value), json.dumps(position))
    path.write_text(text)


@pytest.fixture
def tracked(make: Make, server: Server) -> MssqlWorld:
    """Make a table under change tracking, or skip."""
    is_on = server.rows(
        "SELECT COUNT(*) FROM sys.change_tracking_databases WHERE database_id = DB_ID()"
    )
    if is_on == [(0,)]:
        turn_on = "ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 2 DAYS)"
        if refusal := server.refusal(turn_on):
            pytest.skip(f"no change tracking here: {refusal}")
    world = make(DDL, {"strategy": "change_tracking"})
    if refusal := server.refusal(f"ALTER TABLE {world.full_name} ENABLE CHANGE_TRACKING"):
        pytest.skip(f"no change tracking here: {refusal}")
    return world


def test_change_tracking_sees_everything(tracked: MssqlWorld) -> None:
    live(tracked)


def test_a_gap_of_change_tracking_is_a_full_reload(tracked: MssqlWorld) -> None:
    tracked.sql("INSERT INTO {t} (id, v) VALUES (1, 1), (2, 2)")
    settle(tracked)
    tracked.sql("DELETE FROM {t} WHERE id = 2")
    tracked.sql("ALTER TABLE {t} DISABLE CHANGE_TRACKING", "ALTER TABLE {t} ENABLE CHANGE_TRACKING")
    copied = settle(tracked)
    assert copied["anew"]
    assert copied["deleted"] == 1, "nor is there a ghost"


def test_a_login_without_the_grant_is_told(tracked: MssqlWorld) -> None:
    with open_source(tracked.job().url, tracked.table) as source:
        recorded = sqlserver_rights.records(source.connection, tracked.table)
        assert "change_tracking" in recorded.offered
        assert "change_tracking" not in recorded.withheld


@pytest.fixture
def captured(make: Make, server: Server) -> MssqlWorld:
    """Make a table under change data capture, or skip."""
    if server.rows("SELECT OBJECT_ID(N'cdc.change_tables')") == [(None,)] and (
        refusal := server.refusal("EXEC sys.sp_cdc_enable_db")
    ):
        pytest.skip(f"no CDC here: {refusal}")
    world = make(DDL, {"strategy": "cdc"})
    schema, name = world.table.schema_, world.table.name
    enable = (
        f"EXEC sys.sp_cdc_enable_table @source_schema = N'{schema}', @source_name = N'{name}', "
        "@role_name = NULL"
    )
    if refusal := server.refusal(enable):
        pytest.skip(f"no CDC here: {refusal}")
    return world


def caught_up(world: MssqlWorld) -> None:
    """Wait until the capture has come up to the table, then read."""
    assert world.server is not None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # Where no job captures, this does it; where one does, it is refused.
        world.server.refusal("EXEC sys.sp_cdc_scan")
        world.step()
        if world.held("v", "name") == source_state(world):
            return
        time.sleep(1)
    pytest.skip("nothing captures here: is SQL Server Agent running?")


def test_cdc_sees_everything(captured: MssqlWorld) -> None:
    live(captured, caught_up)


def test_reconcile_finds_and_repairs_on_a_server(make: Make) -> None:
    world = make(DDL, {"strategy": "watermark", "cursor": "changed"})
    world.sql(f"INSERT INTO {{t}} VALUES (1, 1, N'a', {NOW}), (2, 2, N'b', {NOW})")
    world.step()
    world.sql("UPDATE {t} SET v = 7 WHERE id = 1", "DELETE FROM {t} WHERE id = 2")
    result = reconcile_table(world.job(), Options(repair=True))
    assert sum(result.counts.values()) == 2
    assert world.held("v", "name") == source_state(world)
    assert not any(reconcile_table(world.job(), Options()).counts.values())


def test_a_slice_of_time_is_read_again(make: Make) -> None:
    world = make(DDL, {"strategy": "watermark", "cursor": "changed"})
    world.sql("INSERT INTO {t} VALUES (1, 1, N'a', '2026-01-01 10:00'), (2, 2, N'b', '2026-02-01')")
    world.step()
    world.sql("UPDATE {t} SET v = 5 WHERE id = 1")  # back-dated: the cursor stays
    assert world.step()["rows"] == 0
    before = world.state_cdc()
    copied = world.slice("2026-01-01", "2026-01-02")
    assert copied["rows"] == 1
    assert world.held("v")[1] == (5,)
    assert world.state_cdc() == before
