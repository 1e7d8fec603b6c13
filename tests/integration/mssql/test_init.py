"""What `tidemark init` sees in a server's catalog, and that its config loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mssql_world import SCHEMA, MssqlWorld

from tidemark.errors import SourceError
from tidemark.init.catalog import names_in, open_catalog, table_facts
from tidemark.init.draft import draft_of
from tidemark.init.text import render
from tidemark.metadata import load_source

Make = Callable[..., MssqlWorld]


def test_a_tables_key_and_cursor_are_found(make: Make, tmp_path: Path) -> None:
    world = make("price decimal(9, 2) NULL, created_at datetime NULL, updated_at datetime2(7) NULL")
    assert world.server is not None
    name = world.table.name
    try:
        with open_catalog(world.server.url, "shop", SCHEMA) as source:
            names = names_in(source, SCHEMA)
            facts = table_facts(source, SCHEMA, name, is_view=False)
    except SourceError as error:
        pytest.skip(f"the server's catalog can't be read as SQLAlchemy reads it: {error}")
    assert names[name] is False
    assert facts.primary_key == ("id",)
    path = tmp_path / "first.yaml"
    path.write_text(render("shop", "first", SCHEMA, [draft_of(facts)]))
    table = load_source(path).tables[name]
    assert (table.key, table.strategy, table.cursor) == (("id",), "watermark", "updated_at")
