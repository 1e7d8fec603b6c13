"""The metadata: what to ingest and how, read from ``config/``, one `Source` a file.

What a table leaves out is filled in before validation, so that a `Table` holds the values that
apply. All problems of a file are reported together, in one `ConfigError` with a line for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tidemark.errors import ConfigError
from tidemark.metadata.clashes import Claim, clashes, source_claims, table_claims
from tidemark.metadata.columns import SIDE, Columns
from tidemark.metadata.config_digest import config_digest, config_files, require_config
from tidemark.metadata.maintenance import Maintenance
from tidemark.metadata.problems import FILLED, Problem, config_error, problems_of
from tidemark.metadata.rule_names import rule_names
from tidemark.metadata.source import Alerts, Databricks, Endpoint, Reconcile, Source, TaskPolicy
from tidemark.metadata.table import Defaults, Gold, Table, snake_case
from tidemark.metadata.types import BronzeLayout, Mask, Strategy
from tidemark.metadata.views import View, ViewTable, view_problems
from tidemark.metadata.yaml_file import read_yaml
from tidemark.suggestions import did_you_mean

__all__ = [
    "SIDE",
    "Alerts",
    "BronzeLayout",
    "Columns",
    "Databricks",
    "Endpoint",
    "Gold",
    "Maintenance",
    "Mask",
    "Reconcile",
    "Source",
    "Strategy",
    "Table",
    "TaskPolicy",
    "View",
    "ViewTable",
    "config_digest",
    "load_all",
    "load_source",
    "require_config",
    "rule_notes",
    "snake_case",
    "source_file",
]


def load_source(path: Path, rules_folder: Path | None = None) -> Source:
    """Read one file of metadata.

    Args:
        path: The YAML file; its stem is the source's name and the Dag's id.
        rules_folder: Where ``<source>.py`` holds the cleaning rules. By default
            ``spark_jobs/rules`` beside the file's folder; if that is missing, the rules are taken
            as they are written.

    Raises:
        ConfigError: The file is wrong; the message has a line for each problem.
    """
    document = read_yaml(path)
    problems = [*_stem_problems(path), *document.problems]
    if not isinstance(document.data, dict):
        problems.append(Problem((), "must be a mapping with at least 'source' and 'tables'"))
        raise config_error(path, problems, document.lines)
    raw, defaults_are_good = _filled(document.data, path)
    problems += _resolve_rules(raw.get("tables"), path, rules_folder)
    source = None
    try:
        source = Source.model_validate(raw, by_name=False)
    except ValidationError as error:
        found = problems_of(error, Source)
        problems += [p for p in found if defaults_are_good or not _is_missing_cursor(p)]
    problems += clashes(_raw_claims(raw.get("tables"), path))
    problems += view_problems(source.views, source.tables.values()) if source else []
    if source is None or problems:
        raise config_error(path, problems, document.lines)
    return source


def source_file(folder: Path, name: str) -> Path:
    """Give the path of a source's file, which may end in ``.yaml`` or ``.yml``."""
    short = folder / f"{name}.yml"
    return short if short.is_file() else folder / f"{name}.yaml"


