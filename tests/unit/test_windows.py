"""Which rows a read asks for: order, steps back, plans; no value is rounded or shifted."""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidemark.windows import (
    Interval,
    Kind,
    Window,
    clock_cap,
    cursor_text,
    earlier,
    interval_window,
    latest,
    ordinal,
    plan_window,
)

TICK = Fraction(1, 10_000_000)
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)).map(
    lambda m: m.replace(microsecond=0)
)


@st.composite
def stamps(draw: st.DrawFn) -> tuple[str, Fraction]:
    """Draw a timestamp's text, and its real place in seconds (UTC where it has an offset)."""
    moment, digits = draw(MOMENTS), draw(st.integers(0, 7))
    fraction = draw(st.integers(0, 10**digits - 1)) if digits else 0
    separator = draw(st.sampled_from("T "))
    zone, minutes = draw(
        st.sampled_from(
            [("", 0), ("Z", 0), (" +00:00", 0), ("+02:00", 120), ("-0330", -210), ("+14:00", 840)]
        )
    )
    part = f".{fraction:0{digits}d}" if digits else ""
    text = f"{moment.date()}{separator}{moment:%H:%M:%S}{part}{zone}"
    seconds = (moment - datetime(1, 1, 1)).total_seconds() - minutes * 60
    return text, Fraction(int(seconds)) + (Fraction(fraction, 10**digits) if digits else 0)


@given(stamps(), stamps())
def test_the_order_of_ordinals_is_the_order_of_time(
    a: tuple[str, Fraction], b: tuple[str, Fraction]
) -> None:
    left, right = ordinal("timestamp", a[0]), ordinal("timestamp", b[0])
    assert (left - right) * TICK == a[1] - b[1]


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("timestamp", "2026-01-01T10:00:00.1234567", "2026-01-01 10:00:00.1234568"),
        ("timestamp", "2026-01-01", "2026-01-01 00:00:00.0000001"),
        ("timestamp", "9999-12-31 23:59:59.9999998", "9999-12-31T23:59:59.9999999Z"),
        ("timestamp", "2026-01-01 10:59:00+02:00", "2026-01-01 09:00:00Z"),
        ("date", "2026-02-28", "2026-03-01T00:00:00Z"),
        ("integer", "-2", "10"),
        ("integer", "9007199254740992", "9007199254740993"),
        ("binary", "0x00000000000007D1", "00000000000007d2"),
        ("binary", "", "01"),
    ],
)
def test_neighbours_are_told_apart(kind: str, low: str, high: str) -> None:
    assert ordinal(kind, low) < ordinal(kind, high)  # type: ignore[arg-type]
    assert latest(kind, high, None, low) == high  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("timestamp", ""),
        ("timestamp", "yesterday"),
        ("timestamp", "1700000000"),
        ("timestamp", "2026-02-30 00:00:00"),
        ("timestamp", "2026-01-01 25:00:00"),
        ("timestamp", "2026-W01-1 10:00:00"),
        ("timestamp", "2026-01-01 10:61:00"),
        ("timestamp", "2026-01-01 10:00:00 or later"),
        ("date", "2026/01/01"),
        ("date", "20260101"),
        ("integer", "5.5"),
        ("integer", "2026-01-01"),
        ("binary", "xyz"),
    ],
)
def test_what_is_no_value_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ordinal(kind, text)  # type: ignore[arg-type]


