"""What `tidemark maintain` asks of its job, and when it refuses to begin."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tidemark import job_command, maintain_command
from tidemark.errors import ConfigError, LakeError, PipelineError
from tidemark.layout import Lake
from tidemark.settings import Settings, load_settings

AZURE = "abfss://lake@account.dfs.core.windows.net/team"


class Jobs:
    """What was submitted, and how it ends."""

    def __init__(self) -> None:
        self.submitted: list[list[str]] = []
        self.said = ""

    def submit(self, job: Sequence[str], master: str, settings: Settings, errors: Path) -> int:
        assert master == "local[2]"
        assert settings.lake.root == job[job.index("--lake") + 1]
        self.submitted.append(list(job))
        errors.write_text(self.said)
        return 1 if self.said else 0


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    jobs = Jobs()
    monkeypatch.setattr(job_command, "submit", jobs.submit)
    return jobs


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "config"
    folder.mkdir()
    text = "source: {connection: c}\ntables: {DimUser: {key: id}, Order: {key: id, lake_name: O}}\n"
    (folder / "shop.yaml").write_text(text)
    return load_settings({"TIDEMARK_CONFIG": str(folder), "TIDEMARK_HOME": str(tmp_path)})


def run(settings: Settings, *words: str) -> int:
    parser = argparse.ArgumentParser()
    maintain_command.add_arguments(parser)
    return maintain_command.run(parser.parse_args([*words, "--master", "local[2]"]), settings)


def option(job: list[str], name: str) -> str:
    return job[job.index(name) + 1]


def test_all_tables_or_those_that_are_named(jobs: Jobs, settings: Settings) -> None:
    assert run(settings, "shop") == 0
    assert run(settings, "shop", "--table", "Order", "--dry-run") == 0
    whole, one = jobs.submitted
    assert whole[0].endswith("spark_jobs/maintenance.py")
    assert (option(whole, "--source"), option(whole, "--tables")) == ("shop", "")
    assert "--dry-run" not in whole
    assert option(one, "--tables") == "O"
    assert "--dry-run" in one


def test_in_azure_it_asks_whether_the_dag_is_paused(jobs: Jobs, settings: Settings) -> None:
    azure = replace(settings, lake=Lake(AZURE))
    with pytest.raises(LakeError, match=r"airflow dags pause shop.*--paused"):
        run(azure, "shop")
    assert jobs.submitted == []
    assert run(azure, "shop", "--dry-run") == run(azure, "shop", "--paused") == 0


def test_a_failed_job_is_told_in_its_own_words(jobs: Jobs, settings: Settings) -> None:
    jobs.said = "maintenance: 1 of 2 tables failed, the others are done:\n  O: no column x"
    with pytest.raises(PipelineError, match=r"shop: maintenance failed:\n.*\n  O: no column x"):
        run(settings, "shop")


def test_an_unknown_source_or_table_is_named(jobs: Jobs, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="did you mean 'shop'"):
        run(settings, "shopp")
    with pytest.raises(ConfigError, match="'Ordr' is unknown; did you mean 'Order'"):
        run(settings, "shop", "--table", "Ordr")
    assert jobs.submitted == []
