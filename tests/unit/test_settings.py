"""Where project, home and lake are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark.settings import load_settings


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("dags", "dlt", "deep/er"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_the_defaults_lie_in_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "deep" / "er")
    settings = load_settings({})
    assert settings.project == project
    assert settings.home == project / ".tidemark"
    assert settings.config == project / "config"
    assert settings.lake.root == str(project / ".tidemark" / "lake")
    assert settings.rules_folder == project / "spark_jobs" / "rules"
    assert (settings.jobs_folder, settings.pipeline_folder) == (
        project / "spark_jobs",
        project / "dlt",
    )


def test_empty_values_mean_the_defaults(project: Path) -> None:
    names = ("TIDEMARK_HOME", "TIDEMARK_CONFIG", "TIDEMARK_LAKE")
    base = {"TIDEMARK_PROJECT": str(project)}
    assert load_settings(base | dict.fromkeys(names, "")) == load_settings(base)


@pytest.mark.parametrize(
    ("lake", "root"),
    [
        ("other/lake/", "{project}/other/lake"),
        ("/data/lake", "/data/lake"),
        (
            "abfss://lake@account.dfs.core.windows.net/x/",
            "abfss://lake@account.dfs.core.windows.net/x",
        ),
    ],
)
def test_a_lake_is_a_folder_or_a_url(project: Path, lake: str, root: str) -> None:
    settings = load_settings({"TIDEMARK_PROJECT": str(project), "TIDEMARK_LAKE": lake})
    assert settings.lake.root == root.format(project=project)


def test_home_and_config_count_from_the_project(project: Path) -> None:
    env = {"TIDEMARK_PROJECT": str(project), "TIDEMARK_HOME": "h", "TIDEMARK_CONFIG": "/etc/c"}
    settings = load_settings(env)
    assert settings.home == project / "h"
    assert settings.config == Path("/etc/c")
    assert settings.lake.root == str(project / "h" / "lake")


def test_outside_of_a_project_the_installations_own_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (load_settings({}).project / "src" / "tidemark").is_dir()
