"""``tidemark init``: its options, what it prints, and the one file that it writes."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tidemark.connection import connection_url
from tidemark.errors import ConfigError
from tidemark.extract.source import OpenSource
from tidemark.init.adf import AdfTable, find, read_list
from tidemark.init.catalog import names_in, open_catalog, own_schema, table_facts
from tidemark.init.draft import Draft, draft_of, lake_names
from tidemark.init.text import render
from tidemark.metadata import Endpoint, Source, load_all, source_file
from tidemark.metadata.clashes import Claim, source_claims
from tidemark.settings import Settings
from tidemark.suggestions import did_you_mean

_ENDINGS = r"_(sql|db|mssql|postgres|sqlite|database|source|conn)$"


@dataclass(frozen=True)
class Found:
    """What was found in the source.

    Attributes:
        schema: The schema of most tables.
        drafts: The tables.
        notes: What differs from what was asked.
    """

    schema: str
    drafts: Sequence[Draft]
    notes: Sequence[str] = ()


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write a first config, or show it.

    Returns:
        The exit code, 0.

    Raises:
        TidemarkError: There is no such connection or table, or the file is there already.
    """
    connection, schema = arguments.connection, arguments.schema
    name = arguments.name or _name(connection)
    path = _new_file(settings.config, name, arguments.dry_run)
    _check_endpoint(connection, schema)
    url = connection_url(connection, "tidemark init: connection", settings)
    if arguments.from_adf:
        found = _from_adf(url, connection, arguments.from_adf, arguments.table)
    else:
        found = _from_catalog(url, connection, schema, arguments.table, views=arguments.views)
    drafts = list(lake_names(found.drafts, path, _taken(settings)))
    _tell(sys.stderr.write, [*found.notes, *_notes(drafts)])
    _check_some(connection, found.schema, drafts)
    text = render(connection, name, found.schema, drafts)
    if arguments.dry_run:
        sys.stdout.write(text)
        return 0
    _write(path, text)
    _tell(sys.stdout.write, _done(path, name, drafts))
    return 0


def _name(connection: str) -> str:
    return re.sub(_ENDINGS, "", connection) or connection


def _new_file(folder: Path, name: str, dry_run: bool) -> Path:
    if not re.fullmatch("[A-Za-z0-9_.-]+", name):
        raise ConfigError(f"name {name!r} is to be a Dag's id; use A-Z, a-z, 0-9 and _ . - only")
    path = source_file(folder, name)
    if path.exists() and not dry_run:
        raise ConfigError(
            f"{path}: is there already, and is not overwritten; show what would be written with "
            "--dry-run, or give another --name"
        )
    return path


def _check_endpoint(connection: str, schema: str | None) -> None:
    try:
        Endpoint.model_validate({"connection": connection} | ({"schema": schema} if schema else {}))
    except ValidationError as error:
        what = error.errors()[0]
        raise ConfigError(f"{what['loc'][0]} {what['input']!r}: {what['msg']}") from None


def _from_catalog(
    url: str, connection: str, schema: str | None, wanted: Sequence[str], *, views: bool
) -> Found:
    with open_catalog(url, connection, schema) as source:
        schema = schema or own_schema(source)
        names = names_in(source, schema)
        chosen = wanted or [name for name, is_view in names.items() if views or not is_view]
        for name in chosen:
            if name not in names:
                hint, there = did_you_mean(name, names), ", ".join(names)
                raise ConfigError(f"schema {schema!r} has no table {name!r}{hint} (there: {there})")
        return Found(
            schema, [_draft(source, schema, name, names) for name in dict.fromkeys(chosen)]
        )


def _draft(
    source: OpenSource, schema: str, name: str, names: dict[str, bool], adf: AdfTable | None = None
) -> Draft:
    return draft_of(table_facts(source, schema, name, is_view=names[name]), adf)


def _from_adf(url: str, connection: str, path: Path, wanted: Sequence[str]) -> Found:
    listed, notes = read_list(path)
    tables = [entry.table for entry in listed]
    for name in wanted:
        if name not in tables:
            raise ConfigError(f"{path}: has no table {name!r}{did_you_mean(name, tables)}")
    entries = [entry for entry in listed if not wanted or entry.table in wanted]
    schemas = Counter(entry.schema for entry in entries)
    drafts: dict[str, Draft] = {}
    for schema in schemas:
        own = [entry for entry in entries if entry.schema == schema]
        try:
            with open_catalog(url, connection, schema) as source:
                names = names_in(source, schema)
                for entry in own:
                    notes += (f"{path}: {n}" for n in _take(source, entry, names, drafts))
        except ConfigError as error:
            notes.append(f"{path}: {', '.join(e.table for e in own)}: left out: {error}")
    return Found(schemas.most_common(1)[0][0], list(drafts.values()), notes)


def _take(
    source: OpenSource, entry: AdfTable, names: dict[str, bool], drafts: dict[str, Draft]
) -> Iterator[str]:
    missing = f"schema {entry.schema!r} has no such table; it is left out"
    name, note = find(entry.table, names, missing)
    if note:
        yield f"{entry.table}: {note}"
    if name in drafts:
        yield f"{entry.table} is listed twice, and the first is taken: a file holds a name once"
    elif name:
        drafts[name] = _draft(source, entry.schema, name, names, entry)


def _taken(settings: Settings) -> Iterator[Claim]:
    if settings.config.is_dir():
        for source in load_all(settings.config, settings.rules_folder).values():
            if isinstance(source, Source):
                yield from source_claims(source)


def _notes(drafts: Iterable[Draft]) -> Iterator[str]:
    for draft in drafts:
        name = draft.facts.name
        yield from (f"{name}: {note}; it gets {draft.strategy}" for note in draft.notes)
        if draft.left_out:
            yield f"{name} is left out: {draft.left_out}"


def _check_some(connection: str, schema: str, drafts: Iterable[Draft]) -> None:
    if all(draft.left_out for draft in drafts):
        raise ConfigError(
            f"connection {connection}, schema {schema!r}: no table can be ingested as it is, so "
            "nothing was written; the lines above say why of each"
        )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from None


def _done(path: Path, name: str, drafts: Iterable[Draft]) -> Iterator[str]:
    counts = Counter(draft.strategy for draft in drafts if not draft.left_out)
    words = ", ".join(f"{count} by {strategy}" for strategy, count in counts.items())
    yield f"wrote {path}: {counts.total()} tables, {words}"
    yield f"next   tidemark plan {name}      what the first run would read; then edit the file"


def _tell(write: Callable[[str], object], lines: Iterable[str]) -> None:
    for line in lines:
        write(f"{line}\n")
