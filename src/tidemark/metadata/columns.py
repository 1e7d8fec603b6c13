"""Which columns of a table reach the lake, and in which form."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from tidemark.metadata.types import CLOSED, Mask, Text, Texts

# They stand in predicates also where they are no column: CAST(x AS date), EXTRACT(day FROM x).
_WORDS_OF_SQL = re.compile(
    "date|timestamp|time|interval|string|binary|boolean|int|integer|bigint|double|float|decimal|"
    "(year|quarter|month|week|day|hour|minute|second)s?|and|or|not|in|is|null|true|false|like|"
    "between|case|when|then|else|end|as|from",
    re.IGNORECASE,
)
_TEXTS = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*\"""")
# Spark's functions that may give another value for the same row, later or elsewhere; the first few
# can be written without brackets.
_VARYING = re.compile(
    r"(?<![\w.`])(?:(current_(?:date|time|timestamp)|localtimestamp)(?![\w.`])|"
    r"(now|curdate|rand|randn|random|randstr|uniform|uuid|shuffle|reflect|java_method|try_reflect|"
    r"monotonically_increasing_id|spark_partition_id|input_file_name|"
    r"input_file_block_(?:start|length)|unix_timestamp(?=\s*\(\s*\)))\s*\()",
    re.IGNORECASE,
)
_VARYING_DATE = re.compile(
    r"\b(?:date|timestamp(?:_ltz|_ntz)?|cast\s*\()\s*'\s*(now|today|tomorrow|yesterday)\s*'",
    re.IGNORECASE,
)
SIDE = "_text"  # behind a column's name: the column that holds it as text


class Columns(BaseModel):
    """What is left out, made unreadable, or kept as text beside the lake's own type."""

    model_config = CLOSED
    exclude: Texts = Field(
        default=(),
        description="Columns that are not read; their values leave the source nowhere, but for "
        "one that `as_text` names too. A new column of the source is read unless it is named here.",
        examples=["[internal_note]"],
    )
    mask: dict[Text, Mask] = Field(
        default_factory=dict,
        description="Columns whose values do not reach the lake. `redact` leaves `***` of a text "
        "and NULL of anything else, in the statement that is sent to the source. `hmac` leaves "
        "the same 64 hex digits for the same value (HMAC-SHA256 with the key that "
        "`source.mask_connection` holds), made before anything is written or digested, so that "
        "rows can still be joined and counted by it; NULL stays NULL.",
        examples=["{card_number: redact}"],
        json_schema_extra={"type": "mapping of text to `redact` or `hmac`"},
    )
    as_text: Texts = Field(
        default=(),
        description="Columns that get a text beside them, `<column>_text`, as the source writes "
        "it, for what the lake's own type does not hold: an offset, a seventh digit, a type that "
        "the lake does not have (then the text stands alone).",
        examples=["[opened_at]"],
    )

    @field_validator("mask")
    @classmethod
    def _mask_what_is_read(cls, value: dict[str, Mask], info: ValidationInfo) -> dict[str, Mask]:
        if twice := _first(info.data.get("exclude", ()), value):
            raise ValueError(f"but {twice!r} is not even read: 'exclude' names it too; keep one")
        return value

    @field_validator("as_text")
    @classmethod
    def _show_what_is_masked(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if twice := _first(info.data.get("mask", {}), value):
            raise ValueError(f"which would show {twice!r}, which 'mask' hides; keep one of them")
        return value

    def hidden(self, names: Iterable[str]) -> str | None:
        """Give the first of some columns that the lake would not hold as it is; None: none."""
        return _first({*self.exclude, *self.mask}, names)

    def first_excluded(self, names: Iterable[str]) -> str | None:
        """Give the first of some columns that is not read; None: all are."""
        return _first(self.exclude, names)

    @property
    def needs_key(self) -> bool:
        """Whether a key for `hmac` is needed."""
        return "hmac" in self.mask.values()


def named_in(predicate: str) -> set[str]:
    """Give the names in a SQL predicate that can't be anything but columns.

    What is quoted as text, called as a function or a field of something else is none, nor is a word
    that SQL itself uses for a type or a part of a date.
    """
    plain = _TEXTS.sub("''", predicate)
    found = re.findall(r"(?<![\w.`])(?:`((?:[^`]|``)+)`|([A-Za-z_]\w*)\b(?!\s*[('.]))", plain)
    names = {quoted.replace("``", "`") or word for quoted, word in found}
    return {name for name in names if not _WORDS_OF_SQL.fullmatch(name)}


def varying_in(predicate: str) -> str | None:
    """Give what makes a SQL predicate say otherwise of the same row, later or elsewhere.

    Returns:
        The function's name, or the word of a date such as ``timestamp 'now'``; None if there is
        nothing such.
    """
    found = _VARYING_DATE.search(predicate) or _VARYING.search(_TEXTS.sub("''", predicate))
    return next(filter(None, found.groups())) if found else None


def _first(names: Iterable[str], others: Iterable[str]) -> str | None:
    # Databases and Spark take names without regard to case.
    known = {name.lower() for name in names}
    return next((name for name in others if name.lower() in known), None)
