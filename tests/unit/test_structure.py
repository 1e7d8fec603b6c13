"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ALLOWED = {
    "dags": {"tidemark.airflow"},
    "spark_jobs": {"tidemark.spark", "tidemark.metadata"},
    "dlt": {"tidemark.spark", "tidemark.metadata"},
}


def _tracked(folder: str) -> list[Path]:
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [PROJECT / name for name in files if (PROJECT / name).is_file()]


def _python(folder: str) -> list[Path]:
    return [path for path in _tracked(folder) if path.suffix == ".py"]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", ALLOWED)
def test_entry_points_import_only_their_part_of_the_library(folder: str) -> None:
    files = _python(folder)
    assert files
    for path in files:
        ours = {name for name in _imports(path) if name.split(".")[0] == "tidemark"}
        strangers = {n for n in ours if not n.startswith(tuple(ALLOWED[folder]))}
        assert not strangers, path


def test_nobody_imports_dlt_and_it_is_no_package() -> None:
    assert not (PROJECT / "dlt" / "__init__.py").exists()
    for path in _python("."):
        assert "dlt" not in {name.split(".")[0] for name in _imports(path)}, path


def test_plugins_holds_flat_plugin_files_only() -> None:
    for path in _python("plugins"):
        assert path.parent == PROJECT / "plugins", path
        assert path.name.startswith("tidemark_"), path


@pytest.mark.parametrize("folder", ["src", "dags", "dlt", "spark_jobs"])
def test_files_and_functions_stay_small(folder: str) -> None:
    for path in _python(folder):
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
                assert lines <= 30, f"{path}:{node.lineno} {node.name}: {lines} lines"


def test_dag_files_are_thin() -> None:
    for path in _python("dags"):
        text = path.read_text()
        assert text.count("\n") <= 20, path
        assert "airflow" in text.lower(), "Airflow's safe mode would pass the file over"


def test_the_importing_of_the_core_brings_no_airflow_spark_or_arrow() -> None:
    script = (
        "import sys, tidemark.metadata, tidemark.windows, tidemark.watermark, tidemark.pending, "
        "tidemark.report, tidemark.cli; "
        "print([m for m in ('airflow', 'pyspark', 'pyarrow', 'polars', 'sqlalchemy') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_import_contract_names_every_module_of_the_core() -> None:
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]
    named = set(contracts["contracts"][0]["source_modules"])
    there = {
        f"tidemark.{path.stem}"
        for path in (PROJECT / "src" / "tidemark").iterdir()
        if path.stem not in {"__init__", "__pycache__", "airflow", "spark", "py"}
    }
    assert named == there
