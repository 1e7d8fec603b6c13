"""A rebuild's decisions and its swap, with jobs that write plain files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tidemark import job_command, rebuild_command
from tidemark.cli import main
from tidemark.errors import ConfigError, LakeError, PipelineError, StateError
from tidemark.job_command import Failed
from tidemark.layers_lock import as_a_rebuild, as_a_run
from tidemark.layout import Lake
from tidemark.metadata import Source, load_source
from tidemark.rebuild import Layer, chosen, complete, local_store, rebuild, survey, undo
from tidemark.storage import LocalStore
from tidemark.swap import Piece, Swap, paths_of, pieces, remaining

LAKE = Lake("/lake")
CONFIG = """
source: {connection: c}
defaults: {cursor: updated_at}
tables:
  DimUser: {key: user_id, gold: {scd: 2}}
  DimTrack: {key: track_id, gold: {scd: 1}}
  Staging: {key: id}
"""
Tree = dict[str, str]


# --- decisions -----------------------------------------------------------------------------------


def test_a_lake_beside_the_lake_shares_bronze_alone() -> None:
    beside = replace(LAKE, beside="_tidemark/rebuild/x")
    assert beside.bronze_folder("DimUser") == LAKE.bronze_folder("DimUser")
    assert beside.state_file("DimUser") == LAKE.state_file("DimUser")
    for path in paths_of(LAKE, {"DimUser": "dim_user"}, []):
        assert f"_tidemark/rebuild/x/{path}" in paths_of(beside, {"DimUser": "dim_user"}, [])


def test_what_belongs_to_a_table_moves_together() -> None:
    built = ["dim_user", "dim_user_quarantine", "a_view"]
    found = paths_of(LAKE, {"DimUser": "dim_user", "Staging": None}, built)
    internal = "_tidemark/{}".format
    assert found == [
        "silver/DimUser_changes",
        "silver/DimUser",
        internal("checkpoints/silver/DimUser"),
        internal("markers/silver/DimUser.json"),
        "gold/dim_user",
        internal("checkpoints/gold/dim_user"),
        internal("autocdc/dim_user"),
        "gold/dim_user_quarantine",
        internal("markers/gold/DimUser.json"),
        "silver/Staging_changes",
        "silver/Staging",
        internal("checkpoints/silver/Staging"),
        internal("markers/silver/Staging.json"),
        internal("checkpoints/gold/dim_user_quarantine"),
        internal("autocdc/dim_user_quarantine"),
        "gold/a_view",
        internal("checkpoints/gold/a_view"),
        internal("autocdc/a_view"),
    ]


def test_an_old_piece_goes_aside_even_without_a_new_one() -> None:
    found = pieces(["both", "old", "new", "none"], {"both", "old"}.__contains__,
                   {"both", "new"}.__contains__)  # fmt: skip
    assert found == (
        Piece("both", old=True, new=True),
        Piece("old", old=True, new=False),
        Piece("new", old=False, new=True),
    )
    swap = Swap("1", "s", (), "new_folder", "kept", found)
    there = {"both", "old", "new_folder/both", "new_folder/new"}
    assert remaining(swap, there.__contains__) == [
        ("both", "kept/both"),
        ("new_folder/both", "both"),
        ("old", "kept/old"),
        ("new_folder/new", "new"),
    ]


def test_a_rename_that_was_done_is_not_done_again() -> None:
    swap = Swap("1", "s", (), "n", "k", (Piece("a", old=True, new=True),))
    states = [{"a", "n/a"}, {"k/a", "n/a"}, {"k/a", "a"}]
    left = [len(remaining(swap, state.__contains__)) for state in states]
    assert left == [2, 1, 0]


# --- a lake of plain files -----------------------------------------------------------------------


def put(store: LocalStore, tree: Tree) -> None:
    for path, text in tree.items():
        store.write(path, text.encode())


def tree_of(store: LocalStore, *folders: str) -> Tree:
    root = store.root
    files = [p for folder in folders for p in (root / folder).rglob("*") if p.is_file()]
    return {p.relative_to(root).as_posix(): p.read_text() for p in files}


LAYERS = "silver", "gold", "_tidemark/checkpoints", "_tidemark/autocdc", "_tidemark/markers"
NEW = {
    f"silver/{name}{rest}": f"new {name}"
    for name in ("DimUser", "DimTrack")
    for rest in ("/part", "_changes/_delta_log/0.json")
} | {
    "_tidemark/checkpoints/silver/DimUser/offsets/0": "new",
    "_tidemark/markers/silver/DimUser.json": "{}",
    "_tidemark/markers/silver/DimTrack.json": "{}",
    "_tidemark/markers/gold/DimUser.json": "{}",
    "_tidemark/markers/gold/DimTrack.json": "{}",
    "gold/dim_user/part": "new dim_user",
    "gold/dim_track/part": "new dim_track",
    "gold/a_view/part": "new view",
}


class World:
    """A lake of plain files, its metadata, and jobs that write `NEW`."""

    def __init__(self, folder: Path) -> None:
        (folder / "config").mkdir()
        (folder / "config" / "spotify.yaml").write_text(CONFIG)
        self.source: Source = load_source(folder / "config" / "spotify.yaml")
        self.lake = Lake(str(folder / "lake"))
        self.store = local_store(self.lake)
        self.said: list[str] = []
        put(self.store, {path: text.replace("new", "old") for path, text in NEW.items()})
        put(self.store, {"_tidemark/autocdc/dim_user/part": "old", "gold/other/part": "stays"})
        for table in ("DimUser", "DimTrack"):
            self.land(table, 1)
        self.before = tree_of(self.store, *LAYERS)

    def land(self, table: str, second: int) -> None:
        name = f"{table}_20260101T0000{second:02}000000Z.parquet"
        put(self.store, {f"bronze/{table}/{name}": "rows"})

    def job(self, layer: Layer, lake: Lake, tables: Sequence[str]) -> None:
        assert lake.beside
        names = {*tables, *(t.gold.name for t in self.source.tables.values() if t.gold)}
        mine = ("silver", "_tidemark/checkpoints/silver", "_tidemark/markers/silver")
        for path, text in NEW.items():
            if not self.store.exists(f"{lake.beside}/{path}") and (
                path.startswith(mine) == (layer == "silver")
                and (any(name in path for name in names) or "a_view" in path)
            ):
                put(self.store, {f"{lake.beside}/{path}": text})

    def rebuild(self, *names: str) -> Swap:
        tables = [b.table for b in chosen(self.survey(*names))]
        return rebuild(self.lake, self.source, tables, self.job, self.said.append)

    def survey(self, *names: str) -> list:
        return survey(self.store, self.lake, self.source.tables_named(names))

    @property
    def after(self) -> Tree:
        """What a whole swap of all tables makes of the lake."""
        return NEW | {"gold/other/part": "stays"}

    def layers(self) -> Tree:
        return tree_of(self.store, *LAYERS)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("os.fsync", lambda _: None)  # no power fails here, and it takes its time
    return World(tmp_path)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    """Let the process end before the rename with this number, from 0."""
    moves: list[str] = []
    move = LocalStore.move

    def killing(self: LocalStore, source: str, target: str) -> None:
        if len(moves) == number:
            raise Killed
        moves.append(source)
        move(self, source, target)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "move", killing)
        yield


def test_a_rebuild_exchanges_the_tables_and_keeps_the_old_ones(world: World) -> None:
    done = world.rebuild()
    assert done.tables == ("DimUser", "DimTrack")  # Staging has never been read
    assert world.layers() == world.after
    kept = tree_of(world.store, done.kept)
    kept.pop(f"{done.kept}/swap.json")
    replaced = {path: text for path, text in world.before.items() if path != "gold/other/part"}
    assert kept == {f"{done.kept}/{path}": text for path, text in replaced.items()}
    assert not any((world.store.root / world.lake.rebuild_folder("spotify")).iterdir())
    assert not world.store.exists(world.lake.swap_file("spotify"))


def test_a_rebuild_of_one_table_leaves_the_others_in_place(world: World) -> None:
    seen: list[str] = []

    def job(_: Layer, lake: Lake, tables: Sequence[str]) -> None:
        assert list(tables) == ["DimUser"]
        world.store.write(f"{lake.beside}/silver/DimUser_changes/_delta_log/0.json", b"new")
        # What is not rebuilt can be read there too, by views.
        seen.append((world.store.root / lake.gold("dim_track") / "part").read_text())

    rebuild(world.lake, world.source, world.source.tables_named(["DimUser"]), job, print)
    assert seen == ["old dim_track"] * 2
    now = world.layers()
    assert {p: t for p, t in now.items() if "rack" in p or "other" in p or "view" in p} == {
        p: t for p, t in world.before.items() if "rack" in p or "other" in p or "view" in p
    }
    assert now["silver/DimUser_changes/_delta_log/0.json"] == "new"


RENAMES = 25  # of the first rebuild of `World`; asserted below


@pytest.mark.parametrize("number", range(RENAMES))
def test_killed_between_any_two_renames_the_next_call_completes_it(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with pytest.raises(Killed), kill_at(monkeypatch, number):
        world.rebuild()
    # Nobody touches what is half old and half new ...
    with (
        pytest.raises(
            PipelineError, match=r"killed while it swapped .* `tidemark rebuild spotify`"
        ),
        as_a_run(world.lake, "spotify"),
    ):
        pass
    with pytest.raises(PipelineError, match="killed while it swapped"):
        world.rebuild()
    # ... and also the completion may be killed.
    if number < RENAMES - 1:
        with pytest.raises(Killed), kill_at(monkeypatch, 1):
            complete(world.lake, "spotify")
    half = complete(world.lake, "spotify")
    if half is not None:
        assert half.tables == ("DimUser", "DimTrack")
    assert world.layers() == world.after
    assert complete(world.lake, "spotify") is None
    with as_a_run(world.lake, "spotify"):
        pass


def test_the_loop_above_meets_every_rename(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with kill_at(monkeypatch, RENAMES):
        world.rebuild()


def test_an_undo_brings_back_what_was_there_but_for_golds_markers(world: World) -> None:
    done = world.rebuild()
    undone = undo(world.lake, "spotify", done.name)
    markers = {world.lake.marker("gold", table) for table in ("DimUser", "DimTrack")}
    assert world.layers() == {p: t for p, t in world.before.items() if p not in markers}
    # The undo can be undone in its turn; the first one is used up.
    with pytest.raises(LakeError, match=rf"has no '{done.name}' \(there: {undone.name}\)"):
        undo(world.lake, "spotify", done.name)
    undo(world.lake, "spotify", undone.name)
    assert world.layers() == {p: t for p, t in world.after.items() if p not in markers}


def test_a_failed_build_leaves_the_lake_as_it_was(world: World) -> None:
    def job(layer: Layer, lake: Lake, tables: Sequence[str]) -> None:
        world.job(layer, lake, tables)
        if layer == "gold":
            raise PipelineError("gold: dim_user failed")

    with pytest.raises(PipelineError, match="dim_user failed"):
        rebuild(world.lake, world.source, world.source.tables_named(["DimUser"]), job, print)
    assert world.layers() == world.before
    assert not world.store.exists(world.lake.rebuild_folder("spotify"))


def test_what_a_killed_build_left_is_removed_and_named(world: World) -> None:
    left = f"{world.lake.rebuild_folder('spotify')}/1/gold"
    put(world.store, {f"{left}/x/part": "half"})
    target = world.store.root / "gold" / "dim_track"
    (world.store.root / left / "dim_track").symlink_to(target)
    with as_a_run(world.lake, "spotify"):  # the lake itself was not touched
        pass
    world.rebuild()
    world.rebuild()
    assert world.said == [
        "an earlier rebuild was killed before its swap; what it had built is removed"
    ]
    assert world.layers() == world.after  # the link's target was not removed


# --- not beside a run ----------------------------------------------------------------------------


def test_a_rebuild_and_a_run_keep_out_of_each_others_way(world: World) -> None:
    with (
        as_a_run(world.lake, "spotify"),
        as_a_run(world.lake, "spotify"),
        pytest.raises(LakeError, match="spotify: the silver or gold job of a run is at work; wait"),
    ):
        world.rebuild()
    assert world.layers() == world.before
    with as_a_rebuild(world.lake, "spotify"):
        with (
            pytest.raises(PipelineError, match=r"spotify: process \d+ on .* is rebuilding"),
            as_a_run(world.lake, "spotify"),
        ):
            pass
        with pytest.raises(LakeError, match=r"spotify: process \d+ on .* is rebuilding its silver"):
            world.rebuild()
        with as_a_run(world.lake, "another"):
            pass
    world.rebuild()


# --- refused -------------------------------------------------------------------------------------


def test_a_rebuild_that_would_lose_rows_is_refused(world: World) -> None:
    gone = "DimUser_20260101T000009000000Z.parquet"
    put(world.store, {world.lake.stream_schema("DimUser"): f'{{"files": ["{gone}"]}}'})
    with pytest.raises(LakeError, match=f"DimUser: silver was built from 1 files .* {gone}"):
        chosen(world.survey())
    assert [b.table.name for b in chosen(world.survey("DimTrack"))] == ["DimTrack"]
    assert len(chosen(world.survey(), accept_missing=True)) == 2
    for file in (world.store.root / "bronze" / "DimTrack").iterdir():
        file.unlink()
    with pytest.raises(LakeError, match="DimTrack: bronze/DimTrack holds no file"):
        chosen(world.survey(), accept_missing=True)


def test_nothing_to_rebuild_from_is_an_error(world: World) -> None:
    with pytest.raises(LakeError, match="Staging: bronze holds no file to rebuild from"):
        chosen(world.survey("Staging"))


def test_a_lake_that_is_no_folder_is_refused() -> None:
    with pytest.raises(LakeError, match=r"abfs://.*only a local folder"):
        local_store(Lake("abfs://container/lake"))


def test_a_journal_that_is_none_is_an_error(world: World) -> None:
    put(world.store, {world.lake.swap_file("spotify"): "{}"})
    with pytest.raises(StateError, match="not the journal of a swap"):
        complete(world.lake, "spotify")


# --- the command ---------------------------------------------------------------------------------

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setenv("TIDEMARK_CONFIG", str(world.source.path.parent))
    monkeypatch.setenv("TIDEMARK_LAKE", world.lake.root)
    monkeypatch.setattr(rebuild_command, "spark_job", lambda *_: world.job)
    monkeypatch.setattr(rebuild_command, "_rows", lambda files: 1000 * len(list(files)))

    def call(*words: str) -> tuple[int, str, str]:
        code = main(["rebuild", *words])
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    world: World, command: Command
) -> None:
    before = sorted(world.store.root.rglob("*"))
    code, out, _ = command("spotify", "--dry-run")
    assert code == 0
    targets = "silver/DimUser, silver/DimUser_changes, gold/dim_user"
    assert f"DimUser: 1,000 rows in 1 files -> {targets}" in out
    assert "Staging: never read, left out" in out
    assert "nothing was built" in out
    assert sorted(world.store.root.rglob("*")) == before


def test_the_command_rebuilds_completes_and_undoes(
    world: World, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed), kill_at(monkeypatch, 3):
        command("spotify", "--table", "DimUser")
    assert "would be completed" in command("spotify", "--dry-run")[1]
    code, out, _ = command("spotify")
    assert code == 0
    assert "the swap is whole now" in out
    code, out, _ = command("spotify")
    assert world.layers() == world.after
    undo_it = out.splitlines()[-1].partition(": tidemark rebuild ")[2].split()
    assert command(*undo_it)[0] == 0
    assert world.layers()["silver/DimUser/part"] == "new DimUser"  # by the first one
    assert world.layers()["silver/DimTrack/part"] == "old DimTrack"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spotfy"], "there is no such source; did you mean 'spotify'? (sources: spotify)"),
        (["spotify", "--table", "DimUsr"], "'DimUsr' is unknown; did you mean 'DimUser'?"),
        (["spotify", "--undo", "1"], "has no '1' (there: none)"),
    ],
)
def test_a_wrong_name_is_an_error_that_names_the_nearest(
    command: Command, words: list[str], message: str
) -> None:
    code, _, err = command(*words)
    assert code == 1
    assert message in err


def test_a_failed_job_names_its_tables_or_its_last_words() -> None:
    assert "Java is missing" in rebuild_command._failure("silver", Failed({}, "Java is missing\n"))
    tables = {"DimUser": {"status": "failed", "error": "DimUser: no rule"}}
    text = rebuild_command._failure("silver", Failed({"tables": tables}, "a lot"))
    assert text.startswith("silver: nothing was swapped in, the lake is as it was")
    assert text.endswith("\n  DimUser: no rule")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "DimUser_x.parquet").write_text("no")
    with pytest.raises(LakeError, match=r"DimUser_x\.parquet: can't be read as Parquet"):
        rebuild_command._rows([tmp_path / "DimUser_x.parquet"])


def test_the_help_teaches() -> None:
    parser = argparse.ArgumentParser()
    rebuild_command.add_arguments(parser)
    for part in ("--dry-run", "_tidemark/replaced/", "pause the Dag"):
        assert part in parser.format_help()


def test_another_compute_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.source.model_copy(update={"compute": "databricks"})
    monkeypatch.setattr(job_command, "load_source", lambda *_: other)
    settings = argparse.Namespace(config=world.source.path.parent, rules_folder=None)
    with pytest.raises(ConfigError, match="compute is 'databricks'"):
        job_command.source_named(settings, "spotify")
