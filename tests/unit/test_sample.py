"""The sample source: the same rows each time, and changes that are what they claim to be."""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tidemark import sample
from tidemark.errors import SourceError, SourceUnavailable
from tidemark.sample.changes import Kind
from tidemark.sample.data import QUARTER_HOURS, initial_rows

Rows = dict[int, dict[str, object]]
REAL = Path(__file__).parents[3] / "shared/data/spotify"
COUNTS = {"DimUser": 500, "DimArtist": 500, "DimTrack": 500, "DimDate": 365, "FactStream": 1_000}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GOLDEN = {
    1: "05d198c8909a95d7",
    2: "f42981a9453fcb7b",
}
"""Digests of the source after a step. A change here changes every figure shown to users."""


def rows(path: Path, name: str) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        key = sample.SCHEMA[name].key
        return {row[key]: dict(row) for row in connection.execute(f"SELECT * FROM {name}")}


def dump(path: Path) -> list[object]:
    """Everything that the file says: the declarations, every row with its types, the step."""
    with closing(sqlite3.connect(path)) as connection:
        said: list[object] = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"
        ).fetchall()
        for name, table in sample.SCHEMA.items():
            said += connection.execute(f"SELECT * FROM {name} ORDER BY {table.key}").fetchall()
        return [*said, connection.execute("PRAGMA user_version").fetchone()]


def digest(path: Path) -> str:
    return hashlib.sha256(repr(dump(path)).encode()).hexdigest()[:16]


def moment(value: object) -> datetime:
    return datetime.fromisoformat(str(value))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "spotify.db"
    sample.create(path)
    return path


# --- the initial state


