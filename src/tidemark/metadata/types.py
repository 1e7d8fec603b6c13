"""The types of single metadata values, and what makes such a value valid."""

from __future__ import annotations

import re
import zoneinfo
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict

from tidemark.metadata.durations import parse_duration, parse_lookback
from tidemark.metadata.schedules import check_schedule
from tidemark.suggestions import did_you_mean

CLOSED = ConfigDict(
    frozen=True, strict=True, extra="forbid", validate_by_name=True, validate_by_alias=True
)


_LEAST_RANGES, _MOST_RANGES = 2, 100


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("which is empty; write a text or leave the field out")
    return value


# A table's group of tasks in the Dag is named after it.
TASKS_OF_A_RUN = frozenset({"pending_for_silver", "silver", "pending_for_gold", "gold", "report"})


def is_folder_name(value: object) -> bool:
    """Tell whether a value can be the name of a table in the lake."""
    return isinstance(value, str) and bool(re.fullmatch("[A-Za-z0-9][A-Za-z0-9_]*", value))


def _folder_name(value: str) -> str:
    if value in TASKS_OF_A_RUN:
        raise ValueError("which is the name of a task of every Dag; choose another")
    if not is_folder_name(value):
        raise ValueError("which is no folder name; use A-Z, a-z, 0-9 and _, no _ at the beginning")
    return value


def _connection(value: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_.-]+", value):
        raise ValueError("which is no Airflow connection id; use A-Z, a-z, 0-9 and _ . -")
    return value


def _address(value: str) -> str:
    if not re.fullmatch(r"[^@\s,;<>]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", value):
        raise ValueError("which is no mail address; write it like data@example.com")
    return value


def _time_zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        hint = did_you_mean(value, zoneinfo.available_timezones())
        raise ValueError(
            f"which is no IANA time zone{hint} (such as UTC or Europe/Berlin)"
        ) from None
    return value


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else _listed(value)


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or len(set(value)) < len(value):
        raise ValueError("which must name at least one column, and each once")
    return value


def _above_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("which leaves no time at all; write a duration such as 2h")
    return value


def _no_look_alike(value: object) -> object:
    # 1, 1.0 and true are equal, and so all of them a Literal[1].
    if isinstance(value, bool | float):
        raise ValueError("which is not allowed (allowed: 1, 2)")  # noqa: TRY004 - for pydantic
    return value


def _some_ranges(value: int) -> int:
    if not _LEAST_RANGES <= value <= _MOST_RANGES:
        raise ValueError(f"which is no number from {_LEAST_RANGES} to {_MOST_RANGES}")
    return value


Text = Annotated[str, AfterValidator(_text)]
FolderName = Annotated[str, AfterValidator(_folder_name)]
ConnectionId = Annotated[str, AfterValidator(_connection)]
Address = Annotated[str, AfterValidator(_address)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Schedule = Annotated[str, AfterValidator(check_schedule)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Timeout = Annotated[Duration, AfterValidator(_above_zero)]
Lookback = Annotated[timedelta | int, BeforeValidator(parse_lookback)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(_listed)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed)]
Key = Annotated[tuple[Text, ...], BeforeValidator(_one_or_more), AfterValidator(_distinct)]
Event = Literal["failure", "recovery", "success", "completion"]
Events = Annotated[tuple[Event, ...], BeforeValidator(_listed)]
Strategy = Literal["watermark", "snapshot", "rowversion", "change_tracking", "cdc"]
Mask = Literal["redact", "hmac"]
NullCursor = Literal["include", "exclude", "raise"]
ScdType = Annotated[Literal[1, 2], BeforeValidator(_no_look_alike)]
Ranges = Annotated[int, AfterValidator(_some_ranges)]
Future = Literal["hold", "take"]
BronzeLayout = Literal["flat", "dated"]
Processing = Literal["triggered", "continuous"]
