"""A first config as YAML that teaches: each value with its reason beside it."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence

import yaml

from tidemark.init.draft import Draft, Field
from tidemark.metadata import Strategy
from tidemark.metadata.strategies import CANNOT_SEE, READS

_WIDTH = 100
_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")
# What one or the other version of YAML reads as no text.
_WORDS = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null"})
_READS: dict[Strategy, str] = {
    "watermark": "the rows whose cursor is not below where the last read came to", **READS
}  # fmt: skip
_HEAD = """\
# Written by `tidemark init` from the database's catalog; from now on it is yours.
# Every field: docs/config.md. What the next run would read: tidemark plan {name}
source: {{connection: {connection}, schema: {schema}}}
# schedule: "@daily"                  # until then a run is triggered by hand
# alerts: {{to: [data@example.com]}}    # who gets a mail, on failure and on recovery
"""
_GOLD = """\
# For a table to appear in gold too, give it `gold: {scd: 1}`, the current rows, or `{scd: 2}`, all
# versions.
"""
_CURSORS = """\
# Of a cursor: rows where it is NULL are read each time; without an index that begins with it each
# read scans the table; a time without a zone is UTC, unless `cursor_timezone` says another.
"""


def render(connection: str, name: str, schema: str, drafts: Sequence[Draft]) -> str:
    """Write the config.

    Args:
        connection: The Airflow connection's id.
        name: The file's stem.
        schema: The schema of every table that does not name its own.
        drafts: The tables.
    """
    head = _HEAD.format(name=name, connection=scalar(connection), schema=scalar(schema))
    used = {draft.strategy for draft in drafts if not draft.left_out}
    cursors = _CURSORS if any(f.name == "cursor" for d in drafts for f in d.fields) else ""
    lines = [line for draft in drafts for line in _table(draft, schema)]
    return "\n".join([head + _GOLD + cursors + "\n".join(_strategies(used)), "tables:", *lines, ""])


def scalar(text: str) -> str:
    """Write a text so that YAML reads it as that text, in a value, a list or a key."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted: str = yaml.dump(
        text, Dumper=yaml.SafeDumper, default_style='"', allow_unicode=True, width=math.inf
    )
    return quoted.strip()


def _strategies(used: Collection[str]) -> Iterator[str]:
    yield "# How changes are found, and what can't be seen in this way (docs/strategies.md):"
    for name, reads in _READS.items():
        if name in used:
            text = f"{reads}; not seen: {', '.join(CANNOT_SEE[name])}"
            yield from _comment(text, f"#   {name}: ", "#     ")
    if "watermark" in used and "snapshot" not in used:
        yield "#   (snapshot would see all these: it reads the whole table each time)"


def _table(draft: Draft, schema: str) -> Iterator[str]:
    facts = draft.facts
    if draft.left_out:
        what = "view" if facts.is_view else "table"
        label = facts.name if facts.schema == schema else f"{facts.schema}.{facts.name}"
        yield from _comment(f"{what} {label} is left out: {draft.left_out}", "  # ", "  # ")
        if draft.fields:
            yield f"  # {scalar(facts.name)}:"
            yield from _fields(draft.fields, "  #   ")
        return
    yield f"  {scalar(facts.name)}:"
    if facts.schema != schema:
        yield f"    schema: {scalar(facts.schema)}"
    yield from _fields(draft.fields, "    ")
    for remark in (*draft.notes, *draft.remarks):
        yield from _comment(remark, "    # ", "    # ")


def _fields(fields: Iterable[Field], indent: str) -> Iterator[str]:
    for field in fields:
        mark = "# " if field.is_hint and not indent.rstrip() else ""
        line = f"{indent}{mark}{_value(field.name, field.value)}"
        why = _printable(field.why)
        if len(line) + len(why) + len("  # ") <= _WIDTH:
            yield f"{line}  # {why}"
            continue
        before = f"{indent}# " if not indent.rstrip() else indent
        yield from _comment(why, before, before)
        yield line


def _value(name: str, value: str | tuple[str, ...]) -> str:
    if isinstance(value, str):
        return f"{name}: {scalar(value)}"
    listed = f"[{', '.join(map(scalar, value))}]"
    if name == "columns.as_text":
        return f"columns: {{as_text: {listed}}}"
    return f"{name}: {scalar(value[0]) if len(value) == 1 else listed}"


def _comment(text: str, first: str, following: str) -> list[str]:
    return textwrap.wrap(
        _printable(text),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=following,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _printable(text: str) -> str:
    # Nothing that could end the comment: a name may hold a line's end, and of those there are many.
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
