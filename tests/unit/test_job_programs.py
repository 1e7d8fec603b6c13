"""The jobs' programs, started as Databricks starts a Python task."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
# There is no `__file__`, and `pyspark.pipelines` has none of open source's own modules.
AS_A_TASK = """
import sys
import pyspark
sys.modules["pyspark.pipelines"] = type(sys)("pyspark.pipelines")
sys.argv = sys.argv[1:]
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"), {"__name__": "__main__"})
"""


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AS_A_TASK, str(PROJECT / "spark_jobs" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["silver.py", "maintenance.py"])
def test_a_program_starts_without_what_a_task_lacks(name: str, tmp_path: Path) -> None:
    done = _run(name, "--lake", str(tmp_path), "--config", str(tmp_path), "--source", "shop")
    # It comes as far as its metadata.
    assert "ConfigError" in done.stderr
    assert "shop.yaml" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["silver.py", "maintenance.py"])
def test_a_program_refuses_metadata_that_was_not_deployed(name: str, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("source: {connection: c}\ntables: {A: {key: k}}\n")
    places = ("--lake", str(tmp_path), "--config", str(tmp_path), "--source", "shop")
    done = _run(name, *places, "--config-digest", "0" * 64)
    assert "deploy the bundle" in done.stderr
    assert done.returncode == 1


def test_the_stand_in_for_a_task_lacks_what_gold_needs() -> None:
    done = _run("gold.py", "--help")
    assert "ModuleNotFoundError: No module named 'pyspark.pipelines.flow'" in done.stderr
