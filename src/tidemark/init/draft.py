"""What a first config says of a table, and why: decided from the facts alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidemark.init.adf import AdfTable, find
from tidemark.init.cursors import candidates
from tidemark.init.facts import Column, TableFacts
from tidemark.metadata import Strategy
from tidemark.metadata.clashes import Claim, clashes, table_claims
from tidemark.metadata.types import TASKS_OF_A_RUN

_OFFERED: dict[Strategy, str] = {
    "cdc": "SQL Server's capture records its changes, and the login may read them",
    "change_tracking": "SQL Server records which rows changed, and the login may read that",
    "rowversion": "its column of type rowversion moves with each change",
}


@dataclass(frozen=True)
class Field:
    """A field of a table, and why it has this value.

    Attributes:
        name: Its name in the metadata.
        value: A text, or the names of a list.
        why: In words.
        is_hint: It is written as a comment, for the user to take in.
    """

    name: str
    value: str | tuple[str, ...]
    why: str
    is_hint: bool = False


@dataclass(frozen=True)
class Draft:
    """A table of the config.

    Attributes:
        facts: The table.
        fields: What is said of it.
        remarks: What else is worth knowing of it.
        left_out: Why it stands there as a comment only; None: it does not.
        notes: What differs from what ADF's list says.
    """

    facts: TableFacts
    fields: tuple[Field, ...] = ()
    remarks: tuple[str, ...] = ()
    left_out: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def strategy(self) -> str:
        """The strategy that it is given; empty for a table that is left out."""
        return next((str(f.value) for f in self.fields if f.name == "strategy"), "")


def draft_of(facts: TableFacts, adf: AdfTable | None = None) -> Draft:
    """Decide what the config says of a table.

    Args:
        facts: The table.
        adf: What ADF's list says of it; None: nothing.
    """
    if facts.refused:
        return Draft(facts, left_out=facts.refused)
    if not facts.name.strip():
        return Draft(facts, left_out="its name is blank; rename it, or read a view of it")
    key = _key(facts)
    if key is None:
        columns = ", ".join(column.name for column in facts.columns)
        hint = Field("key", ("?",), f"its columns: {columns}", is_hint=True)
        return Draft(facts, (hint,), left_out=_no_key(facts))
    if no_type := [name for name in key.value if name in facts.unheld]:
        why = f"its key holds {', '.join(no_type)}, of a type that the lake can't hold"
        return Draft(facts, left_out=f"{why}; read a view that casts it")
    wanted, notes = _adf_cursor(facts, adf)
    fields = [key, *(_adf_fields(wanted) if wanted else _own_fields(facts)), *_texts(facts)]
    return Draft(facts, tuple(fields), tuple(_remarks(facts, wanted, adf)), notes=tuple(notes))


def lake_names(drafts: Iterable[Draft], file: Path, taken: Iterable[Claim]) -> Iterator[Draft]:
    """Give a `lake_name` to each table whose own name is taken in the lake, or is none for it.

    Args:
        drafts: The tables of the file.
        file: The file.
        taken: The folders of other files' tables.
    """
    claimed = list(taken)
    for draft in drafts:
        if draft.left_out:
            yield draft
            continue
        name = draft.facts.name
        plain = _folder(name)
        tried = [plain, _folder(f"{file.stem}_{plain}")]
        tried += [f"{plain}_{number}" for number in range(2, len(claimed) + 3)]
        free = next(n for n in tried if not clashes(table_claims(file, name, n, None), claimed))
        claimed += table_claims(file, name, free, None)
        if free == name:
            yield draft
            continue
        why = "its folders in the lake; " + (
            "the name itself is taken" if plain == name else "the name itself can't be one"
        )
        yield _with(draft, Field("lake_name", free, why))


def _with(draft: Draft, field: Field) -> Draft:
    return Draft(draft.facts, (field, *draft.fields), draft.remarks, None, draft.notes)


def _folder(name: str) -> str:
    plain = re.sub("[^A-Za-z0-9_]+", "_", name).strip("_") or "table"
    return f"{plain}_table" if plain in TASKS_OF_A_RUN else plain


def _key(facts: TableFacts) -> Field | None:
    if facts.primary_key:
        return Field("key", facts.primary_key, "the primary key")
    # SQL's own rule: rows with NULL in a unique column are not held apart.
    firm = [u for u in facts.unique if not any(facts.column(name).nullable for name in u)]
    if not firm:
        return None
    why = "a unique constraint, NOT NULL; there is no primary key"
    return Field("key", min(firm, key=len), why)


def _no_key(facts: TableFacts) -> str:
    if facts.is_view:
        return (
            "a view has no key in the catalog; if you know columns that no two rows share, name "
            "them"
        )
    return (
        "it has neither a primary key nor a unique constraint over NOT NULL columns, and without a "
        "key a change can't be told from a new row; give it one at the source or, if you know "
        "columns that no two rows share, name them"
    )


def _own_fields(facts: TableFacts) -> Iterator[Field]:
    found = candidates(facts)
    best = next(iter(found.sure), None)
    if facts.offers:
        yield Field("strategy", facts.offers[0], _OFFERED[facts.offers[0]])
        if best:
            use = "not needed, but a span of time can be read again by it"
            yield Field("cursor", best.name, f"{use}; {_about(best)}")
        return
    if best:
        yield Field("strategy", "watermark", f"{best.name} says when a row changed")
        yield Field("cursor", best.name, f"{_about(best)}{_others(found.sure[1:])}")
        return
    yield Field("strategy", "snapshot", "no column says, by type and name, when a row changed")
    if found.perhaps:
        first, *rest = found.perhaps
        use = "with `strategy: watermark`, if it moves with each change"
        yield Field("cursor", first.name, f"{use}; {_about(first)}{_others(rest)}", is_hint=True)


def _texts(facts: TableFacts) -> Iterator[Field]:
    if facts.unheld:
        kinds = ", ".join(dict.fromkeys(facts.column(name).declared for name in facts.unheld))
        why = f"{kinds}: no type of the lake's; a text, <column>_text, stands for it"
        yield Field("columns.as_text", facts.unheld, why)


def _adf_fields(cursor: Column) -> Iterator[Field]:
    yield Field("strategy", "watermark", "as in ADF, whose watermark in cdc.json it goes on from")
    yield Field("cursor", cursor.name, f"ADF's own; {_about(cursor)}")


def _about(column: Column) -> str:
    null = "nullable" if column.nullable else "NOT NULL"
    return f"{column.declared}, {null}, {'indexed' if column.indexed else 'no index'}"


def _others(columns: Iterable[Column]) -> str:
    names = ", ".join(column.name for column in columns)
    return f"; others: {names}" if names else ""


def _remarks(facts: TableFacts, wanted: Column | None, adf: AdfTable | None) -> Iterator[str]:
    for name, why in facts.cuts.items():
        kept = f"`columns: {{as_text: [{name}]}}` keeps it as a text beside"
        yield f"{name} loses something in the lake: {why}; {kept}"
    for strategy, why in facts.passed_over.items():
        yield f"{strategy} is on for it, and can't be used: {why}"
    if wanted and facts.offers:
        best = facts.offers[0]
        yield f"`strategy: {best}` would do too, beginning with a whole read: {_OFFERED[best]}"
    if adf and adf.from_date:
        yield (
            f"ADF's fromdate was {adf.from_date}; to read from there again, run the Dag once with "
            "the parameter from_date"
        )


def _adf_cursor(facts: TableFacts, adf: AdfTable | None) -> tuple[Column | None, list[str]]:
    if adf is None or not adf.cursor:
        return None, []
    names = [column.name for column in facts.columns]
    where = f"{facts.schema}.{facts.name}"
    missing = f"cdc_collunm {adf.cursor!r} is no column of {where} ({', '.join(names)})"
    name, note = find(adf.cursor, names, missing)
    notes = [note] if note else []
    column = facts.column(name) if name else None
    if column and column.kind is None:
        kinds = "a cursor is a timestamp, a date or an integer"
        return None, [*notes, f"cdc_collunm {adf.cursor!r} is of type {column.declared}; {kinds}"]
    return column, notes
