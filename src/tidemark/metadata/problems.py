"""What is wrong with a metadata file, as one line a problem: file, table, field, value, remedy."""

from __future__ import annotations

import datetime as dt
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from tidemark.errors import ConfigError
from tidemark.suggestions import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Loc = tuple[str | int, ...]
# Begins the alias of a field that the loader fills in: no YAML key is meant to look so.
FILLED = "<filled> "
_SHOWN = 60  # characters of a value in a message

_MISSING = {
    "source": "write source: {connection: <Airflow connection>}",
    "connection": "name an Airflow connection",
    "tables": "name the tables to ingest",
    "key": "name the primary key's column or columns; a table without a key can't be ingested",
    "cursor": "strategy watermark needs the column that moves with each change; "
    "give it here or under 'defaults'",
    "scd": "write 1 to keep the current rows only, 2 to keep their history",
}
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "date_type": "a date such as 2025-01-31",
    "tuple_type": "a list such as [a, b]",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (dt.datetime, "a timestamp"),
    (dt.date, "a date"),
    (list, "a list"),
    (dict, "a mapping"),
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, at a place of the file; `text` goes on after the place's name."""

    loc: Loc
    text: str
    has_lines: bool = False


def config_error(path: Path, problems: Iterable[Problem], lines: Mapping[Loc, int]) -> ConfigError:
    """Return one error for all problems of a file, a line each, without repetitions."""
    texts = []
    for problem in problems:
        ends = range(len(problem.loc), 0, -1)
        line = next((lines[loc] for end in ends if (loc := problem.loc[:end]) in lines), None)
        at = f" (line {line})" if line and not problem.has_lines else ""
        texts.append(f"{path}: {_place(problem.loc)}{problem.text}{at}")
    return ConfigError("\n".join(dict.fromkeys(texts)))


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return what pydantic found wrong with the raw data of a `model`."""
    return [_problem(details, model) for details in error.errors(include_url=False)]


def field_names(model: type[BaseModel]) -> dict[str, str]:
    """Return what a user may write in a `model`: name in the YAML → name of the attribute."""
    names = {str(f.validation_alias or n): n for n, f in model.model_fields.items()}
    return {name: attribute for name, attribute in names.items() if not name.startswith(FILLED)}


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model within an annotation such as ``dict[str, Table]`` or ``Gold | None``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    inner = (model_of(argument) for argument in typing.get_args(annotation))
    return next((model for model in inner if model is not None), None)


def show(value: object) -> str:
    """Return a value as a message shows it: as YAML would write it, short, without passwords."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value) if isinstance(value, dt.date) else repr(value)
    text = re.sub(r"(?i)(://|password=|pwd=)[^@;'\"]*", r"\1***", text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _place(loc: Loc) -> str:
    """Return ``table DimUser: field 'gold.scd' `` for the place of a problem."""
    parts = [part for part in loc if part != "[key]"]
    place = ""
    if len(parts) > 1 and parts[0] == "tables":
        place, parts = f"table {parts[1]}: ", parts[2:]
        if not parts:
            return place
    dotted = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    return f"{place}field '{dotted.removeprefix('.')}' " if parts else place


def _problem(details: ErrorDetails, model: type[BaseModel]) -> Problem:
    loc, kind, value = details["loc"], details["type"], details["input"]
    name = str(loc[-1]) if loc else ""
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = field_names(_model_at(model, loc[:-1]))
        text = f"is unknown{did_you_mean(name, allowed)} (allowed: {', '.join(allowed)})"
    elif kind == "missing":
        text = f"is missing: {_MISSING.get(name, 'it is required')}"
    elif kind == "literal_error":
        text = _not_allowed(value, _literals(model, loc))
    elif kind in _EXPECTED:
        text = f"is {_described(value)}, but must be {_EXPECTED[kind]}{_quotes(kind, value)}"
    elif kind == "no_mask_key":
        text = details["msg"].removeprefix("Input ")
    elif kind == "value_error":
        text = f"is {show(value)}, {context['error']}"
    else:
        message = details["msg"].removeprefix("Input ")
        text = f"is {show(value)}, but {message[:1].lower()}{message[1:]}"
    return Problem(loc, text)


def _not_allowed(value: object, allowed: tuple[object, ...]) -> str:
    names = [str(a) for a in allowed]
    hint = did_you_mean(value, names) if isinstance(value, str) else ""
    if value in names:
        hint = f"; write {value} without quotes"
    listed = ", ".join(names)
    return f"is {show(value)}, which is not allowed{hint} (allowed: {listed})"


def _described(value: object) -> str:
    kind = next((name for type_, name in _KINDS if isinstance(value, type_)), "")
    return f"{show(value)} ({kind})" if kind else show(value)


def _quotes(kind: str, value: object) -> str:
    read_otherwise = isinstance(value, bool | int | float | dt.date)
    return ": put it in quotes" if kind == "string_type" and read_otherwise else ""


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """Return the innermost model that holds the place `loc` of a `model`'s data."""
    parts = iter(loc)
    for part in parts:
        attribute = field_names(model).get(str(part))
        if attribute:
            annotation = model.model_fields[attribute].annotation
            model = model_of(annotation) or model
            if typing.get_origin(annotation) is dict:
                next(parts, None)  # the key, a table's name
    return model


def _literals(model: type[BaseModel], loc: Loc) -> tuple[object, ...]:
    """Return the values that the Literal field at `loc` allows."""
    names = [part for part in loc if isinstance(part, str)]
    owner = _model_at(model, tuple(names[:-1]))
    attributes = field_names(owner)
    # A mapping's own key, such as a masked column, is no field: the values are those of the field.
    name = names[-1] if names[-1] in attributes else names[-2]
    return literals_in(owner.model_fields[attributes[name]].annotation)


def literals_in(annotation: Any) -> tuple[object, ...]:
    """Return the values of the first Literal within an annotation; empty if there is none."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return arguments
    return next((found for a in arguments if (found := literals_in(a))), ())
