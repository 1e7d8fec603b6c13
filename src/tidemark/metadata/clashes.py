"""Two tables must not write the same folder of a lake, whatever the case of its letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemark.metadata.problems import Problem
from tidemark.metadata.source import Source


@dataclass(frozen=True)
class Claim:
    """A folder that a table of a file writes, because of the value of one of its fields."""

    folder: str
    file: Path
    table: str
    field: str
    value: str


def table_claims(file: Path, table: str, lake_name: str, gold_name: str | None) -> Iterator[Claim]:
    """Yield the folders of one table: its own, its state's, its changes', and gold's."""
    for suffix in ("", "_cdc", "_changes"):
        yield Claim(f"{lake_name}{suffix}", file, table, "lake_name", lake_name)
    if gold_name is not None:
        yield Claim(f"gold/{gold_name}", file, table, "gold.name", gold_name)


def source_claims(source: Source) -> Iterator[Claim]:
    """Yield the folders of all tables of a source."""
    for table in source.tables.values():
        gold_name = table.gold.name if table.gold else None
        yield from table_claims(source.path, table.name, table.lake_name, gold_name)


def clashes(claims: Iterable[Claim], taken: Iterable[Claim] = ()) -> list[Problem]:
    """Return a problem for each table of `claims` that wants a folder of an earlier one.

    Args:
        claims: The folders of one file's tables, in their order.
        taken: The folders of other files' tables.
    """
    owners = {claim.folder.casefold(): claim for claim in taken}
    problems: dict[tuple[str, str], Problem] = {}
    for claim in claims:
        owner = owners.setdefault(claim.folder.casefold(), claim)
        if (owner.file, owner.table) != (claim.file, claim.table):
            # The first only: with the same lake_name, all other folders are the same too.
            problems.setdefault((claim.table, owner.table), _problem(claim, owner))
    return list(problems.values())


def _problem(claim: Claim, owner: Claim) -> Problem:
    whose = f"table {owner.table}'s"
    if owner.file != claim.file:
        whose += f" in {owner.file}"
    text = (
        f"is {claim.value!r}, but the folder {owner.folder!r} is {whose} already; names are unique "
        f"within a lake, whatever their case: give one of the tables another {claim.field}"
    )
    return Problem(("tables", claim.table, *claim.field.split(".")), text)
