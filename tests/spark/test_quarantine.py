"""Files that silver can't read with the others: put aside by name, and replayed as if in time."""

from __future__ import annotations

import json
from pathlib import Path

import life as lives
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from tiny_lake import KEYS, TinyLake, artist, job, user

from tidemark.layout import Lake
from tidemark.pending import silver_pending
from tidemark.quarantine import held_files, waiting
from tidemark.replay_command import dismiss
from tidemark.spark.replay import rebuilt, run_replay
from tidemark.spark.silver import TableResult, run_silver
from tidemark.storage import LocalStore, open_store

# The functions that a replay writes by, in the order in which it comes to them.
SITES = [
    ("bronze_stream", "write_schema"),
    ("silver_merge", "_append"),
    ("silver_merge", "_merge"),
    ("quarantine", "_changed"),
]


def replay(lake: TinyLake, *tables: str, beside: str = "", **how: bool) -> dict[str, TableResult]:
    root, rules = str(lake.root), lake.root / "rules"
    return run_replay(lake.spark, root, lake.source, tables, rules, beside=beside, **how)


def store(lake: TinyLake) -> LocalStore:
    found = open_store(str(lake.root))
    assert isinstance(found, LocalStore)
    return found


def with_broken_rows(path: Path) -> bytes:
    """Break a file's rows, and not its end, where its columns stand."""
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(60) + whole[64:])
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
    return whole


