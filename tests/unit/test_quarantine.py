"""What is known of files in quarantine, and what `tidemark replay` does about it without Spark."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import quarantine_race

from tidemark.cli import main
from tidemark.errors import PipelineError, ReadOvertaken, StateError
from tidemark.layers_lock import as_a_rebuild
from tidemark.layout import Lake
from tidemark.metadata import load_source
from tidemark.quarantine import Held, change, decide, held_files, hold, judged, told, waiting
from tidemark.rebuild import survey
from tidemark.replay_command import dismiss
from tidemark.storage import Content, LocalStore

FILES = [f"DimUser_2026010{day}T000000000000Z.parquet" for day in (1, 2, 3)]
TABLES = "{DimUser: {key: user_id}, DimDate: {key: date_key}}"
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake, store = Lake(str(tmp_path)), LocalStore(tmp_path)
    for file in FILES:
        store.write(f"bronze/DimUser/{file}", b"half")
    reasons = {FILES[1]: "DimUser: broken one", FILES[2]: "DimUser: broken two"}
    change(store, lake, "DimUser", lambda now: hold(now, reasons))
    return lake


@pytest.fixture
def command(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    root = Path(lake.root)
    (root / "shop.yaml").write_text(f"source: {{connection: c}}\ntables: {TABLES}\n")
    monkeypatch.setenv("TIDEMARK_CONFIG", lake.root)
    monkeypatch.setenv("TIDEMARK_LAKE", lake.root)

    def call(*words: str) -> tuple[int, str]:
        code = main(["replay", "shop", *words])
        output = capsys.readouterr()
        return code, output.out + output.err

    return call


def test_what_was_decided_is_kept_and_the_rest_waits(lake: Lake) -> None:
    store = LocalStore(Path(lake.root))
    held = held_files(store, lake, "DimUser")
    assert list(waiting(held)) == FILES[1:]
    assert len({h.token for h in held.values()}) == 2
    change(store, lake, "DimUser", lambda now: decide(now, [FILES[1]], "dismissed"))
    assert list(waiting(held_files(store, lake, "DimUser"))) == [FILES[2]]
    # Where silver is built anew, what waits is judged again; what was decided is not.
    beside = replace(lake, beside="_tidemark/rebuild/x")
    assert set(held_files(store, beside, "DimUser")) == {FILES[1]}
    assert held_files(store, lake, "DimDate") == {}
    # Kept with what is built, or it would be gone when that is swapped in.
    assert store.read(beside.quarantined_files("DimUser")) is None
    change(store, beside, "DimUser", dict)
    assert store.read(beside.quarantined_files("DimUser")) is not None
    change(store, beside, "DimDate", dict)
    assert store.read(beside.quarantined_files("DimDate")) is None


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    quarantine_race.assert_nothing_is_lost(str(tmp_path / "lake"), dict(os.environ))


def test_a_change_is_made_anew_when_another_writer_was_faster_but_not_for_ever(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path = LocalStore(Path(lake.root)), lake.quarantined_files("DimUser")

    def interrupted(now: Mapping[str, Held]) -> Mapping[str, Held]:
        if "late" not in now:  # a run holds another file between the look and the write
            change(store, lake, "DimUser", lambda here: hold(here, {"late": ""}))
        return decide(now, [FILES[1]], "dismissed")

    found = change(store, lake, "DimUser", interrupted)
    assert found == held_files(store, lake, "DimUser")
    assert {n: h.decision for n, h in found.items()} == {
        FILES[1]: "dismissed", FILES[2]: "waiting", "late": "waiting"
    }  # fmt: skip

    def always(now: Mapping[str, Held]) -> Mapping[str, Held]:
        store.write(path, (store.read(path) or Content(b"", "")).data + b" ")
        return decide(now, now, "dismissed")

    monkeypatch.setattr("tidemark.storage._PAUSE_SECONDS", 0)
    with pytest.raises(ReadOvertaken, match=rf"^{path}: 20 other writers .* nothing was written"):
        change(store, lake, "DimUser", always)
    assert held_files(store, lake, "DimUser") == found


def test_what_was_decided_while_a_run_looked_at_the_files_stands() -> None:
    before = hold({}, dict.fromkeys("abcd", "broken"))
    now = decide(decide(before, ["a"], "dismissed"), ["b"], "rescued")
    # Of a and c the run says that they are broken, of b and d that they are not.
    after = judged(now, "abcd", {"a": "broken still", "c": "broken still"})
    assert {n: (h.decision, h.reason) for n, h in after.items()} == {
        "a": ("dismissed", "broken"), "b": ("rescued", "broken"), "c": ("waiting", "broken still")
    }  # fmt: skip
    assert judged(now, "", {}) == now


def test_only_what_still_waits_is_dismissed(lake: Lake) -> None:
    store = LocalStore(Path(lake.root))
    change(store, lake, "DimUser", lambda now: decide(now, [FILES[1]], "rescued"))
    # Both waited when the command asked; of one a replay has merged the rows since.
    assert list(dismiss(store, lake, "shop", "DimUser", FILES)) == [FILES[2]]
    held = held_files(store, lake, "DimUser")
    assert [held[file].decision for file in FILES[1:]] == ["rescued", "dismissed"]


def test_a_rebuild_is_not_left_without_what_is_dismissed(lake: Lake) -> None:
    store = LocalStore(Path(lake.root))
    before = held_files(store, lake, "DimUser")
    with (
        as_a_rebuild(lake, "shop"),
        pytest.raises(PipelineError, match=r"shop: process .* is rebuilding"),
    ):
        dismiss(store, lake, "shop", "DimUser", FILES)
    assert held_files(store, lake, "DimUser") == before


def test_the_message_names_files_reasons_and_commands(lake: Lake) -> None:
    held = waiting(held_files(LocalStore(Path(lake.root)), lake, "DimUser"))
    text = told("shop", "DimUser", held)
    parts = (
        "DimUser: 2 bronze files are in quarantine",
        "DimUser: broken one",
        "DimUser: broken two",
        "tidemark replay shop --table DimUser",
        "--dismiss",
    )
    for part in parts:
        assert part in text
    assert "1 bronze file is in" in told("shop", "DimUser", {FILES[1]: held[FILES[1]]})


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"a": {"reason": "r"}}'])
def test_a_spoilt_list_is_named(lake: Lake, data: bytes) -> None:
    store = LocalStore(Path(lake.root))
    store.write(lake.quarantined_files("DimUser"), data)
    with pytest.raises(StateError, match=r"_quarantine\.json: can't be read .*; remove it"):
        held_files(store, lake, "DimUser")


def test_a_dry_run_tells_what_waits_and_why(lake: Lake, command: Command) -> None:
    before = LocalStore(Path(lake.root)).read(lake.quarantined_files("DimUser"))
    code, said = command("--dry-run")
    assert code == 0
    assert all(part in said for part in (*FILES[1:], "broken one", "broken two", "dry run"))
    code, said = command("--dry-run", "--file", FILES[2])
    assert (FILES[1] in said, FILES[2] in said) == (False, True)
    assert command("--table", "DimDate") == (0, "shop: nothing waits in quarantine\n")
    code, said = command("--file", FILES[0])
    assert code == 1
    assert f"file '{FILES[0]}' waits in no quarantine; did you mean" in said
    assert LocalStore(Path(lake.root)).read(lake.quarantined_files("DimUser")) == before


def test_what_is_dismissed_waits_no_more_and_no_rebuild_reads_it(
    lake: Lake, command: Command
) -> None:
    store = LocalStore(Path(lake.root))
    code, said = command("--dismiss", "--file", FILES[2])
    assert (code, f"{FILES[2]} is dismissed: it stays in bronze" in said) == (0, True)
    held = held_files(store, lake, "DimUser")
    assert {name: h.decision for name, h in held.items()} == {
        FILES[1]: "waiting", FILES[2]: "dismissed"
    }  # fmt: skip
    tables = load_source(Path(lake.root) / "shop.yaml").tables.values()
    (bronze, _) = survey(store, lake, tables)
    assert [Path(file).name for file in bronze.files] == FILES[:2]
    assert bronze.lost == ()


def test_another_engines_files_can_be_dismissed_from_here_but_not_replayed(
    lake: Lake, command: Command
) -> None:
    text = f"source: {{connection: c}}\ncompute: databricks\ntables: {TABLES}\n"
    (Path(lake.root) / "shop.yaml").write_text(text)
    code, said = command()
    assert code == 1
    assert "make run JOB=replay PARAMS=source=" in said
    assert command("--dismiss")[0] == 0
    assert waiting(held_files(LocalStore(Path(lake.root)), lake, "DimUser")) == {}
