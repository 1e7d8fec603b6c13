"""Two tables must not have the same folder or name in a lake, whatever the case of its letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidemark.metadata.problems import Problem
from tidemark.metadata.source import Source

VIEW = "view"


@dataclass(frozen=True)
class Claim:
    """What a table of a file has for its own, because of the value of one of its fields.

    Attributes:
        claimed: The folder or name.
        file: The metadata's file.
        table: The table.
        field: The field that it follows from.
        value: The field's value.
        kind: A ``folder`` is one for the whole lake; a ``name`` in gold's pipeline for its file.
    """

    claimed: str
    file: Path
    table: str
    field: str
    value: str
    kind: Literal["folder", "name"] = "folder"

    @property
    def key(self) -> tuple[str, str]:
        """What no two claims may have in common."""
        return self.kind, self.claimed.casefold()


def table_claims(file: Path, table: str, lake_name: str, gold_name: str | None) -> Iterator[Claim]:
    """Yield the folders of one table (its own, its state's, its changes', gold's) and its names."""
    for suffix in ("", "_cdc", "_changes"):
        yield Claim(f"{lake_name}{suffix}", file, table, "lake_name", lake_name)
    if gold_name is not None:
        for name in (gold_name, f"{gold_name}_quarantine"):
            yield Claim(f"gold/{name}", file, table, "gold.name", gold_name)
        # Beside the gold tables, `dlt/scd.py` declares a view of each table's changes.
        for name in (gold_name, f"{gold_name}_changes"):
            yield Claim(name, file, table, "gold.name", gold_name, "name")


def source_claims(source: Source) -> Iterator[Claim]:
    """Yield the folders of a source's tables and views: what it shares with other sources."""
    for table in source.tables.values():
        gold_name = table.gold.name if table.gold else None
        claims = table_claims(source.path, table.name, table.lake_name, gold_name)
        yield from (claim for claim in claims if claim.kind == "folder")
    for view in source.views:
        yield Claim(f"gold/{view}", source.path, view, VIEW, view)


def clashes(claims: Iterable[Claim], taken: Iterable[Claim] = ()) -> list[Problem]:
    """Return a problem for each table of `claims` that wants what an earlier one has.

    Args:
        claims: The folders and names of one file's tables, in their order.
        taken: The folders of other files' tables.
    """
    owners = {claim.key: claim for claim in taken}
    problems: dict[tuple[str, str], Problem] = {}
    for claim in claims:
        owner = owners.setdefault(claim.key, claim)
        if (owner.file, owner.table) != (claim.file, claim.table):
            # The first only: with the same lake_name, all other folders are the same too.
            problems.setdefault((claim.table, owner.table), _problem(claim, owner))
    return list(problems.values())


def _problem(claim: Claim, owner: Claim) -> Problem:
    whose = f"{'view' if owner.field == VIEW else 'table'} {owner.table}'s"
    if owner.file != claim.file:
        whose += f" in {owner.file}"
    rule = (
        "names are unique within a lake, whatever their case"
        if claim.kind == "folder"
        else "gold names a view of each table's changes like the table, with '_changes' behind it"
    )
    text = f"is {claim.value!r}, but the {claim.kind} {owner.claimed!r} is {whose} already; {rule}"
    if claim.field == VIEW:
        return Problem(("views", claim.table), f"{text}: give one of them another name")
    text += f": give one of the tables another {claim.field}"
    return Problem(("tables", claim.table, *claim.field.split(".")), text)
