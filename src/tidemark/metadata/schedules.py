"""A first check of a schedule, without Airflow: a preset, or five cron fields in bounds."""

from __future__ import annotations

import re

from tidemark.suggestions import did_you_mean

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
# name, lowest, highest, names of the values from the lowest on
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)


def check_schedule(text: str) -> str:
    """Return `text` if it is one of `PRESETS` or a cron expression of five fields.

    Raises:
        ValueError: It is neither; the message says which field is wrong.
    """
    if text.startswith("@"):
        if text not in PRESETS:
            hint = did_you_mean(text, PRESETS)
            raise ValueError(f"which is no preset{hint} (allowed: {', '.join(PRESETS)})")
        return text
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"which has {len(parts)} cron fields; write five (minute hour day month weekday), "
            f"such as '0 6 * * *', or a preset: {', '.join(PRESETS)}"
        )
    for part, (name, low, high, names) in zip(parts, _FIELDS, strict=True):
        if not all(_fits(item, low, high, names) for item in part.split(",")):
            raise ValueError(f"whose {name} {part!r} is no cron field from {low} to {high}")
    return text


def _fits(item: str, low: int, high: int, names: list[str]) -> bool:
    """Tell whether one item of a cron field (``*``, ``5``, ``1-5``, ``*/15``) is within bounds."""
    span, slash, step = item.partition("/")
    if slash and (not re.fullmatch("[0-9]+", step) or int(step) == 0):
        return False
    if span == "*":
        return True
    numbers = [_number(end, low, names) for end in span.split("-", maxsplit=1)]
    known = [n for n in numbers if n is not None and low <= n <= high]
    return len(known) == len(numbers) and known == sorted(known)


def _number(text: str, low: int, names: list[str]) -> int | None:
    if text.lower() in names:
        return low + names.index(text.lower())
    return int(text) if re.fullmatch("[0-9]{1,2}", text) else None
