"""The bundle, as Databricks' documentation and its own models read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundle import FILES, PROJECT, USER, Bundle, load_bundle, references

from tidemark.errors import ConfigError
from tidemark.metadata import config_digest, load_all
from tidemark.spark.databricks import EVOLUTION, FILES_BY, MAX_FILES, auto_loader_options

TARGETS = ("dev", "qa", "prod")
IDENTITIES = {"silver_principal": "silver-id", "gold_principal": "gold-id", "airflow": "client-id"}
GIVEN = {
    "lake": "abfss://lake@account.dfs.core.windows.net",
    "config_digest": "0" * 64,
} | IDENTITIES


@pytest.fixture(scope="module", params=TARGETS)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return load_bundle(request.param, GIVEN)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    else:
        yield key, value


def _tasks(bundle: Bundle) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, job in bundle.jobs.items():
        for task in job["tasks"]:
            yield key, task


def test_what_is_deployed_is_there(bundle: Bundle) -> None:
    paths = {
        value
        for _, value in _leaves([dict(bundle.jobs), dict(bundle.pipelines)])
        if isinstance(value, str) and value.startswith(str(PROJECT))
    }
    wheel = str(PROJECT / "dist" / "*.whl")
    assert wheel in paths
    missing = [path for path in paths - {wheel} if not Path(path).is_file()]
    assert not missing
    assert {"spark_jobs/silver.py", "dlt/scd.py"} <= {
        str(Path(path).relative_to(PROJECT)) for path in paths
    }
    synced = yaml.safe_load((PROJECT / "databricks.yml").read_text())["sync"]["paths"]
    for path in paths - {wheel}:
        assert Path(path).relative_to(PROJECT).parts[0] in synced


def test_nothing_is_left_open(bundle: Bundle) -> None:
    for _, value in _leaves([dict(bundle.jobs), dict(bundle.pipelines), dict(bundle.target)]):
        assert "${" not in str(value)


def test_every_reference_and_variable_is_used_and_known() -> None:
    declared = yaml.safe_load((PROJECT / "databricks.yml").read_text())["variables"]
    used = {name.removeprefix("var.") for name in references() if name.startswith("var.")}
    assert used == set(declared)


@pytest.mark.parametrize("name", ["lake", "config_digest"])
def test_a_value_that_only_the_user_knows_is_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match=f"required variable {name}"):
        load_bundle("dev", {key: value for key, value in GIVEN.items() if key != name})


def test_each_target_has_its_own_catalog_and_prefix() -> None:
    bundles = {target: load_bundle(target, GIVEN) for target in TARGETS}
    catalogs = {b.pipelines["gold_spotify"]["catalog"] for b in bundles.values()}
    prefixes = {b.prefix for b in bundles.values()}
    assert len(catalogs) == len(prefixes) == len(TARGETS)
    assert {t: b.target["mode"] for t, b in bundles.items()} == {
        "dev": "development",
        "qa": "production",
        "prod": "production",
    }


def test_developers_do_not_write_each_others_tables() -> None:
    dev, prod = load_bundle("dev", GIVEN), load_bundle("prod", GIVEN)
    assert dev.pipelines["gold_spotify"]["schema"] == f"{USER}_gold"
    assert prod.pipelines["gold_spotify"]["schema"] == "gold"
    for bundle, schema in ((dev, f"{USER}_silver"), (prod, "silver")):
        for job in bundle.jobs.values():
            (cluster,) = job["job_clusters"]
            assert cluster["new_cluster"]["spark_env_vars"]["TIDEMARK_SILVER_SCHEMA"] == schema


def test_airflow_may_run_what_it_does_not_own() -> None:
    qa = load_bundle("qa", GIVEN)
    assert qa.target["permissions"] == [{"level": "CAN_RUN", "service_principal_name": "client-id"}]


@pytest.mark.parametrize("target", ["qa", "prod"])
def test_who_writes_silver_and_who_writes_gold_are_two(target: str) -> None:
    bundle = load_bundle(target, GIVEN)
    jobs = {str(job["run_as"]["service_principal_name"]) for job in bundle.jobs.values()}
    pipelines = {str(p["run_as"]["service_principal_name"]) for p in bundle.pipelines.values()}
    assert (jobs, pipelines) == ({"silver-id"}, {"gold-id"})
    assert "/Users/" not in bundle.target["workspace"]["root_path"]


@pytest.mark.parametrize("target", ["qa", "prod"])
@pytest.mark.parametrize("name", list(IDENTITIES))
def test_an_identity_of_production_is_asked_for(target: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"required variable {name}"):
        load_bundle(target, {key: value for key, value in GIVEN.items() if key != name})


@pytest.mark.parametrize("name", ["silver_principal", "gold_principal"])
def test_an_empty_identity_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="run_as needs a service principal"):
        load_bundle("prod", GIVEN | {name: ""})


def test_in_development_whoever_deploys_runs_it() -> None:
    own = {key: value for key, value in GIVEN.items() if key not in IDENTITIES}
    dev = load_bundle("dev", own)
    assert not [r for r in (*dev.jobs.values(), *dev.pipelines.values()) if "run_as" in r]


def test_a_resource_that_the_bundle_lacks_can_have_no_identity(tmp_path: Path) -> None:
    text = (PROJECT / "databricks.yml").read_text().replace("gold_spotify:", "gold_shop:")
    (tmp_path / "databricks.yml").write_text(text)
    (tmp_path / "resources").symlink_to(PROJECT / "resources")
    with pytest.raises(ValueError, match="target prod: gold_shop is no resource"):
        load_bundle("prod", GIVEN, tmp_path)


AUTO_LOADER = {
    "auto_loader_files": (FILES_BY, ("listing", "events", "notifications")),
    "auto_loader_max_files": (MAX_FILES, ("1", "50000")),
    "auto_loader_schema_evolution": (EVOLUTION, ("none", "rescue", "failOnNewColumns")),
}


def test_how_bronze_is_read_is_a_targets_own_and_what_the_job_takes(bundle: Bundle) -> None:
    for job in bundle.jobs.values():
        found = job["job_clusters"][0]["new_cluster"]["spark_env_vars"]
        defaults = {"TIDEMARK_CATALOG", "TIDEMARK_SILVER_SCHEMA", "TIDEMARK_SERVICE_CREDENTIAL"}
        assert set(found) == defaults | {name for name, _ in AUTO_LOADER.values()}
        assert auto_loader_options(found) == auto_loader_options({})


@pytest.mark.parametrize("variable", AUTO_LOADER)
def test_each_valid_value_of_auto_loaders_is_described_and_no_other_taken(variable: str) -> None:
    name, values = AUTO_LOADER[variable]
    declared = yaml.safe_load((PROJECT / "databricks.yml").read_text())["variables"][variable]
    found = set()
    for value in values:
        bundle = load_bundle("qa", GIVEN | {variable: value})
        variables = bundle.jobs["silver"]["job_clusters"][0]["new_cluster"]["spark_env_vars"]
        assert variables[name] == value
        found.add(json.dumps(auto_loader_options(variables)))
        assert value.isdecimal() or re.search(rf"\b{value}\b", declared["description"])
    assert len(found) == len(values)
    with pytest.raises(ConfigError, match=name):
        auto_loader_options({name: "addNewColumns"})


def test_airflow_alone_starts_anything(bundle: Bundle) -> None:
    for job in bundle.jobs.values():
        for kind in ("schedule", "continuous", "trigger"):
            assert job.get(kind, {"pause_status": "PAUSED"})["pause_status"] == "PAUSED"
    assert not any(pipeline["continuous"] for pipeline in bundle.pipelines.values())


def test_each_job_gives_its_program_arguments_that_it_takes(bundle: Bundle) -> None:
    for key, task in _tasks(bundle):
        program, words = task["spark_python_task"]["python_file"], _words(task)
        says = _help(program)
        options = {word for word in words if word.startswith("--")}
        assert options, key
        for option in options:
            assert re.search(rf"{option}\b", says), f"{key}: {program} knows no {option}"


def _words(task: dict[str, Any]) -> list[str]:
    return [str(word) for word in task["spark_python_task"]["parameters"]]


def _help(program: str) -> str:
    command = [sys.executable, program, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_each_job_parameter_reaches_the_program_and_no_other_does(bundle: Bundle) -> None:
    for job in bundle.jobs.values():
        declared = {parameter["name"] for parameter in job.get("parameters", [])}
        text = " ".join(word for task in job["tasks"] for word in _words(task))
        assert set(re.findall(r"\{\{job\.parameters\.(\w+)\}\}", text)) == declared


@pytest.mark.parametrize("key", ["maintenance", "replay", "silver_stream"])
def test_a_run_that_airflow_does_not_start_checks_the_metadata_too(key: str) -> None:
    job = load_bundle("prod", GIVEN).jobs[key]
    given = {p["name"]: p["default"] for p in job.get("parameters", [])}
    words = _words(job["tasks"][0])
    digest = words[words.index("--config-digest") + 1]
    assert (
        digest.replace("{{job.parameters.config_digest}}", given.get("config_digest", ""))
        == (GIVEN["config_digest"])
    )


def test_a_replay_takes_all_of_a_source_unless_told_otherwise() -> None:
    job = load_bundle("prod", GIVEN).jobs["replay"]
    assert {p["name"]: p["default"] for p in job["parameters"]} == {
        "source": "spotify",
        "tables": "",
        "files": "",
        "rescue": "false",
        "config_digest": GIVEN["config_digest"],
        "report": "",
    }
    assert "--replay" in _words(job["tasks"][0])
    assert job["max_concurrent_runs"] == 1


def test_every_source_has_its_pipeline(bundle: Bundle) -> None:
    sources = load_all(PROJECT / "config")
    assert set(bundle.pipelines) == {f"gold_{name}" for name in sources}
    for name in sources:
        pipeline = bundle.pipelines[f"gold_{name}"]
        assert pipeline["name"] == f"{bundle.prefix}tidemark_{name}_gold"
        assert pipeline["configuration"] == {
            "pipelines.numUpdateRetryAttempts": "0",
            "spark.sql.session.timeZone": "UTC",
            "tidemark.lake": GIVEN["lake"],
            "tidemark.config": f"{FILES}/config",
            "tidemark.source": name,
            "tidemark.config_digest": GIVEN["config_digest"],
        }


def test_gold_runs_serverless_or_on_clusters_but_never_both() -> None:
    plain = load_bundle("prod", GIVEN).pipelines["gold_spotify"]
    assert plain["serverless"] is True
    assert plain["clusters"] == []
    clusters = [{"label": "default", "num_workers": 2}]
    own = load_bundle("prod", GIVEN | {"gold_serverless": False, "gold_clusters": clusters})
    assert own.pipelines["gold_spotify"]["serverless"] is False
    assert own.pipelines["gold_spotify"]["clusters"] == clusters


def test_silver_gets_a_cluster_on_which_it_can_tell_what_it_did(bundle: Bundle) -> None:
    for job in bundle.jobs.values():
        for cluster in job["job_clusters"]:
            mode = cluster["new_cluster"]["data_security_mode"]
            assert mode == "DATA_SECURITY_MODE_DEDICATED"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("max_retries: 0", "max_retry: 0", "max_retry"),
        ("${var.node_type}", "${var.node}", r"reference does not exist: \$\{var\.node\}"),
        ("resources:\n  jobs", "resource:\n  jobs", "unknown field: resource"),
    ],
)
def test_a_mistake_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    folder = tmp_path / "resources"
    folder.mkdir()
    text = (PROJECT / "resources" / "jobs.yml").read_text()
    assert old in text
    (folder / "jobs.yml").write_text(text.replace(old, new))
    (tmp_path / "databricks.yml").write_text((PROJECT / "databricks.yml").read_text())
    with pytest.raises((ValueError, TypeError), match=reason):
        load_bundle("dev", GIVEN, tmp_path)


def test_the_wheel_holds_the_library_and_none_of_the_users_files(tmp_path: Path) -> None:
    build = yaml.safe_load((PROJECT / "databricks.yml").read_text())["artifacts"]["tidemark"]
    words = build["build"].replace("dist", str(tmp_path)).split()
    uv = Path(sys.executable).parent / "uv"
    subprocess.run(
        [uv, *words[1:], "--no-build-isolation", "--python", sys.executable],
        cwd=PROJECT / build["path"],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "tidemark/spark/silver.py" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"tidemark"}


def test_the_digest_is_printed_for_the_deployment() -> None:
    command = [Path(sys.executable).parent / "tidemark", "digest"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{config_digest(PROJECT / 'config')}\n"
    assert not done.stderr