def test_broken_files_are_put_aside_and_end_as_if_they_had_come_in_time(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    columns = ("artist_id", "artist_name", "_sequence")
    lake.publish("DimArtist", 1, [artist(1, "a"), artist(2, "b"), artist(3, "c")])
    assert lake.run("DimArtist")["DimArtist"].status == "done"

    halved = lake.publish("DimArtist", 2, [artist(1, "a 2"), artist(9, "nine") | {"more": 7}])
    rotten = lake.publish("DimArtist", 3, [artist(2, "b 3"), artist(3, "c 3")])
    lake.publish("DimArtist", 4, [artist(2, "x") | {"_delete": True}, artist(3, "c 4")])
    kept = {halved: halved.read_bytes(), rotten: with_broken_rows(rotten)}
    halved.write_bytes(kept[halved][: len(kept[halved]) // 2])
    result = lake.run("DimArtist")["DimArtist"]

    names = [halved.name, rotten.name]
    assert (result.status, list(result.quarantined)) == ("failed", names)
    assert result.error is not None
    for part in (*names, "DimArtist: 2 bronze files are in quarantine", "can't be read as Parquet",
                 "tidemark replay spotify --table DimArtist"):  # fmt: skip
        assert part in result.error
    assert lake.current("DimArtist", *columns) == [(1, "a", 1), (3, "c 4", 4)]
    # Moved away it fails no run; brought back, it is not taken for one that was merged.
    elsewhere = halved.rename(tmp_path / halved.name)
    assert list(lake.run("DimArtist")["DimArtist"].quarantined) == [rotten.name]
    elsewhere.rename(halved)
    # It stays so, also without anything new, until somebody decides; and rows go on.
    lake.publish("DimArtist", 5, [artist(4, "d")])
    again = lake.run("DimArtist")["DimArtist"]
    assert (again.rows, list(again.quarantined)) == (1, names)
    assert silver_pending(store(lake), lake.lake, KEYS) == ["DimArtist"]
    still = replay(lake, "DimArtist")["DimArtist"]
    assert (still.status, still.rows, list(still.quarantined)) == ("failed", 0, names)

    for path, content in kept.items():
        path.write_bytes(content)
        path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
    for module, function in SITES:  # stopped before each of its writes, it is run again
        with lives.stopped_at(module, function, before=True) as hit:
            assert f"DimArtist: StoppedError: {function}" in str(replay(lake, "DimArtist"))
        assert hit == [function]
    assert replay(lake, "DimArtist")["DimArtist"].error is None
    assert held_files(store(lake), lake.lake, "DimArtist") == {}
    assert lake.run("DimArtist")["DimArtist"].rows == 0
    assert silver_pending(store(lake), lake.lake, KEYS) == []
    # 1 and 9 came with the first file; 2 was deleted later, 3 was changed later.
    assert lake.current("DimArtist", *columns, "more") == [
        (1, "a 2", 2, None), (3, "c 4", 4, None), (4, "d", 5, None), (9, "nine", 2, 7)
    ]  # fmt: skip
    assert lake.changes("DimArtist", *columns) == [
        (1, "a 2", 2), (1, "a", 1), (2, "b 3", 3), (2, "b", 1), (2, "x", 4),
        (3, "c 3", 3), (3, "c 4", 4), (3, "c", 1), (4, "d", 5), (9, "nine", 2),
    ]  # fmt: skip


def test_a_column_of_another_type_waits_or_is_rescued(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = TinyLake(spark, tmp_path / "lake")
    narrow = {"plays": pa.int32()}
    lake.publish("DimArtist", 1, [artist(1, "a") | {"plays": 5}], narrow)
    lake.publish("DimUser", 1, [user(1, "Ann")])
    lake.run("DimArtist", "DimUser")
    wide = lake.publish("DimArtist", 2, [artist(1, "b") | {"plays": 2**40, "new": "n"},
                                         artist(2, "c") | {"plays": 7}])  # fmt: skip
    text = lake.publish("DimArtist", 3, [artist(3, "d") | {"plays": "9"},
                                         artist(4, "e") | {"plays": "many"}])  # fmt: skip
    key = lake.publish("DimUser", 2, [{"user_id": "two", "user_name": "Ben"}])

    first = lake.run("DimArtist", "DimUser")
    assert first["DimArtist"].quarantined == (wide.name, text.name)
    error = str(first["DimArtist"].error)
    assert f"column plays is bigint in bronze file {wide.name}, but int before; silver" in error
    assert f"column plays is string in bronze file {text.name}, but int before; set" in error
    assert replay(lake, "DimArtist")["DimArtist"].rows == 0

    done = replay(lake, "DimArtist", "DimUser", rescue=True)
    assert (done["DimArtist"].status, done["DimArtist"].rows, done["DimArtist"].rescued) == (
        "done", 4, 2,
    )  # fmt: skip
    assert "column user_id is of the key" in str(done["DimUser"].error)
    found = lake.current("DimArtist", "artist_id", "artist_name", "plays", "new", "_rescued_data")
    assert [row[:4] for row in found] == [
        (1, "b", None, "n"), (2, "c", 7, None), (3, "d", 9, None), (4, "e", None, None)
    ]  # fmt: skip
    rescued = {row[0]: json.loads(row[4]) for row in found if row[4]}
    assert {k: v["plays"] for k, v in rescued.items()} == {1: 2**40, 4: "many"}
    assert rescued[4]["_file_path"].endswith(text.name)

    # A row that fits again has nothing rescued; the key's file is dismissed, its rows read anew.
    lake.publish("DimArtist", 4, [artist(4, "e") | {"plays": 1}], narrow)
    dismiss(store(lake), lake.lake, "spotify", "DimUser", [key.name])
    lake.publish("DimUser", 3, [user(2, "Ben")])
    assert job(lake, monkeypatch) == 0
    assert lake.current("DimArtist", "artist_id", "plays", "_rescued_data")[3] == (4, 1, None)
    assert lake.current("DimUser", "user_id", "user_name") == [(1, "Ann"), (2, "Ben")]

    # Built anew in a folder of its own, all of it ends the same.
    root, rules, beside = str(lake.root), lake.root / "rules", "_tidemark/rebuild/x"
    tables = ["DimArtist", "DimUser"]
    built = run_silver(spark, root, lake.source, tables, rules, beside=beside)
    both = rebuilt(built, replay(lake, *tables, beside=beside, rescue=True))
    assert {r.error for r in both.values()} == {None}
    new = Lake(root, beside)
    for name, one in (("DimArtist", "artist_id"), ("DimUser", "user_id")):
        shown = (one, "_sequence", *(("plays", "_rescued_data") if one == "artist_id" else ()))
        assert lake.read(new.silver(name), *shown) == lake.current(name, *shown)
    assert waiting(held_files(store(lake), new, "DimUser")) == {}
    assert set(held_files(store(lake), new, "DimUser")) == {key.name}
