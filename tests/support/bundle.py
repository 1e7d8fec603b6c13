"""What `databricks bundle deploy` would make of `databricks.yml` and `resources/`.

The command asks a workspace even to validate. So this does what its documentation says of includes,
variables, targets and development mode (docs.databricks.com, "Databricks Asset Bundles
configuration", "deployment modes"), refuses what that does not name, and hands each resource to
Databricks' own models, which know every field of the API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from databricks.bundles.jobs import Job
from databricks.bundles.pipelines import Pipeline

PROJECT = Path(__file__).parents[2]
FILES = "/Workspace/files"
USER = "jane_doe"

# "Configuration reference", the mappings that may stand at the top and in a target.
_TOP = {
    "artifacts", "bundle", "environments", "experimental", "include", "permissions", "presets",
    "python", "resources", "run_as", "scripts", "sync", "targets", "variables", "workspace",
}  # fmt: skip
_TARGET = (_TOP - {"include", "targets", "environments", "python", "scripts", "experimental"}) | {
    "default", "cluster_id", "git", "mode",
}  # fmt: skip
_VARIABLE = {"default", "description", "lookup", "type"}
_MODELS: dict[str, type[Job | Pipeline]] = {"jobs": Job, "pipelines": Pipeline}
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_PATH_KEYS = ("python_file", "whl", "path", "include", "notebook_path")


@dataclass(frozen=True)
class Bundle:
    """A bundle as one target deploys it: every reference resolved.

    Attributes:
        jobs: By resource key; each with the identity that it runs as, where the target names one.
        pipelines: By resource key.
        target: The target's own mapping.
        prefix: What the target puts before each name.
    """

    jobs: Mapping[str, dict[str, Any]]
    pipelines: Mapping[str, dict[str, Any]]
    target: Mapping[str, Any]
    prefix: str


def load_bundle(
    target: str, variables: Mapping[str, Any] | None = None, project: Path = PROJECT
) -> Bundle:
    """Resolve the bundle for a target.

    Local paths of resources become absolute ones; a wheel stays the pattern that it is.

    Args:
        target: ``dev``, ``qa`` or ``prod``.
        variables: As ``BUNDLE_VAR_<name>`` would give them.
        project: The folder of ``databricks.yml``.

    Raises:
        ValueError: Something is not known, not given or not referenced rightly.
    """
    document = yaml.safe_load((project / "databricks.yml").read_text())
    _check_known(document, _TOP, "databricks.yml")
    chosen = document["targets"][target]
    _check_known(chosen, _TARGET, f"target {target}")
    values = _values(document, chosen, variables or {}, target)
    prefix = f"[dev {USER}] " if chosen.get("mode") == "development" else ""
    prefix = chosen.get("presets", {}).get("name_prefix", prefix)
    found: dict[str, dict[str, Any]] = {kind: {} for kind in _MODELS}
    own = _overrides(chosen)
    for path in sorted(p for pattern in document["include"] for p in project.glob(pattern)):
        for kind, key, raw in _resources(path):
            raw = _merged(raw, own.pop((kind, key), {}))  # noqa: PLW2901  the target's comes on top
            if "run_as" in chosen:  # "resources": one that has its own keeps it
                raw = {"run_as": chosen["run_as"]} | raw  # noqa: PLW2901
            resource = _resolved(raw, values, f"{path.name}: {key}")
            _MODELS[kind].from_dict(resource)  # refuses what the API does not know
            located = _located(resource, path.parent)
            located["name"] = prefix + located["name"]
            found[kind][key] = located
    if own:
        message = f"target {target}: {next(iter(own))[1]} is no resource of the bundle"
        raise ValueError(message)
    target_values = _resolved(dict(chosen), values, target)
    _check_identities([target_values, *found["jobs"].values(), *found["pipelines"].values()])
    return Bundle(found["jobs"], found["pipelines"], target_values, prefix)


def _check_identities(found: list[dict[str, Any]]) -> None:
    """Refuse an empty identity: the command does so for a target's, a resource's it lets pass."""
    for each in found:
        if each.get("run_as", {}).get("service_principal_name") == "":
            message = f"{each.get('name', 'target')}: run_as needs a service principal"
            raise ValueError(message)


def references(project: Path = PROJECT) -> set[str]:
    """Name every ``${…}`` of the bundle's files."""
    files = [project / "databricks.yml", *sorted((project / "resources").glob("*.yml"))]
    return {name for path in files for name in _REFERENCE.findall(path.read_text())}


def _resources(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    document = yaml.safe_load(path.read_text())
    _check_known(document, {"resources"}, path.name)
    _check_known(document["resources"], set(_MODELS), path.name)
    return [
        (kind, key, raw)
        for kind, resources in document["resources"].items()
        for key, raw in resources.items()
    ]


def _overrides(target: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Give what a target says of resources, by kind and key."""
    given = target.get("resources", {})
    _check_known(given, set(_MODELS), "resources of a target")
    return {(kind, key): body for kind, found in given.items() for key, body in found.items()}


def _merged(value: Any, over: Any) -> Any:
    """Lay a target's settings over a resource's: mappings are joined, others replaced."""
    if not isinstance(value, dict) or not isinstance(over, dict):
        return over
    return value | {k: _merged(value[k], v) if k in value else v for k, v in over.items()}


def _values(
    document: Mapping[str, Any], target: Mapping[str, Any], given: Mapping[str, Any], name: str
) -> dict[str, Any]:
    declared = document["variables"]
    for variable, body in declared.items():
        _check_known(body, _VARIABLE, f"variable {variable}")
    own = target.get("variables", {})
    for source in (own, given):
        _check_known(source, set(declared), "variables")
    values = {v: body["default"] for v, body in declared.items() if "default" in body}
    values |= own | dict(given)
    if missing := sorted(set(declared) - set(values)):
        message = f"no value assigned to required variable {missing[0]}"
        raise ValueError(message)
    own_values = {
        "bundle.name": document["bundle"]["name"],
        "bundle.target": name,
        "workspace.file_path": FILES,
        "workspace.current_user.short_name": USER,
    }
    resolved = _resolved(values, own_values, "variables")
    return own_values | {f"var.{variable}": value for variable, value in resolved.items()}


def _resolved(value: Any, values: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item, values, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, values, where) for item in value]
    if not isinstance(value, str):
        return value
    for name in _REFERENCE.findall(value):
        if name not in values:
            message = f"{where}: reference does not exist: ${{{name}}}"
            raise ValueError(message)
    whole = _REFERENCE.fullmatch(value)
    if whole:  # keeps its type
        return values[whole[1]]
    return _REFERENCE.sub(lambda match: str(values[match[1]]), value)


def _located(value: Any, folder: Path, key: str = "") -> Any:
    """Make local paths absolute: they count from the file that they stand in."""
    if isinstance(value, dict):
        return {name: _located(item, folder, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_located(item, folder, key) for item in value]
    is_path = key in _PATH_KEYS or key == "dependencies"
    if is_path and isinstance(value, str) and value.startswith("."):
        return str((folder / value).resolve())
    return value


def _check_known(found: Mapping[str, Any], known: set[str], where: str) -> None:
    if strange := sorted(set(found) - known):
        message = f"{where}: unknown field: {strange[0]}"
        raise ValueError(message)
