"""Reading a lake's tables without Spark."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tidemark.cli import main
from tidemark.errors import LakeError
from tidemark.lake_tables import query, table_names
from tidemark.layout import Lake


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_lake_is_a_folder_or_a_file_url(tmp_path: Path, scheme: str) -> None:
    root = tmp_path / "lake"
    (root / "silver").mkdir(parents=True)
    pl.DataFrame({"user_id": [7]}).write_delta(root / "silver" / "DimUser")
    lake = Lake(f"{scheme}{root}")
    assert table_names(lake) == {"DimUser": "silver/DimUser"}
    assert query(lake, "DimUser").to_dicts() == [{"user_id": 7}]


def test_a_lake_elsewhere_is_refused_and_not_empty() -> None:
    with pytest.raises(LakeError, match="'s3' is not supported"):
        table_names(Lake("s3://lake"))


@pytest.fixture
def history(tmp_path: Path) -> tuple[Lake, list[datetime]]:
    """A table of three versions, and a moment after each."""
    path, moments = tmp_path / "lake" / "gold" / "dim_user", []
    path.parent.mkdir(parents=True)
    for number in range(3):
        pl.DataFrame({"user_id": [number]}).write_delta(path, mode="append")
        time.sleep(0.02)
        moments.append(datetime.now(UTC))
    return Lake(str(tmp_path / "lake")), moments


def test_a_table_is_shown_as_it_was(history: tuple[Lake, list[datetime]]) -> None:
    lake, moments = history
    for number, moment in enumerate(moments):
        for at in (number, moment):
            rows = query(lake, "dim_user", at=at)["user_id"].to_list()
            assert sorted(rows) == list(range(number + 1))
    assert query(lake, "dim_user", at=moments[-1] + timedelta(days=9)).height == 3


def test_a_version_or_moment_that_is_not_there_is_named(
    history: tuple[Lake, list[datetime]],
) -> None:
    lake, moments = history
    span = r"\(its versions are 0, of \d{4}-.* UTC, to 2, of .* UTC\)"
    with pytest.raises(LakeError, match=rf"'dim_user' has no version 3 {span}"):
        query(lake, "dim_user", at=3)
    with pytest.raises(LakeError, match=rf"nothing is known of it at .*00:00 {span}"):
        query(lake, "dim_user", at=moments[0] - timedelta(days=1))


def test_a_version_whose_files_were_vacuumed_is_told(
    history: tuple[Lake, list[datetime]],
) -> None:
    lake, _ = history
    for file in Path(lake.root).rglob("*.parquet"):
        file.unlink()
    with pytest.raises(LakeError, match=r"'dim_user': .*VACUUM"):
        query(lake, "dim_user", at=0)


def test_the_command_line_travels_in_time(
    history: tuple[Lake, list[datetime]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lake, moments = history
    monkeypatch.setenv("TIDEMARK_LAKE", lake.root)
    for words in (["--version", "1"], ["--timestamp", moments[1].isoformat()]):
        assert main(["show", "dim_user", "--csv", *words]) == 0
        assert sorted(capsys.readouterr().out.split()) == ["0", "1", "user_id"]
    with pytest.raises(SystemExit):
        main(["show", "dim_user", "--timestamp", "yesterday"])
    assert "--timestamp" in capsys.readouterr().err
    shutil.rmtree(lake.root)