def load_all(folder: Path, rules_folder: Path | None = None) -> dict[str, Source | ConfigError]:
    """Read every ``*.yaml`` and ``*.yml`` of a folder; a broken file does not affect the others.

    Files whose name begins with a dot are left out.

    Returns:
        By file stem, sorted: the source, or what is wrong with its file. All files share one lake:
        of two that want the same folder in it, the later one gets the error.

    Raises:
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; create it, or let TIDEMARK_CONFIG name another")
    loaded: dict[str, Source | ConfigError] = {}
    taken: list[Claim] = []
    for path in config_files(folder):
        if path.stem in loaded:
            text = f"{path}: another file has this name; keep one of .yaml and .yml"
            loaded[path.stem] = ConfigError(text)
            continue
        try:
            loaded[path.stem] = source = load_source(path, rules_folder)
            own = list(source_claims(source))
            if problems := clashes(own, taken):
                raise config_error(path, problems, {})
            taken += own
        except ConfigError as error:
            loaded[path.stem] = error
    return loaded


def rule_notes(source: Source, rules_folder: Path) -> list[str]:
    """Return a note for each rule that no table uses: perhaps a misspelt name, but no error.

    Raises:
        ConfigError: The rules file is no Python.
    """
    path = rules_folder / f"{source.name}.py"
    used = {table.rule for table in source.tables.values()}
    wanted = [snake_case(table.lake_name) for table in source.tables.values()]
    return [
        f"{path}: rule {name!r} is used by no table of {source.path}{did_you_mean(name, wanted)}"
        for name in rule_names(path)
        if name not in used
    ]


def _stem_problems(path: Path) -> list[Problem]:
    if re.fullmatch("[A-Za-z0-9_.-]+", path.stem):
        return []
    text = f"its name {path.stem!r} is to be a Dag's id; use A-Z, a-z, 0-9 and _ . - only"
    return [Problem((), text)]


def _filled(data: dict[str, Any], path: Path) -> tuple[dict[str, Any], bool]:
    """Return the raw data with each table's defaults filled in, and whether these are all valid.

    Only the valid ones are filled in: the others are reported once, at ``defaults``.
    """
    defaults, source, tables = (data.get(name) for name in ("defaults", "source", "tables"))
    bad = _bad_defaults(defaults)
    fill: dict[str, Any] = {}
    if isinstance(source, dict) and isinstance(source.get("schema"), str):
        fill["schema"] = source["schema"]
    if isinstance(defaults, dict):
        fill |= {k: v for k, v in defaults.items() if k not in bad and v is not None}
    filled = dict(data) | {f"{FILLED}name": path.stem, f"{FILLED}path": path}
    if isinstance(tables, dict):
        filled["tables"] = {name: _table(name, body, fill) for name, body in tables.items()}
    return filled, not bad


def _table(name: str, body: object, fill: dict[str, Any]) -> object:
    if body is not None and not isinstance(body, dict):
        return body
    return {**fill, **(body or {}), f"{FILLED}name": name}


def _bad_defaults(defaults: object) -> set[str]:
    try:
        Defaults.model_validate(defaults if isinstance(defaults, dict) else {}, by_name=False)
    except ValidationError as error:
        return {str(details["loc"][0]) for details in error.errors()}
    return set()


def _is_missing_cursor(problem: Problem) -> bool:
    return problem.loc[-1:] == ("cursor",) and problem.text.startswith("is missing")


def _resolve_rules(tables: object, path: Path, folder: Path | None) -> list[Problem]:
    """Fill in the rule of each table that names none, and return what is wrong with the others."""
    folder = folder or path.absolute().parent.parent / "spark_jobs" / "rules"
    if not isinstance(tables, dict) or not folder.is_dir():
        return []
    file = folder / f"{path.stem}.py"
    try:
        names = rule_names(file)
    except ConfigError as error:
        return [Problem((), str(error))]
    problems = []
    for table, lake_name, raw in _raw_tables(tables):
        rule = raw.get("rule")
        if rule is None:
            raw["rule"] = next((n for n in names if n == snake_case(lake_name)), None)
        elif isinstance(rule, str) and rule not in names:
            allowed = f"(allowed: {', '.join(names)})" if names else "(it has none)"
            text = f"is {rule!r}, which is no function in {file}{did_you_mean(rule, names)}"
            problems.append(Problem(("tables", table, "rule"), f"{text} {allowed}"))
    return problems


def _raw_tables(tables: object) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, lake name and raw data of each table for which these can be told."""
    for name, raw in tables.items() if isinstance(tables, dict) else ():
        lake_name = raw.get("lake_name", name) if isinstance(raw, dict) else None
        if isinstance(lake_name, str):
            yield name, lake_name, raw


def _raw_claims(tables: object, path: Path) -> Iterator[Claim]:
    """Yield the folders of the tables, also of those that have other problems."""
    for name, lake_name, raw in _raw_tables(tables):
        gold = raw.get("gold")
        gold_name = gold.get("name", snake_case(lake_name)) if isinstance(gold, dict) else None
        yield from table_claims(path, name, lake_name, gold_name)
