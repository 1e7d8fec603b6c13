"""Durations as the metadata writes them: ``90s``, ``5m``, ``1h``, ``2d``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_HOW = "write a number and a unit: 90s, 5m, 1h or 2d"


def parse_duration(value: object) -> timedelta:
    """Return the duration that a text such as ``5m`` names; a timedelta is returned as it is.

    Raises:
        ValueError: It is no such text, or longer than a timedelta can be.
    """
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise ValueError(f"which is negative; {_HOW}")
        return value
    match = re.fullmatch(r"([0-9]+)([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"which is no duration; {_HOW}")
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except (OverflowError, ValueError):
        raise ValueError(f"which is too long for a duration; {_HOW}") from None


def parse_lookback(value: object) -> timedelta | int:
    """Return a duration or, for an integer cursor, a number in the cursor's own units.

    Raises:
        ValueError: It is neither, or negative.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        return parse_duration(value)
    if value < 0:
        raise ValueError("which is negative; write how far back to read, such as 1h or 1000")
    return value


def format_duration(value: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads back as `value` (whole seconds)."""
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
