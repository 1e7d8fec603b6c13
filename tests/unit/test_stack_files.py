"""The compose file, the Dockerfile and `.env`: no engine runs here, so each line is checked."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose
import pytest
import sqlalchemy as sa
import yaml
from cryptography.fernet import Fernet

from tidemark import stack
from tidemark.metadata import Source, load_all

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WRITE_ENV = runpy.run_path(str(PROJECT / "stack" / "write_env.py"))
DOCKERFILE = (PROJECT / "Dockerfile").read_text()
EXAMPLE = (PROJECT / ".env.example").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose.load(compose.read_env(WRITE_ENV["filled"](EXAMPLE)))["services"]
    return found


def _ours(services: dict[str, Any]) -> dict[str, Any]:
    return {n: s for n, s in services.items() if s["image"] == "tidemark:local"}


def _check(*words: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = words
    return subprocess.run(
        [BIN / program, *arguments], capture_output=True, text=True, check=False, cwd=PROJECT
    )


def test_the_compose_file_follows_the_specification(tmp_path: Path) -> None:
    schema = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    good = _check(*schema, str(compose.FILE))
    assert good.returncode == 0, good.stdout
    broken = tmp_path / "docker-compose.yaml"
    broken.write_text(compose.FILE.read_text().replace("healthcheck:", "healthchecks:"))
    assert _check(*schema, str(broken)).returncode == 1


def test_the_dockerfile_passes_its_linter(tmp_path: Path) -> None:
    good = _check("hadolint", "Dockerfile")
    assert good.returncode == 0, good.stdout
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN sudo apt-get install x\n")
    assert _check("hadolint", str(bad)).returncode == 1


# --- .env


def test_the_env_file_is_random_private_and_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    assert WRITE_ENV["main"](tmp_path) == 0
    written = tmp_path / ".env"
    text = written.read_text()
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert WRITE_ENV["main"](tmp_path) == 0
    assert written.read_text() == text
    values = compose.read_env(text)
    assert len(set(values.values())) == len(values)
    assert not any("<" in value for value in values.values())
    assert values != compose.read_env(WRITE_ENV["filled"](EXAMPLE)), "each time another one"


def test_the_secrets_are_of_the_form_that_their_programs_take() -> None:
    values = compose.read_env(WRITE_ENV["filled"](EXAMPLE))
    Fernet(values["AIRFLOW_FERNET_KEY"])
    for name in (name for name in values if name.endswith("PASSWORD")):
        # They stand in URLs and JSON, and SQL Server wants three kinds of letters.
        assert re.fullmatch(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{20,}", values[name])


def test_the_example_documents_every_variable_that_the_compose_file_takes() -> None:
    assert set(compose.read_env(EXAMPLE)) == compose.variables_asked_for()


def test_the_env_file_is_never_committed_nor_sent_to_the_engine() -> None:
    assert _git("check-ignore", ".env") == ".env"
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(line.startswith("!.env") for line in ignored)
    assert not any("password" in line.lower() for line in DOCKERFILE.splitlines())


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


# --- The services


def test_images_are_pinned_users_are_not_root_and_ports_are_this_machines(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d", tag) or "build" in service, name
        assert service["user"].split(":")[0] not in {"", "0", "root"}, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+-", image) or image in {"base", "build"}, image
    assert DOCKERFILE.rindex("USER 50000") > DOCKERFILE.rindex("RUN ")


def test_each_service_is_checked_or_runs_once(services: dict[str, Any]) -> None:
    needed = [
        (name, other, wanted["condition"])
        for name, service in services.items()
        for other, wanted in service.get("depends_on", {}).items()
    ]
    once = {other for _, other, how in needed if how == "service_completed_successfully"}
    assert {name for name, service in services.items() if "profiles" in service} == {"contract"}
    for name in set(services) - {"contract"}:
        assert (name in once) != ("healthcheck" in services[name]), name
        assert ("restart" in services[name]) == (name not in once), name
    for name, other, how in needed:
        checked = how == "service_healthy" and "healthcheck" in services[other]
        assert checked or (how == "service_completed_successfully" and other in once), name


def test_every_volume_is_declared_and_every_path_is_in_the_repository_and_the_image(
    services: dict[str, Any],
) -> None:
    declared = compose.load()["volumes"]
    mounted = [
        (name, *volume.split(":"))
        for name, service in services.items()
        for volume in service.get("volumes", [])
    ]
    assert {what for _, what, *_ in mounted if not what.startswith("./")} == set(declared)
    made = re.search(r"install -d .*?\n((?:.*\\\n)*.*)", DOCKERFILE)
    assert made is not None
    in_image = set(made[1].split()) | {
        f"/opt/tidemark/project/{folder}"
        for folder in re.findall(
            r"^COPY (\w+) \./\1$", DOCKERFILE.rpartition("FROM base\n")[2], re.MULTILINE
        )
    }
    for name, what, path, *how in mounted:
        if what.startswith("./"):
            assert (PROJECT / what).is_dir(), what
            assert how == ["ro"], what
        if name in _ours(services):
            assert path in in_image, path


def test_everything_that_the_image_copies_is_in_the_repository_and_sent_to_the_engine() -> None:
    kept = {line[1:] for line in (PROJECT / ".dockerignore").read_text().split() if line[0] == "!"}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    named = {name for names in copied for name in names.split()}
    assert named == kept
    assert all((PROJECT / name).exists() for name in named)


def test_what_the_image_asks_of_the_lock_is_there() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    for extra in re.findall(r"--extra (\w+)", DOCKERFILE):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    makefile = (PROJECT / "Makefile").read_text()
    (version,) = re.findall(r"^UV_VERSION := (\S+)", makefile, re.MULTILINE)
    assert f"uv=={version}" in DOCKERFILE
    assert re.search(r"^hatchling==", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    for module in re.findall(r"python -m (tidemark[\w.]+)", DOCKERFILE):
        assert importlib.util.find_spec(module), module


# --- The environment and the commands


def test_every_variable_is_one_that_tidemark_or_airflow_reads(services: dict[str, Any]) -> None:
    source = "\n".join(path.read_text() for path in (PROJECT / "src" / "tidemark").rglob("*.py"))
    options = _airflow_options()
    for service in _ours(services).values():
        for name, value in service["environment"].items():
            assert isinstance(value, str), f"{name}: YAML must not read it as something else"
            if match := re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)", name):
                assert match[2].lower() in options[match[1].lower()], name
            elif name.startswith("AIRFLOW_CONN_"):
                assert json.loads(value)["conn_type"], name
            else:
                assert f'"{name}"' in source or name == "AIRFLOW_HOME", name


def _airflow_options() -> dict[str, set[str]]:
    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    assert spec.submodule_search_locations
    described = Path(spec.submodule_search_locations[0]) / "config_templates" / "config.yml"
    sections = yaml.safe_load(described.read_text())
    return {name: set(section["options"]) for name, section in sections.items()}


def test_every_host_is_a_service_at_the_port_that_it_listens_on(services: dict[str, Any]) -> None:
    listens = {
        "postgres": 5432, "sqlserver": 1433, "mailpit": 1025, "api-server": 8080, "azurite": 10000
    }  # fmt: skip
    environment = services["scheduler"]["environment"]
    named = {
        (match[1], int(match[2]))
        for value in environment.values()
        for match in re.finditer(r"(?:@|://)([a-z-]+):(\d+)/", value)
    }
    connections = [json.loads(v) for k, v in environment.items() if k.startswith("AIRFLOW_CONN_")]
    named |= {(c["host"], c["port"]) for c in connections if "port" in c}
    assert {place for place in named if place[0] != "localhost"} == set(listens.items())
    assert set(listens) <= set(services)


def test_our_own_steps_and_checks_are_ones_that_the_code_has(services: dict[str, Any]) -> None:
    parsed = 0
    for name, service in _ours(services).items():
        calls = [compose.command(service), service.get("healthcheck", {}).get("test", [])[1:]]
        for words in calls:
            if words[:3] == ["python", "-m", "tidemark.stack"]:
                stack._parser().parse_args(words[3:])
                parsed += 1
            else:
                assert not words or words[0] == "airflow" or words == ["true"], name
    assert parsed == 7


def test_the_contract_suite_runs_in_its_own_image_on_the_stacks_server(
    services: dict[str, Any],
) -> None:
    contract = services["contract"]
    stage = f"FROM build AS {contract['build']['target']}\n"
    assert stage in DOCKERFILE
    words = compose.command(contract)
    assert json.dumps(words) in DOCKERFILE.split(stage)[1]
    assert (PROJECT / words[-1] / "conftest.py").is_file()
    ((variable, url),) = contract["environment"].items()
    assert f'"{variable}"' in (PROJECT / words[-1] / "conftest.py").read_text()
    assert sa.make_url(url).host == "sqlserver"
    assert sa.make_url(url).database == "Spotify"
    assert "dev = [" in (PROJECT / "pyproject.toml").read_text()


def test_the_stacks_tables_are_the_samples_and_gold_is_the_same() -> None:
    rules = PROJECT / "spark_jobs" / "rules"
    loaded = load_all(PROJECT / "stack" / "config", rules)["spotify"]
    sample = load_all(PROJECT / "config", rules)["spotify"]
    assert isinstance(loaded, Source)
    assert isinstance(sample, Source)
    assert {n: (t.key, t.cursor, t.gold) for n, t in loaded.tables.items()} == {
        n: (t.key, t.cursor, t.gold) for n, t in sample.tables.items()
    }
    assert {t.strategy for t in loaded.tables.values()} == {
        "change_tracking", "rowversion", "snapshot", "watermark"
    }  # fmt: skip
