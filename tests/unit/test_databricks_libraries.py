"""Which files a pipeline's update evaluates: the stand-in's reading of ``libraries``."""

from __future__ import annotations

from pathlib import Path

import pytest
from databricks_workspace.libraries import declared_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("scd.py", "views/spotify.py", "views/deep/er.py", "views/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_and_folders_are_what_is_declared_and_nothing_beside_them(folder: Path) -> None:
    assert declared_files([{"file": {"path": f"{folder}/scd.py"}}]) == [folder / "scd.py"]
    below = [folder / "views" / "deep" / "er.py", folder / "views" / "spotify.py"]
    declared = [
        {"glob": {"include": f"{folder}/views/**"}},
        {"file": {"path": f"{folder}/views/spotify.py"}},
    ]
    assert declared_files(declared) == below
    assert declared_files([{"glob": {"include": f"{folder}/scd.py"}}]) == [folder / "scd.py"]


@pytest.mark.parametrize("library", [("file", "path", "gone.py"), ("glob", "include", "gone/**")])
def test_what_is_declared_and_not_there_is_an_error(
    folder: Path, library: tuple[str, str, str]
) -> None:
    kind, field, name = library
    with pytest.raises(FileNotFoundError, match="gone"):
        declared_files([{kind: {field: f"{folder}/{name}"}}])


@pytest.mark.parametrize(
    "library",
    [
        {"notebook": {"path": "/x"}},
        {"file": {"path": "/x", "include": "/y"}},
        {"glob": {"include": "/x/*.py"}},
    ],
)
def test_a_library_that_is_not_run_here_is_refused(library: dict[str, dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="libraries"):
        declared_files([library])
