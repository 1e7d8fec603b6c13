"""The metadata's views as SQL, with every name quoted."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from tidemark.metadata import Source, View, ViewTable
from tidemark.spark.rules import quoted

_TEMPLATE = "business_view.sql.j2"


def view_sql(view: View, source: Source) -> str:
    """Render a view as a query over gold's tables.

    Args:
        view: The view.
        source: The metadata that it is part of: its tables say which of them have a history.
    """
    # What is rendered is SQL: HTML's escapes would be wrong in it, `quoted` is SQL's own.
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters["quoted"] = quoted
    template = environment.from_string(files(__package__).joinpath(_TEMPLATE).read_text())
    history = {t.gold.name for t in source.tables.values() if t.gold and t.gold.scd == 2}  # noqa: PLR2004  SCD type 2
    tables = [_table(each, history) for each in view.tables]
    columns = [
        {"alias": each.alias, "name": name, "shown": shown}
        for each in view.tables
        for name, shown in each.columns.items()
    ]
    return template.render(
        columns=columns, first=tables[0], joined=tables[1:], where=view.where
    ).strip()


def _table(table: ViewTable, history: set[str]) -> dict[str, object]:
    return {
        "table": table.table,
        "alias": table.alias,
        "join": table.join,
        "match": [(own, *_split(other)) for own, other in table.match.items()],
        "current": table.table in history and not table.history,
    }


def _split(other: str) -> tuple[str, str]:
    alias, _, name = other.partition(".")
    return alias, name
