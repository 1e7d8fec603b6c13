"""What a run is asked for: tables, and the span that replaces the watermark's window."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidemark.airflow.params import chosen_interval, chosen_tables, dag_params
from tidemark.errors import ConfigError
from tidemark.metadata import load_source
from tidemark.windows import Interval

Write = Callable[..., Path]

NONE: dict[str, Any] = {"tables": [], "from_date": None, "to_date": None, "whole_tables": False}


def _run(kind: str = "manual") -> Any:
    start, end = (datetime(2026, 1, day, tzinfo=UTC) for day in (3, 4))
    return SimpleNamespace(run_type=kind, data_interval_start=start, data_interval_end=end)


@pytest.mark.parametrize("kind", ["manual", "scheduled", "asset_triggered"])
def test_a_run_reads_from_the_watermark_on(kind: str) -> None:
    assert chosen_interval(NONE, _run(kind)) is None


def test_a_backfill_reads_its_data_interval() -> None:
    run = _run("backfill")
    assert chosen_interval(NONE, run) == Interval(run.data_interval_start, run.data_interval_end)


@pytest.mark.parametrize(
    ("from_date", "to_date", "start", "end"),
    [
        ("2026-01-05", None, "2026-01-05T00:00+00:00", None),
        (None, "2026-01-05", None, "2026-01-06T00:00+00:00"),
        ("2026-01-05", "2026-01-05", "2026-01-05T00:00+00:00", "2026-01-06T00:00+00:00"),
        (None, "2026-01-05T10:00", None, "2026-01-05T10:00+00:00"),
        (None, "2026-01-05 10:00:00.5Z", None, "2026-01-05T10:00:00.5+00:00"),
        ("2026-01-05T01:00+02:00", None, "2026-01-04T23:00+00:00", None),
        (" 2026-02-28 ", "2026-02-28 ", "2026-02-28T00:00+00:00", "2026-03-01T00:00+00:00"),
    ],
)
def test_dates_are_utc_and_a_plain_to_date_includes_its_day(
    from_date: str | None, to_date: str | None, start: str | None, end: str | None
) -> None:
    asked = chosen_interval(NONE | {"from_date": from_date, "to_date": to_date}, _run("backfill"))
    moments = (datetime.fromisoformat(text) if text else None for text in (start, end))
    assert asked == Interval(*moments)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"from_date": "2026-02-30"}, ["from_date", "'2026-02-30'", "2026-01-31"]),
        ({"to_date": "yesterday"}, ["to_date", "'yesterday'", "2026-01-31"]),
        ({"to_date": "9999-12-31"}, ["to_date", "'9999-12-31'"]),
        ({"from_date": "2026-01-06", "to_date": "2026-01-05"}, ["'2026-01-06'", "'2026-01-05'"]),
        (
            {"from_date": "2026-01-05T10:00", "to_date": "2026-01-05T12:00+02:00"},
            ["'2026-01-05T10:00'", "no row"],
        ),
    ],
)
def test_a_wrong_date_is_named(params: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        chosen_interval(NONE | params, _run())
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize(
    ("kind", "from_date"),
    [("backfill", None), ("manual", "2026-01-05"), ("backfill", "2026-01-05")],
)
def test_whole_tables_goes_with_a_span(kind: str, from_date: str | None) -> None:
    asked = chosen_interval(NONE | {"whole_tables": True, "from_date": from_date}, _run(kind))
    assert asked is not None
    assert asked.whole_tables


def test_whole_tables_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"whole_tables .* give from_date or to_date too"):
        chosen_interval(NONE | {"whole_tables": True}, _run())


def test_tables_are_chosen_by_name_and_all_by_default(write: Write) -> None:
    source = load_source(write("DimUser", "DimArtist", "DimTrack"))
    everything = chosen_tables(source, NONE, ())
    assert [table.name for table in everything] == ["DimUser", "DimArtist", "DimTrack"]
    two = chosen_tables(source, NONE | {"tables": ["DimTrack", "DimUser"]}, ["tables"])
    assert [table.name for table in two] == ["DimUser", "DimTrack"]


def test_an_unknown_table_is_named_with_the_nearest(write: Write) -> None:
    source = load_source(write("DimUser", "DimArtist"))
    with pytest.raises(ConfigError, match=r"'DimUsr'.*did you mean 'DimUser'"):
        chosen_tables(source, NONE | {"tables": ["DimUsr"]}, ["tables"])


def test_a_misspelt_param_does_not_run_everything(write: Write) -> None:
    source = load_source(write("DimUser"))
    with pytest.raises(ConfigError, match=r"'table'.*did you mean 'tables'"):
        chosen_tables(source, NONE, ["table"])


def test_the_form_takes_the_defaults_and_offers_the_tables(write: Write) -> None:
    params = dag_params(load_source(write("DimUser", "DimArtist")))
    assert {name: param.resolve() for name, param in params.items()} == NONE
    assert params["tables"].schema["examples"] == ["DimUser", "DimArtist"]
    assert params["tables"].resolve(["DimUser"]) == ["DimUser"]
    assert params["to_date"].resolve("2026-01-05") == "2026-01-05"
