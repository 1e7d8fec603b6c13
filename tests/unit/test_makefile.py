"""What a person types."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def _make(*words: str) -> str:
    # As a person types it: what an outer `make test` hands down changes what make prints.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", *words], cwd=PROJECT, capture_output=True, text=True, check=True, env=env
    )
    return done.stdout


@pytest.mark.parametrize(
    ("says", "good"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('openjdk version "21" 2023-09-19', True),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx="1"\nopenjdk version "25-ea" 2025-09-16', True),
        ('openjdk version "11.0.25" 2024-10-15', False),
        ('java version "1.8.0_361"', False),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", False),
    ],
)
@pytest.mark.parametrize("home", [False, True])
def test_set_up_wants_java_17(tmp_path: Path, says: str, good: bool, home: bool) -> None:
    recipe = _make("--dry-run", "--always-make", ".venv/.ready")
    check = recipe[: recipe.index("exit 1; }") + len("exit 1; }")]
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}\nEND\n")
    java.chmod(0o755)
    found = (
        {"JAVA_HOME": str(tmp_path)} if home else {"PATH": f"{java.parent}:{os.environ['PATH']}"}
    )
    done = subprocess.run(
        ["bash", "-c", check],
        env={"PATH": os.environ["PATH"]} | found,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if good else 1)
    assert ("Java 17 or newer is missing" in done.stderr) is not good


def test_help_names_every_target_that_a_person_types() -> None:
    named = {line.split()[1] for line in _make("help").splitlines()}
    typed = next(t for t in (PROJECT / "Makefile").read_text().splitlines() if ".PHONY" in t)
    assert named == set(typed.split()[1:])


@pytest.mark.parametrize(
    ("words", "run"),
    [
        (["bench"], ["copy_to_bronze", "dag_parse", "incremental", "reconcile"]),
        (["bench", "copy"], ["copy_to_bronze"]),
        (["bench", "parse", "reconcile"], ["dag_parse", "reconcile"]),
    ],
)
def test_a_word_behind_bench_narrows_it(words: list[str], run: list[str]) -> None:
    recipe = _make("--dry-run", *words)
    loop = next(line for line in recipe.splitlines() if line.startswith("for bench in "))
    named = loop.removeprefix("for bench in ").partition(";")[0].split()
    assert named == run
    assert all((PROJECT / "benchmarks" / f"{name}.py").is_file() for name in named)


def test_a_benchs_word_alone_says_what_to_type() -> None:
    done = subprocess.run(
        ["make", "copy"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "say make bench copy" in done.stderr


def test_a_deployment_brings_the_digest_and_the_program_that_builds_the_wheel() -> None:
    for target in ("bundle", "deploy"):
        recipe = _make("--dry-run", target, "TARGET=qa")
        assert "BUNDLE_VAR_config_digest=$(.venv/bin/tidemark digest)" in recipe
        assert f'PATH="{PROJECT}/.venv/bin:$PATH"' in recipe
        assert f"databricks bundle {'validate' if target == 'bundle' else target} -t qa" in recipe
    recipe = _make("--dry-run", "run", "JOB=replay", "PARAMS=source=spotify,tables=DimUser")
    assert "databricks bundle run -t dev replay --params 'source=spotify,tables=DimUser'" in recipe
    assert "--params" not in _make("--dry-run", "run", "JOB=maintenance")
    recipe = _make("--dry-run", "rollout", "IMAGE=shop.azurecr.io/tidemark:1.2")
    assert "images.airflow.repository=shop.azurecr.io/tidemark " in recipe
    assert "images.airflow.tag=1.2" in recipe


def test_python_keeps_what_it_compiled_whatever_the_machine_says() -> None:
    recipe = "probe: ; @echo said: $${PYTHONDONTWRITEBYTECODE-nothing}"
    done = subprocess.run(
        ["make", "--eval", recipe, "probe"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "said: nothing" in done.stdout
