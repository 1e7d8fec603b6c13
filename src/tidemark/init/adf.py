"""ADF's ``loop_input``: the JSON array of tables that a pipeline's ForEach goes through."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemark.errors import ConfigError
from tidemark.suggestions import did_you_mean

_CURSOR = "cdc_collunm"  # ADF's own spelling
_FIELDS = ("schema", "table", _CURSOR, "fromdate")
# Strings are matched first, so that a comma within one is never taken.
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\[{:,\s])\s*,(?=\s*[\]}])')


@dataclass(frozen=True)
class AdfTable:
    """One entry of the list.

    Attributes:
        schema: The table's schema.
        table: Its name.
        cursor: The column by which ADF found changes; empty without one.
        from_date: From when on ADF was told to read; empty: from its watermark on.
    """

    schema: str
    table: str
    cursor: str
    from_date: str


def read_list(path: Path) -> tuple[list[AdfTable], list[str]]:
    """Read the list, and what is worth telling about how it is written.

    A trailing comma, which ADF's editor lets pass and JSON does not know, is taken out.

    Raises:
        ConfigError: It can't be read, is no JSON but for that, or is no list of tables.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from None
    strict, lines = without_trailing_commas(text)
    try:
        entries = json.loads(strict)
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON: {error}; correct it") from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: is no list of tables; give the array of ADF's loop_input")
    at = ", ".join(map(str, lines))
    note = f"{path}: a trailing comma in line {at}, which is no JSON, was passed over"
    return [_entry(path, i, e) for i, e in enumerate(entries, 1)], [note] if lines else []


def without_trailing_commas(text: str) -> tuple[str, list[int]]:
    """Take out each comma that stands before a closing bracket; give also their lines."""
    lines: list[int] = []

    def kept(match: re.Match[str]) -> str:
        found = match.group()
        if found.startswith('"'):
            return found
        lines.append(text.count("\n", 0, match.end()) + 1)
        return found[:-1]

    return _STRING_OR_COMMA.sub(kept, text), lines


def find(name: str, names: Iterable[str], otherwise: str) -> tuple[str | None, str | None]:
    """Find a name as ADF writes it among those of the catalog, whose case may differ.

    Args:
        name: The name.
        names: Those that there are.
        otherwise: Says that there is no such name; the near match is put behind it.

    Returns:
        The name as it is in the catalog, or None; and a note where they differ.
    """
    there = list(names)
    if name in there:
        return name, None
    same = [other for other in there if other.casefold() == name.casefold()]
    if len(same) == 1:
        return same[0], f"{name!r} is written {same[0]!r} in the catalog, and so in the config"
    return None, f"{otherwise}{did_you_mean(name, there)}"


def _entry(path: Path, number: int, entry: object) -> AdfTable:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{path}: entry {number} is no object with {', '.join(_FIELDS)}")
    values = {}
    for field in _FIELDS:
        value = entry.get(field, None if field == "table" else "")
        if not isinstance(value, str) or (field == "table" and not value):
            hint = did_you_mean(field, [k for k in entry if k not in _FIELDS])
            raise ConfigError(f"{path}: entry {number}: {field!r} is no text{hint}")
        values[field] = value
    for field in entry:
        if field not in _FIELDS:
            hint = did_you_mean(str(field), _FIELDS)
            raise ConfigError(
                f"{path}: entry {number}: field {field!r} is unknown{hint} "
                f"(known: {', '.join(_FIELDS)})"
            )
    return AdfTable(values["schema"] or "dbo", values["table"], values[_CURSOR], values["fromdate"])
