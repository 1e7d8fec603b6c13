"""Which rows to read next: pure functions over cursor values, no I/O.

A cursor value travels as text at its column's full precision (``datetime2`` has seven fractional
digits, one more than Python's), never rounded and never shifted between time zones by accident.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Kind = Literal["timestamp", "date", "integer", "binary"]

TICKS_PER_SECOND = 10_000_000
_DAY = 86_400 * TICKS_PER_SECOND
_PLAIN_LENGTH = len("2026-01-01 10:00:00")
_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:([T ])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d\d:?\d\d)?$"
)


@dataclass(frozen=True)
class Interval:
    """A span of time that replaces the watermark's window: ``start <= cursor < end``.

    Attributes:
        start: UTC; None: from the beginning.
        end: UTC; None: without end.
        whole_tables: Whether a table that can't be selected from by time is read whole; it is left
            out otherwise.
    """

    start: datetime | None
    end: datetime | None
    whole_tables: bool = False


@dataclass(frozen=True)
class Window:
    """The rows of one read, as bounds on the cursor in its own text form and time zone.

    Attributes:
        low: The read begins here, inclusive; None: from the beginning.
        high: The read ends here; None: without end.
        inclusive: Whether `high` itself is read. True for a watermark's window, whose `high` is
            stored afterwards; False for an interval, which ends before its end.
    """

    low: str | None
    high: str | None
    inclusive: bool = True

    def describe(self, cursor: str) -> str:
        """Write the window as a reader of the log wants it."""
        left = f"{self.low} <= " if self.low is not None else ""
        sign = "<=" if self.inclusive else "<"
        right = f" {sign} {self.high}" if self.high is not None else ""
        return f"{left}{cursor}{right}"


def ordinal(kind: Kind, text: str) -> int:
    """Place a cursor value on a line, so that two values can be compared.

    Returns:
        100 ns ticks since 0001-01-01 (in UTC where the value carries an offset) for a timestamp,
        days for a date, the number itself for an integer, the big-endian number for binary (hex).

    Raises:
        ValueError: The text is no value of this kind.
    """
    if kind == "integer":
        return int(text)
    if kind == "binary":
        return int(text.removeprefix("0x") or "0", 16)
    if kind == "timestamp" and len(text) == _PLAIN_LENGTH:
        ticks = _ticks_of_plain(text)
        if ticks is not None:
            return ticks
    match = _STAMP.match(text.strip())
    if not match:
        message = f"{text!r} is no {kind}"
        raise ValueError(message)
    days = date.fromisoformat(match.group(1)).toordinal()
    return days if kind == "date" else days * _DAY + _ticks_of_day(match)


def _ticks_of_plain(text: str) -> int | None:
    """Place ``2026-01-01 10:00:00``, by far the most common form, several times as fast."""
    if text[7] != "-" or text[10] not in " T" or text[13] != ":" or text[16] != ":":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    return moment.toordinal() * _DAY + seconds * TICKS_PER_SECOND


def _ticks_of_day(match: re.Match[str]) -> int:
    _, _, hour, minute, second, fraction, zone = match.groups()
    clock = time(int(hour or 0), int(minute or 0), int(second or 0))  # refuses 25:00
    seconds = clock.hour * 3600 + clock.minute * 60 + clock.second
    ticks = seconds * TICKS_PER_SECOND + int((fraction or "").ljust(7, "0")[:7])
    if zone and zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        ticks -= (offset if zone[0] == "+" else -offset) * TICKS_PER_SECOND
    return ticks


def earlier(kind: Kind, text: str, lookback: timedelta | int) -> str:
    """Step back from a cursor value by the lookback, in the value's own form.

    A date steps back by whole days, rounded up, so that it never re-reads less than was asked. An
    integer steps back by an integer lookback and stays where it is for a duration, which has no
    meaning there. Nothing steps back before the calendar's first day.
    """
    if kind == "binary":
        return text
    if kind == "integer":
        return str(int(text) - lookback) if isinstance(lookback, int) else text
    span = lookback if isinstance(lookback, timedelta) else timedelta(0)
    if kind == "date":
        days = -(-span // timedelta(days=1))
        return date.fromordinal(max(1, ordinal(kind, text) - days)).isoformat()
    ticks = (span // timedelta(microseconds=1)) * 10
    return _shifted(text.strip(), -ticks)


def _shifted(text: str, ticks: int) -> str:
    match = _STAMP.match(text)
    if not match:
        message = f"{text!r} is no timestamp"
        raise ValueError(message)
    separator, fraction, zone = match.group(2) or " ", match.group(6) or "", match.group(7) or ""
    wall = ordinal("timestamp", text[: match.start(7)] if zone else text)
    day, rest = divmod(max(_DAY, wall + ticks), _DAY)
    seconds, part = divmod(rest, TICKS_PER_SECOND)
    digits = f"{part:07d}".rstrip("0").ljust(len(fraction), "0")
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    tail = f".{digits}" if digits else ""
    return f"{date.fromordinal(day).isoformat()}{separator}{clock}{tail}{zone}"


def latest(kind: Kind, *values: str | None) -> str | None:
    """Give the greatest of some cursor values; None where there is none."""
    present = [value for value in values if value]
    return max(present, key=lambda value: ordinal(kind, value), default=None)


def plan_window(
    kind: Kind, low: str | None, newest: str | None, lookback: timedelta | int
) -> Window | None:
    """Plan a watermark's read: ``low - lookback <= cursor <= high``.

    Args:
        kind: The cursor's kind.
        low: The stored watermark; None before the first read.
        newest: The greatest cursor at the source that is not in the future, fixed before the
            read begins; None if there is no such row.
        lookback: How far to read again below `low`, for rows that were committed late.

    Returns:
        The window, whose `high` is never below `low`; None if there is nothing to read.
    """
    high = latest(kind, low, newest)
    if high is None:
        return None
    return Window(low=earlier(kind, low, lookback) if low else None, high=high)


def interval_window(kind: Kind, interval: Interval, time_zone: str) -> Window | None:
    """Plan the read of a span of time, in the cursor's time zone.

    Of a cursor that is a date, every day that the span touches is read: a span of hours, or one
    whose ends are no midnight of the cursor's zone, would else miss its last day.

    Returns:
        The window; None for a cursor that is no time, which a span can't select.
    """
    if kind not in {"timestamp", "date"}:
        return None
    start, end = _widened(interval, ZoneInfo(time_zone))
    low = cursor_text(kind, start, time_zone) if start else None
    if end and kind == "date":
        end = _moved(end, timedelta(days=1, microseconds=-1))
    high = cursor_text(kind, end, time_zone) if end else None
    return Window(low=low, high=high, inclusive=False)


def _widened(interval: Interval, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    # When the clock goes back within the interval, the wall clocks of its two ends do not enclose
    # the hour that is shown twice: 00:30Z to 01:30Z is 02:30 to 02:30 in Berlin's October night.
    start, end = (_in_zone(t, zone) for t in (interval.start, interval.end))
    if start and end and start.utcoffset() == end.utcoffset():
        return start, end
    if start and start.fold == 0:
        start = (start.astimezone(UTC) - _repeated(start)).astimezone(zone)
    if end and end.fold == 1:
        end = (end.astimezone(UTC) + _repeated(end)).astimezone(zone)
    return start, end


def _in_zone(moment: datetime | None, zone: ZoneInfo) -> datetime | None:
    # At the calendar's ends a zone may lie outside of it: then there is no row beyond either.
    try:
        return moment.astimezone(zone) if moment else None
    except OverflowError:
        return None


def _moved(moment: datetime, span: timedelta) -> datetime | None:
    try:
        return moment + span
    except OverflowError:
        return None


def _repeated(local: datetime) -> timedelta:
    first, second = (local.replace(fold=f).utcoffset() or timedelta(0) for f in (0, 1))
    return first - second


def clock_cap(kind: Kind, clock: datetime, lag: timedelta, time_zone: str) -> str | None:
    """Give the greatest cursor that is no future: the source's clock less a lag.

    Args:
        kind: The cursor's kind; one that is no time has no future, and no cap.
        clock: The source's own clock, UTC.
        lag: How far behind its clock the source may still be committing rows.
        time_zone: The cursor's time zone (IANA).
    """
    if kind not in {"timestamp", "date"}:
        return None
    return cursor_text(kind, clock - lag, time_zone)


def clock_reached(kind: Kind, clock: datetime, time_zone: str) -> str | None:
    """Give the greatest cursor that is no future, as `clock_cap` without a lag.

    In the hour that a zone shows twice, when its clocks go back, it is what they would show had
    they not: rows may carry that much since the hour before.
    """
    local = clock.astimezone(ZoneInfo(time_zone))
    ahead = _repeated(local) if local.fold else timedelta(0)
    return clock_cap(kind, clock + ahead, timedelta(0), time_zone)


def cursor_text(kind: Kind, moment: datetime, time_zone: str) -> str:
    """Write a UTC moment as a cursor value: wall clock of the cursor's zone, microseconds."""
    local = moment.astimezone(UTC).astimezone(ZoneInfo(time_zone)).replace(tzinfo=None)
    if kind == "date":
        return local.date().isoformat()
    return local.isoformat(sep=" ", timespec="microseconds" if local.microsecond else "seconds")
