"""Business views: gold tables joined as the metadata says, and what must fit together for that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, field_validator

from tidemark.metadata.problems import Loc, Problem
from tidemark.metadata.table import Table
from tidemark.metadata.types import CLOSED, FolderName, Text
from tidemark.suggestions import did_you_mean


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _named(value: object) -> object:
    if not isinstance(value, list):
        return value
    if len(set(map(str, value))) < len(value):
        raise ValueError("which names a column twice; write {column: name} to give it two names")
    return {each: each for each in value}


def _kept(value: dict[str, str]) -> dict[str, str]:
    for name in value.values():
        if re.search(r"[ ,;{}()\n\t=]", name):
            raise ValueError(f"but no table in the lake can hold {name!r}; name it otherwise")
    return value


ViewColumns = Annotated[dict[Text, Text], BeforeValidator(_named), AfterValidator(_kept)]


class ViewTable(BaseModel):
    """One table of a view: the first is read, each further one is joined to those before it."""

    model_config = CLOSED
    table: Text = Field(
        description="Gold table of this file, or a view above this one.", examples=["dim_user"]
    )
    alias: FolderName = Field(
        description="What `match` and `where` call it; unique within the view.", examples=["u"]
    )
    columns: ViewColumns = Field(
        default_factory=dict,
        description="The columns that the view gets of it: a list, or a mapping to their names in "
        "the view. None, if empty: the table is there for its `match`.",
        examples=["[user_name, country]", "{country: user_country}"],
        json_schema_extra={"type": "list of text, or mapping of text to text"},
    )
    match: dict[Text, Text] = Field(
        default_factory=dict,
        description="For all but the first: a column of this table, and the column of a table "
        "above that it equals, with that one's alias.",
        examples=["{user_id: s.user_id}"],
        json_schema_extra={"default": "**required** for all but the first"},
    )
    join: Literal["left", "inner"] = Field(
        default="left",
        description="`left` keeps the rows above that match nothing here, `inner` leaves them out.",
        examples=["inner"],
    )
    history: bool = Field(
        default=False,
        description="Of a table with `scd: 2`: all versions, and not the current ones alone.",
        examples=["true"],
    )


class View(BaseModel):
    """A view over gold tables, kept as a table of its own."""

    model_config = CLOSED
    tables: Annotated[tuple[ViewTable, ...], BeforeValidator(_listed)] = Field(
        description="The tables, joined in this order.",
        examples=["[{table: dim_user, alias: u, columns: [user_name]}]"],
    )
    where: Text | None = Field(
        default=None,
        description="SQL condition on the joined rows, by the tables' aliases.",
        examples=["u.user_id > 0"],
    )
    comment: Text | None = Field(
        default=None, description="What the catalog says of it.", examples=["Streams, in words"]
    )

    @field_validator("tables")
    @classmethod
    def _needs_a_table(cls, value: tuple[ViewTable, ...]) -> tuple[ViewTable, ...]:
        if not any(each.columns for each in value):
            raise ValueError("which gives the view no column; name tables with 'columns'")
        return value


def view_problems(views: Mapping[str, View], tables: Iterable[Table]) -> list[Problem]:
    """Find what does not fit together in a file's views.

    Args:
        views: The views, by name.
        tables: The file's tables.
    """
    gold = {table.gold.name: table for table in tables if table.gold}
    problems: list[Problem] = []
    above: list[str] = []
    for name, view in views.items():
        loc = ("views", name)
        problems += _name_problems(loc, name, gold)
        problems += _table_problems(loc, view, [*gold, *above])
        problems += _excluded(loc, view, gold)
        above.append(name)
    return problems


def _name_problems(loc: Loc, name: str, gold: Iterable[str]) -> Iterator[Problem]:
    for table in gold:
        for taken in (table, f"{table}_changes", f"{table}_quarantine"):
            if name.casefold() == taken.casefold():
                yield Problem(loc, f"has the name of what gold makes of {table!r}; choose another")


def _table_problems(loc: Loc, view: View, known: list[str]) -> Iterator[Problem]:
    aliases: list[str] = []
    names: dict[str, str] = {}
    for number, each in enumerate(view.tables):
        here = (*loc, "tables", number)
        if each.table not in known:
            near, there = did_you_mean(each.table, known), ", ".join(known)
            text = f"is {each.table!r}, no gold table of this file and no view above{near}"
            yield Problem((*here, "table"), f"{text} (allowed: {there})")
        if each.alias.casefold() in {alias.casefold() for alias in aliases}:
            yield Problem((*here, "alias"), f"is {each.alias!r}, which stands above; use another")
        yield from _join_problems(here, each, aliases)
        for column, name in each.columns.items():
            owner = names.setdefault(name.casefold(), f"{each.alias}.{column}")
            if owner != f"{each.alias}.{column}":
                text = f"is {name!r} in the view, as {owner} is; write {{{column}: <other name>}}"
                yield Problem((*here, "columns", column), text)
        aliases.append(each.alias)


def _join_problems(loc: Loc, table: ViewTable, above: list[str]) -> Iterator[Problem]:
    here = (*loc, "match")
    if not above and table.match:
        yield Problem(here, f"is given, but {table.alias!r} is the first table; leave it out")
    if above and not table.match:
        text = f"is missing: say how {table.alias!r} is joined, such as {{id: {above[0]}.id}}"
        yield Problem(here, text)
    for column, other in table.match.items():
        alias, dot, name = other.partition(".")
        if above and (not dot or not name):
            text = f"is {other!r}, which is no column of a table above; write {above[0]}.<column>"
            yield Problem((*here, column), text)
        elif above and alias not in above:
            text = f"is {other!r}, but no table above has the alias {alias!r}"
            near, there = did_you_mean(alias, above), ", ".join(above)
            yield Problem((*here, column), f"{text}{near} (allowed: {there})")


def _excluded(loc: Loc, view: View, gold: Mapping[str, Table]) -> Iterator[Problem]:
    for number, each in enumerate(view.tables):
        table = gold.get(each.table)
        for field, names in (("columns", each.columns), ("match", each.match)):
            left_out = table.columns.first_excluded(names) if table else None
            if left_out is not None:
                here = (*loc, "tables", number, field, left_out)
                yield Problem(here, f"is not read: columns.exclude of {table.name} names it")  # type: ignore[union-attr]
