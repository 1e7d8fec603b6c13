"""``docs/config.md`` is what the models say, and what it shows is valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tidemark.config_docs import render
from tidemark.metadata import load_source
from tidemark.metadata.durations import format_duration, parse_duration
from tidemark.metadata.problems import field_names
from tidemark.metadata.source import Alerts, Endpoint, Source, TaskPolicy
from tidemark.metadata.table import Defaults, Gold, Table
from tidemark.metadata.views import View, ViewTable

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
MODELS: list[tuple[tuple[Any, ...], type[BaseModel]]] = [
    ((), Source),
    (("source",), Endpoint),
    (("alerts",), Alerts),
    (("tasks",), TaskPolicy),
    (("tables", "DimUser"), Table),
    (("tables", "DimUser", "gold"), Gold),
    (("views", "streams"), View),
    (("views", "streams", "tables", 1), ViewTable),
]
EXAMPLES = [
    ((*place, name), example)
    for place, model in MODELS
    for name, attribute in field_names(model).items()
    for example in model.model_fields[attribute].examples or [None]
]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render(), "python -m tidemark.config_docs > docs/config.md"


def test_every_example_file_of_the_page_is_valid(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```yaml\n(# config/(\S+)\n.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks
    for text, name in blocks:
        path = tmp_path / name
        path.write_text(text)
        assert load_source(path).tables


@pytest.mark.parametrize(("place", "example"), EXAMPLES, ids=str)
def test_every_field_has_a_description_and_a_valid_example(
    tmp_path: Path, place: tuple[Any, ...], example: str
) -> None:
    assert example is not None
    user = {"key": "user_id", "cursor": "updated_at", "gold": {"scd": 2}}
    config: dict[str, Any] = {"source": {"connection": "c"}, "alerts": {}, "tasks": {}}
    config["tables"] = {"DimUser": user}
    joined = {"alias": "t", "match": {"user_id": "s.user_id"}, "columns": ["user_id"]}
    tables = [{"table": "dim_user", "alias": "s"}, {"table": "dim_user"} | joined]
    if place[0] == "views":
        config["views"] = {"streams": {"tables": tables}}
    *parents, name = place
    at: Any = config
    for part in parents:
        at = at[part]
    at[name] = yaml.safe_load(example)
    path = tmp_path / "spotify.yaml"
    path.write_text(yaml.safe_dump(config))
    load_source(path)
    row = next(line for line in render().splitlines() if f"`{name}: {example}`" in line)
    assert all(cell.strip() for cell in row.strip("|").split(" | "))


def test_the_fields_of_defaults_are_fields_of_a_table() -> None:
    for attribute, info in Defaults.model_fields.items():
        of_table = Table.model_fields[attribute]
        assert info.validation_alias == of_table.validation_alias
        assert not info.is_required()


@pytest.mark.parametrize("text", ["0s", "90s", "5m", "1h", "2d", "36h"])
def test_durations_are_shown_as_they_are_written(text: str) -> None:
    assert format_duration(parse_duration(text)) == text