def test_create_counts_and_replaces_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "spotify.db"
    assert sample.create(path) == COUNTS
    first = dump(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM DimUser")
    Path(f"{path}-journal").write_bytes(b"left by a killed writer")
    assert sample.create(path) == COUNTS
    assert dump(path) == first
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_create_leaves_the_old_source_to_who_reads_it(source: Path) -> None:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reader:
        sample.advance(source, 2)
        reader.execute("BEGIN")
        assert reader.execute("SELECT COUNT(*) FROM DimUser").fetchone() == (513,)
        sample.create(source)
        assert reader.execute("SELECT COUNT(*) FROM DimUser").fetchone() == (513,)
    assert len(rows(source, "DimUser")) == 500


def test_content_is_golden(source: Path) -> None:
    assert digest(source) == GOLDEN[1]
    sample.advance(source, 2)
    assert digest(source) == GOLDEN[2]


def test_declared_types_keys_and_journal(source: Path) -> None:
    with closing(sqlite3.connect(source)) as connection:
        for name, table in sample.SCHEMA.items():
            declared = connection.execute(f"PRAGMA table_info({name})").fetchall()
            assert {row[1]: row[2] for row in declared} == table.columns
            assert [row[1] for row in declared if row[5]] == [table.key]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.mark.parametrize("name", ["DimUser", "DimArtist", "DimTrack", "FactStream"])
def test_cursors_spread_over_december(source: Path, name: str) -> None:
    cursors = [moment(row[sample.SCHEMA[name].cursor]) for row in rows(source, name).values()]
    assert moment("2025-12-01") <= min(cursors)
    assert max(cursors) == moment("2025-12-01") + timedelta(minutes=15 * (QUARTER_HOURS - 1))
    per_day = [sum(at.day == day for at in cursors) for day in range(1, 32)]
    assert min(per_day) >= 5


def test_calendar_is_2025(source: Path) -> None:
    calendar = list(rows(source, "DimDate").values())
    assert calendar[0] == {
        "date_key": 20250101,
        "date": "2025-01-01",
        "day": 1,
        "month": 1,
        "year": 2025,
        "weekday": "Wednesday",
    }
    assert calendar[-1]["date_key"] == 20251231
    assert all(
        str(row["date"]).replace("-", "") == str(key)
        for key, row in rows(source, "DimDate").items()
    )


def test_rows_hold_what_the_rules_act_on(source: Path) -> None:
    users, artists, tracks = (
        list(rows(source, name).values()) for name in ("DimUser", "DimArtist", "DimTrack")
    )
    user_names = [str(user["user_name"]) for user in users]
    assert any(name.startswith(" ") for name in user_names)
    assert any(name.endswith(" ") for name in user_names)
    assert {user["end_date"] is None for user in users} == {True, False}
    assert any(not str(artist["artist_name"]).isascii() for artist in artists)
    assert any(set(str(artist["artist_name"])) & set("★♫™|") for artist in artists)
    assert any("-" in str(track["track_name"]) for track in tracks)
    assert {149, 150, 299, 300} <= {track["duration_sec"] for track in tracks}


# --- the steps


KINDS: tuple[Kind, ...] = ("inserts", "updates", "ties", "late", "back_dated", "deletes")


def cursor_of(row: dict[str, object], name: str) -> datetime:
    return moment(row[sample.SCHEMA[name].cursor])


@pytest.mark.parametrize("step", [2, 3])
def test_each_kind_is_what_it_claims(source: Path, step: int) -> None:
    for earlier in range(2, step):
        sample.advance(source, earlier)
    before = {name: rows(source, name) for name in COUNTS}
    changes = sample.advance(source, step)
    assert changes.step == step
    for name, old in before.items():
        new, keys = rows(source, name), changes.keys[name]
        cursor = sample.SCHEMA[name].cursor
        high = max(cursor_of(row, name) for row in old.values())

        def at(key: int, new: Rows = new, name: str = name) -> datetime:
            return cursor_of(new[key], name)

        for key in keys["inserts"]:
            assert key not in old
            assert at(key) > high
        for key in keys["updates"]:
            assert at(key) > high
            assert differs(old[key], new[key], cursor)
        for key in keys["ties"]:
            assert key not in old
            assert at(key) == high
        for key in keys["late"]:
            assert key not in old
            assert high - HOUR <= at(key) < high or at(key) <= high - 2 * DAY
        for key in keys["back_dated"]:
            assert at(key) <= high - 2 * DAY
            assert at(key) <= cursor_of(old[key], name)
            assert differs(old[key], new[key], cursor)
        assert set(keys["deletes"]) == set(old) - set(new)
        said = [key for kind in KINDS for key in keys[kind]]
        assert len(said) == len(set(said))
        assert set(said) == {k for k in {*old, *new} if old.get(k) != new.get(k)}


def differs(old: dict[str, object], new: dict[str, object], cursor: str) -> bool:
    return any(old[name] != new[name] for name in old if name != cursor)


def test_back_dated_rows_keep_their_cursor_or_move_it_back(source: Path) -> None:
    before = rows(source, "FactStream")
    changed = sample.advance(source, 2).keys["FactStream"]["back_dated"]
    after = rows(source, "FactStream")
    moves = [
        cursor_of(before[key], "FactStream") - cursor_of(after[key], "FactStream")
        for key in changed
    ]
    assert sorted(moves) == [timedelta(0), DAY]


def test_a_watermark_with_a_lookback_sees_some_of_the_late_rows(source: Path) -> None:
    high = {
        name: max(cursor_of(row, name) for row in rows(source, name).values()) for name in COUNTS
    }
    changes = sample.advance(source, 2)
    seen = {
        name: sum(
            cursor_of(row, name) >= high[name] - HOUR
            for key, row in rows(source, name).items()
            if any(key in keys for keys in changes.keys[name].values())
        )
        for name in COUNTS
    }
    assert seen == {"DimUser": 49, "DimArtist": 29, "DimTrack": 38, "DimDate": 7, "FactStream": 42}
    assert sum(seen.values()) == 165


def test_counts_and_summary(source: Path) -> None:
    changes = sample.advance(source, 2)
    assert changes.summary() == ("35 new, 100 updates, 14 ties, 31 late, 6 back-dated, 4 deletes")
    assert changes.total == dict(zip(KINDS, (35, 100, 14, 31, 6, 4), strict=True))
    assert changes.per_table["FactStream"] == dict(zip(KINDS, (16, 12, 6, 16, 2, 3), strict=True))
    assert {name: len(rows(source, name)) for name in COUNTS} == {
        name: COUNTS[name] + sum(per[kind] for kind in ("inserts", "ties", "late")) - per["deletes"]
        for name, per in changes.per_table.items()
    }
    with pytest.raises(FrozenInstanceError):
        changes.step = 3  # type: ignore[misc]


def test_the_user_of_the_examples_has_a_history(source: Path) -> None:
    assert 7 in sample.advance(source, 2).keys["DimUser"]["updates"]


def test_calendar_goes_on(source: Path) -> None:
    assert sample.advance(source, 2).keys["DimDate"]["inserts"] == tuple(range(20260101, 20260108))


def test_step_1_is_create(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    changes = sample.advance(other, 1)
    assert dump(other) == dump(source)
    assert changes.total["inserts"] == sum(COUNTS.values())
    assert changes.keys["DimUser"]["inserts"] == tuple(range(1, 501))


@pytest.mark.parametrize(
    ("done", "step", "message"),
    [
        (2, 2, r"step 2 is already applied \(the source is at step 2\).*--step 3"),
        (3, 2, r"step 2 is already applied \(the source is at step 3\).*--step 4"),
        (1, 4, r"step 4 follows step 3, but the source is at step 1; run .*--step 2"),
    ],
)
def test_a_step_out_of_order_is_refused(source: Path, done: int, step: int, message: str) -> None:
    for earlier in range(2, done + 1):
        sample.advance(source, earlier)
    before = dump(source)
    with pytest.raises(SourceError, match=message):
        sample.advance(source, step)
    assert dump(source) == before


def test_a_step_needs_a_source(tmp_path: Path) -> None:
    missing = tmp_path / "spotify.db"
    with pytest.raises(SourceError, match="no sample source there"):
        sample.advance(missing, 2)
    assert not missing.exists()
    with closing(sqlite3.connect(missing)) as connection, connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    with pytest.raises(SourceError, match="is no sample source"):
        sample.advance(missing, 2)


def test_a_step_needs_rows_to_change_and_leaves_all_tables_as_they_were(source: Path) -> None:
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("DELETE FROM FactStream WHERE stream_id > 10")
    before = dump(source)
    with pytest.raises(SourceError, match=r"FactStream: 10 rows.* too few"):
        sample.advance(source, 2)
    assert dump(source) == before


def test_a_held_source_is_unavailable_and_another_file_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(source, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        # Only the patience is shortened: SQLite waits five seconds by default.
        monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
        with pytest.raises(SourceUnavailable, match="another process holds it"):
            sample.advance(source, 2)
    text = tmp_path / "notes.db"
    text.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(SourceError, match=r"notes\.db: SQLite says: file is not a database"):
        sample.advance(text, 2)


# --- CSV files


def write_csv(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_bytes(text.encode())
    return folder


def generated(folder: Path) -> tuple[Path, Path]:
    """CSV folders of the real sample's shape: all rows, then repeated keys with older cursors."""
    for part in ("initial", "incremental"):
        for name, table in sample.SCHEMA.items():
            lines = [",".join(table.columns)]
            for row in list(initial_rows(name))[: None if part == "initial" else 50]:
                values = dict(zip(table.columns, row, strict=True))
                if part == "incremental":
                    values |= {} if name == "DimDate" else {table.cursor: "2025-09-14 19:49:56"}
                lines.append(",".join("" if v is None else f'"{v}"' for v in values.values()))
            write_csv(folder / part, **{name: "\n".join(lines) + "\n"})
    return folder / "initial", folder / "incremental"


def real(_: Path) -> tuple[Path, Path]:
    return REAL / "initial", REAL / "incremental"


def oracle(*folders: Path) -> dict[str, dict[str, list[str]]]:
    """The rows that CSV files leave, read without the csv module's or our own reader's help."""
    state: dict[str, dict[str, list[str]]] = {name: {} for name in sample.SCHEMA}
    for folder in folders:
        for name, held in state.items():
            if (folder / f"{name}.csv").is_file():
                for line in (folder / f"{name}.csv").read_text("utf-8").splitlines()[1:]:
                    values = [value.strip('"') for value in line.split(",")]
                    held[values[0]] = values
    return state


@pytest.mark.parametrize("folders", [generated, *([real] if REAL.is_dir() else [])])
def test_csv_folders_load_one_after_the_other(
    tmp_path: Path, folders: Callable[[Path], tuple[Path, Path]]
) -> None:
    initial, incremental = folders(tmp_path / "csv")
    path = tmp_path / "home" / "spotify.db"
    assert sample.load_csv(path, initial) == COUNTS
    loaded = sample.load_csv(path, incremental)
    assert loaded["FactStream"] == len(oracle(incremental)["FactStream"])
    for name, expected in oracle(initial, incremental).items():
        got = {
            str(key): ["" if value is None else str(value) for value in row.values()]
            for key, row in rows(path, name).items()
        }
        assert got == expected
    assert sample.advance(path, 2).total["inserts"] == 35


def test_what_is_loaded_back_is_what_was_created(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.db"
    sample.load_csv(path, generated(tmp_path / "csv")[0])
    assert dump(path) == dump(source)


def test_a_row_inserts_or_updates_and_the_last_one_wins(source: Path, tmp_path: Path) -> None:
    folder = write_csv(
        tmp_path / "csv",
        DimUser="\ufeffuser_id,country,end_date,updated_at\r\n"
        "900,Chile,,2026-01-01T10:00:00\r\n"
        "8,Chad,2025-01-02,2026-01-01 10:00:00.5\r\n"
        "\r\n"
        '8,"Chile, the long one",,2025-01-01 10:00:00\r\n',
        Unrelated="a,b\n1,2\n",
    )
    before = rows(source, "DimUser")
    assert sample.load_csv(source, folder) == {"DimUser": 3}
    after = rows(source, "DimUser")
    assert after[8] == before[8] | {
        "country": "Chile, the long one",
        "end_date": None,
        "updated_at": "2025-01-01 10:00:00",
    }
    assert after[900] == dict.fromkeys(before[8]) | {
        "user_id": 900,
        "country": "Chile",
        "updated_at": "2026-01-01 10:00:00",
    }
    assert {k: row for k, row in after.items() if k not in (8, 900)} == {
        k: row for k, row in before.items() if k != 8
    }


def test_fractions_of_a_second_are_kept_and_sort_as_text(source: Path, tmp_path: Path) -> None:
    text = "stream_id,stream_timestamp\n1,2026-01-01 10:00:00.5\n2,2026-01-01 10:00:00.123456\n"
    sample.load_csv(source, write_csv(tmp_path / "csv", FactStream=text))
    stored = rows(source, "FactStream")
    assert stored[1]["stream_timestamp"] == "2026-01-01 10:00:00.500000"
    assert stored[2]["stream_timestamp"] == "2026-01-01 10:00:00.123456"


ERRORS = [
    ("user_id,contry\n1,Chad\n", r"line 1: DimUser has no column 'contry'; did you mean 'country'"),
    ("user_id,x9\n1,Chad\n", r"line 1: DimUser has no column 'x9'; it has user_id, user_name"),
    ("country\nChad\n", r"line 1: the key column 'user_id' is missing in \['country'\]; add it"),
    ("", r"line 1: the key column 'user_id' is missing in \[\]"),
    ("user_id,country,country\n1,a,b\n", r"line 1: column 'country' is there twice"),
    ("user_id,country\n1,a\n,b\n", r"line 3, column 'user_id': the key is empty"),
    ("user_id\n1\n1.5\n", r"line 3, column 'user_id': '1.5' is not an integer.*such as 42"),
    ("user_id\n9223372036854775808\n", r"line 2, column 'user_id': '9223372036854775808' is not"),
    ("user_id\n٣\n", r"line 2, column 'user_id': '٣' is not an integer"),
    ("user_id,end_date\n1,01/02/2025\n", r"line 2, column 'end_date': '01/02/2025' is not a date"),
    ("user_id,end_date\n1,20250102\n", r"line 2, column 'end_date': '20250102' is not a date"),
    ("user_id,end_date\n1,2025-02-30\n", r"line 2, column 'end_date': '2025-02-30' is not a date"),
    ("user_id,updated_at\n1,2025-01-02\n", r"column 'updated_at': '2025-01-02' is not a timestamp"),
    ("user_id,updated_at\n1,2025-01-02 10:00:00+01:00\n", r"\+01:00' is not a timestamp; .*UTC"),
    ("user_id,updated_at\n1,2025-01-02 10:00:00.1234567\n", r"'.*1234567' is not a timestamp"),
    ("user_id,country\n1,a\n2\n", r"line 3: 1 values \['2'\] for 2 columns"),
    ('user_id,country\n1,"a\nb"\n2,a,b\n', r"line 4: 3 values \['2', 'a', 'b'\] for 2 columns"),
    ('user_id,country\n1,"a"b\n', r"line 2: .*; mend its quotes"),
    ('user_id,country\n1,"a\n', r"line 2: .*; mend its quotes"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_a_bad_file_is_named_and_nothing_is_loaded(
    source: Path, tmp_path: Path, text: str, message: str
) -> None:
    good = "artist_id,genre\n1,Nothing\n"
    folder = write_csv(tmp_path / "csv", DimArtist=good, DimUser=text)
    before = dump(source)
    with pytest.raises(SourceError, match=rf"DimUser\.csv, .*{message}") as raised:
        sample.load_csv(source, folder)
    assert str(folder / "DimUser.csv") in str(raised.value)
    assert dump(source) == before
    with pytest.raises(SourceError):
        sample.load_csv(tmp_path / "none.db", folder)
    assert not (tmp_path / "none.db").exists()


def test_bytes_that_are_not_utf8_are_named(source: Path, tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv")
    (folder / "DimUser.csv").write_bytes(b"\xef\xbb\xbfuser_id,country\n1,Chad\n2,Per\xfa\n")
    with pytest.raises(SourceError, match=r"DimUser\.csv, line 3: byte 0xFA is not UTF-8"):
        sample.load_csv(source, folder)


def test_sqlite_refusing_a_later_table_undoes_the_earlier(source: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("ALTER TABLE FactStream RENAME COLUMN device_type TO device")
    before = [rows(source, name) for name in COUNTS]
    folder = write_csv(
        tmp_path / "csv",
        DimUser="user_id,country\n1,Chad\n",
        FactStream="stream_id,device_type\n1,TV\n",
    )
    with pytest.raises(SourceError, match="no column named device_type"):
        sample.load_csv(source, folder)
    assert [rows(source, name) for name in COUNTS] == before


def test_a_folder_must_be_there_and_hold_a_file(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        sample.load_csv(source, tmp_path / "absent")
    with pytest.raises(SourceError, match=r"none of DimUser\.csv, .* is there"):
        sample.load_csv(source, write_csv(tmp_path / "csv", Users="user_id\n1\n"))


# --- the command


def command(home: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    sample.add_arguments(parser)
    return sample.run(parser.parse_args(words), home)


def test_command_makes_changes_and_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sample.default_path(tmp_path)
    assert path == tmp_path / "source" / "spotify.db"
    assert command(tmp_path) == 0
    first = capsys.readouterr().out
    assert "FactStream         1,000" in first
    assert "replaces" not in first
    assert command(tmp_path, "--step", "2") == 0
    assert "35 new, 100 updates, 14 ties" in capsys.readouterr().out
    folder = write_csv(tmp_path / "csv", DimDate="date_key,date\n20270101,2027-01-01\n")
    assert command(tmp_path, "--from", str(folder)) == 0
    assert "DimDate                1" in capsys.readouterr().out
    assert 20270101 in rows(path, "DimDate")
    assert command(tmp_path) == 0
    assert "this replaces the file that was there" in capsys.readouterr().out
    assert digest(path) == GOLDEN[1]


def test_dry_run_tells_the_same_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, folder = tmp_path / "home", write_csv(tmp_path / "csv", DimUser="user_id\n900\n")
    assert command(home, "--dry-run") == 0
    assert command(home, "--from", str(folder), "--dry-run") == 0
    assert not home.exists()
    command(home)
    before = sample.default_path(home).read_bytes()
    capsys.readouterr()
    assert command(home, "--step", "2", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "would apply step 2" in told
    assert command(home, "--dry-run") == 0
    assert command(home, "--from", str(folder), "--dry-run") == 0
    assert sample.default_path(home).read_bytes() == before
    capsys.readouterr()
    command(home, "--step", "2")
    assert capsys.readouterr().out.splitlines()[:-1] == told.splitlines()[:-1]


@pytest.mark.parametrize(
    "words", [("--step", "2", "--from", "x"), ("--step", "0"), ("--step", "b")]
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        command(tmp_path, *words)


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"spotify\.db: can't be written: .*--path"):
        sample.create(tmp_path / "file" / "spotify.db")
    with pytest.raises(SourceError, match=r"spotify\.db: its folder can't be made: .*--path"):
        sample.load_csv(
            tmp_path / "file" / "spotify.db",
            write_csv(tmp_path / "csv", DimUser="user_id\n1\n"),
        )