@given(stamps(), st.timedeltas(timedelta(0), timedelta(days=400)))
def test_a_timestamp_steps_back_exactly_and_keeps_its_form(
    stamp: tuple[str, Fraction], lookback: timedelta
) -> None:
    text, _ = stamp
    back = earlier("timestamp", text, lookback)
    step = (lookback // timedelta(microseconds=1)) * 10
    assume(ordinal("timestamp", text[:10]) > step)
    assert ordinal("timestamp", text) - ordinal("timestamp", back) == step
    assert back[10] == text[10]
    zone = text[19:].lstrip(".0123456789")
    assert back.endswith(zone.strip())
    digits = len(text[19:]) - len(zone) - 1
    assert len(back[19:].removesuffix(zone.strip())) - 1 >= digits


@given(st.dates(date(3, 1, 1)), st.timedeltas(timedelta(0), timedelta(days=400)))
def test_a_date_never_rereads_less_than_asked(day: date, lookback: timedelta) -> None:
    back = date.fromisoformat(earlier("date", day.isoformat(), lookback))
    assert timedelta(0) <= (day - back) - lookback < timedelta(days=1)


@pytest.mark.parametrize(
    ("kind", "text", "lookback", "expected"),
    [
        ("date", "2026-03-01", timedelta(hours=1), "2026-02-28"),
        ("date", "2026-03-01", timedelta(0), "2026-03-01"),
        ("date", "0001-01-02", timedelta(days=9), "0001-01-01"),
        ("date", "2026-03-01T00:00:00Z", timedelta(days=1), "2026-02-28"),
        ("timestamp", "0001-01-01 00:30:00", timedelta(hours=1), "0001-01-01 00:00:00"),
        (
            "timestamp",
            "2026-01-01T00:00:00.1000000",
            timedelta(hours=1),
            "2025-12-31T23:00:00.1000000",
        ),
        (
            "timestamp",
            "2026-01-01 00:00:00Z",
            timedelta(milliseconds=1),
            "2025-12-31 23:59:59.999Z",
        ),
        ("timestamp", "2026-01-01 01:30+02:00", timedelta(hours=2), "2025-12-31 23:30:00+02:00"),
        ("integer", "1000", 300, "700"),
        ("integer", "5", 10, "-5"),
        ("integer", "1000", timedelta(hours=1), "1000"),
        ("binary", "0x07D1", timedelta(hours=1), "0x07D1"),
    ],
)
def test_steps_back(kind: str, text: str, lookback: timedelta | int, expected: str) -> None:
    assert earlier(kind, text, lookback) == expected  # type: ignore[arg-type]


@given(st.none() | stamps(), st.none() | stamps(), st.integers(0, 10**6))
def test_high_never_falls_below_low(
    low: tuple[str, Fraction] | None, newest: tuple[str, Fraction] | None, seconds: int
) -> None:
    texts = [s[0] if s else None for s in (low, newest)]
    window = plan_window("timestamp", texts[0], texts[1], timedelta(seconds=seconds))
    if window is None:
        assert texts == [None, None]
        return
    assert window.inclusive
    assert window.high in texts
    for text in filter(None, texts):
        assert ordinal("timestamp", window.high or "") >= ordinal("timestamp", text)
    assert (window.low is None) == (texts[0] is None)
    if window.low and texts[0]:
        assert ordinal("timestamp", window.low) <= ordinal("timestamp", texts[0])


def test_an_equal_newest_leaves_the_watermarks_own_text() -> None:
    window = plan_window("timestamp", "2026-01-01T10:00:00Z", "2026-01-01 10:00:00", timedelta(0))
    assert window == Window("2026-01-01T10:00:00Z", "2026-01-01T10:00:00Z")


def test_windows_read_well() -> None:
    assert Window(None, "9").describe("id") == "id <= 9"
    assert Window("1", "9", inclusive=False).describe("id") == "1 <= id < 9"
    assert Window("1", None, inclusive=False).describe("id") == "1 <= id"


def test_an_interval_is_half_open_in_the_cursors_zone() -> None:
    day = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    window = interval_window("timestamp", day, "Europe/Berlin")
    assert window == Window("2026-01-01 01:00:00", "2026-01-02 01:00:00", inclusive=False)
    assert interval_window("date", day, "America/New_York") == Window(
        "2025-12-31", "2026-01-02", inclusive=False
    )
    hour = Interval(day.start, datetime(2026, 1, 1, 1, tzinfo=UTC))
    assert interval_window("date", hour, "UTC") == Window("2026-01-01", "2026-01-02", False)
    assert interval_window("timestamp", Interval(None, day.end), "UTC") == Window(
        None, "2026-01-02 00:00:00", inclusive=False
    )
    assert interval_window("integer", day, "UTC") is None


@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_an_interval_to_an_end_of_the_calendar_has_none_there(kind: Kind) -> None:
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    west = interval_window(kind, Interval(first, noon), "America/New_York")
    east = interval_window(kind, Interval(noon, last), "Asia/Tokyo")
    assert west is not None
    assert east is not None
    assert (west.low, east.high) == (None, None)
    assert west.high
    assert east.low


def test_an_intervals_own_offset_counts() -> None:
    start = datetime(2026, 7, 1, tzinfo=ZoneInfo("America/New_York"))
    window = interval_window("timestamp", Interval(start, None), "UTC")
    assert window == Window("2026-07-01 04:00:00", None, inclusive=False)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"])
@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 1)])
@pytest.mark.parametrize("minutes", [30, 60, 1440])
def test_slices_of_a_day_leave_nothing_out_when_the_clocks_change(
    zone: str, day: date, minutes: int
) -> None:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    size = timedelta(minutes=minutes)
    for index in range(1440 // minutes):
        part = Interval(begin + index * size, begin + (index + 1) * size)
        window = interval_window("timestamp", part, zone)
        assert window is not None
        assert window.low is not None
        assert window.high is not None
        for minute in range(minutes):
            moment = begin + index * size + timedelta(minutes=minute)
            assert window.low <= cursor_text("timestamp", moment, zone) < window.high
        outside = (begin - timedelta(hours=3), begin + timedelta(hours=27))
        for moment in outside:
            assert not window.low <= cursor_text("timestamp", moment, zone) < window.high


def test_slices_of_plain_hours_do_not_overlap() -> None:
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    edges = [begin + timedelta(hours=h) for h in range(30)]
    windows = [
        interval_window("timestamp", Interval(a, b), "Europe/Berlin") for a, b in pairwise(edges)
    ]
    for before, after in pairwise(windows):
        assert before is not None
        assert after is not None
        assert before.high == after.low


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    st.timedeltas(timedelta(0), timedelta(days=2)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Auckland"]),
)
def test_the_cap_is_the_clock_less_the_lag(clock: datetime, lag: timedelta, zone: str) -> None:
    aware = clock.replace(tzinfo=UTC)
    cap = clock_cap("timestamp", aware, lag, zone)
    assert cap is not None
    wall = (aware - lag).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert datetime.fromisoformat(cap) == wall
    assert clock_cap("date", aware, lag, zone) == wall.date().isoformat()
    assert clock_cap("integer", aware, lag, zone) is None
