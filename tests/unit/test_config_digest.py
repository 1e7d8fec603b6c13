"""A folder of metadata is known by its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark.errors import ConfigError
from tidemark.metadata import config_digest, require_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text("one: 1\n")
    (tmp_path / "b.yml").write_text("two: 2\n")
    return tmp_path


def test_the_same_files_have_the_same_digest_wherever_they_lie(folder: Path) -> None:
    copy = folder / "deployed"
    copy.mkdir()
    for name in ("b.yml", "a.yaml"):
        (copy / name).write_bytes((folder / name).read_bytes().replace(b"\n", b"\r\n"))
    (copy / "README.md").write_text("no metadata")
    (copy / ".a.yaml").write_text("an editor's own")
    assert config_digest(copy) == config_digest(folder)
    assert len(config_digest(folder)) == 64


def test_every_change_shows(folder: Path) -> None:
    digests = [config_digest(folder)]
    (folder / "a.yaml").write_text("one: 2\n")
    digests.append(config_digest(folder))
    (folder / "a.yaml").rename(folder / "c.yaml")
    digests.append(config_digest(folder))
    (folder / "b.yml").write_text("")
    digests.append(config_digest(folder))
    (folder / "b.yml").unlink()
    digests.append(config_digest(folder))
    assert len(set(digests)) == len(digests)


def test_a_text_cannot_pass_for_the_next_files_name(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for each in (first, second):
        each.mkdir()
    (first / "a.yaml").write_text("x6:b.yaml0:")
    (second / "a.yaml").write_text("x")
    (second / "b.yaml").write_text("")
    assert config_digest(first) != config_digest(second)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: is no folder"):
        config_digest(tmp_path / "nowhere")


def test_other_metadata_than_the_runs_is_refused(folder: Path) -> None:
    require_config(folder, "")
    require_config(folder, config_digest(folder))
    with pytest.raises(ConfigError, match="deploy the bundle, and run again"):
        require_config(folder, "0" * 64)
