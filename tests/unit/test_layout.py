"""Where things lie, and which names are bronze files."""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemark.layout import Lake, is_published_at, sequence_of, sequence_text

LAKE = Lake("/lake")
MOMENTS = st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC))
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def test_the_lake_is_adfs_lake() -> None:
    assert LAKE.bronze_file("DimUser", MOMENT) == (
        "bronze/DimUser/DimUser_20260102T030405000678Z.parquet"
    )
    assert LAKE.state_file("DimUser") == "bronze/DimUser_cdc/cdc.json"
    assert LAKE.url(LAKE.silver("DimUser")) == "/lake/silver/DimUser"
    assert LAKE.changes("DimUser") == "silver/DimUser_changes"
    assert LAKE.gold("dim_user") == "gold/dim_user"


def test_a_dated_file_lies_in_the_folder_of_its_day_in_utc() -> None:
    evening = datetime(2026, 1, 2, 23, 30, tzinfo=timezone(-timedelta(hours=5)))
    assert LAKE.bronze_file("DimUser", evening, dated=True) == (
        "bronze/DimUser/date=2026-01-03/DimUser_20260103T043000000000Z.parquet"
    )


@given(MOMENTS)
def test_either_layouts_files_are_read_wherever_they_lie(moment: datetime) -> None:
    flat, dated = (LAKE.bronze_file("T", moment, dated=dated) for dated in (False, True))
    assert all(is_published_at(path.removeprefix("bronze/T/")) for path in (flat, dated))
    day, _, name = dated.removeprefix("bronze/T/").partition("/")
    assert (name, day) == (flat.removeprefix("bronze/T/"), f"date={moment:%Y-%m-%d}")


@pytest.mark.parametrize(
    "path",
    [
        "old/T_20260102T000000000000Z.parquet",
        "date=2026-01-02/more/T_20260102T000000000000Z.parquet",
        "date=2026-1-2/T_20260102T000000000000Z.parquet",
        "x_date=2026-01-02/T_20260102T000000000000Z.parquet",
        "month=2026-01/T_20260102T000000000000Z.parquet",
        "date=\u0662\u0660\u0662\u0666-01-02/T_20260102T000000000000Z.parquet",
        "date=2026-01-02/",
        "",
    ],
)
def test_other_folders_hold_no_published_files(path: str) -> None:
    assert not is_published_at(path)


def test_readers_skip_what_is_not_published() -> None:
    temporary = LAKE.temporary_file("DimUser", MOMENT)
    folder, _, name = temporary.rpartition("/")
    assert folder == LAKE.bronze_folder("DimUser")
    assert name.startswith("_")
    assert sequence_of(name) is None
    # Digests lie where no reader of bronze looks.
    assert not LAKE.digest_file("DimUser", MOMENT).startswith(folder + "/")


def test_a_run_id_is_one_folder() -> None:
    run = "scheduled__2026-01-01T00:00:00+00:00/../x"
    assert LAKE.run_folder("spotify", run).count("/") == LAKE.run_folder("spotify", "a").count("/")


@given(MOMENTS)
def test_a_sequence_comes_back_from_its_files_name(moment: datetime) -> None:
    path = LAKE.bronze_file("Dim_User_20250101T000000000000Z", moment)
    assert sequence_of(path.rpartition("/")[2]) == moment


@given(MOMENTS, MOMENTS)
def test_names_sort_like_their_sequences(a: datetime, b: datetime) -> None:
    names = [LAKE.bronze_file("T", moment) for moment in (a, b)]
    assert (a < b) == (names[0] < names[1])


def test_a_name_is_utc_whatever_the_sequences_zone() -> None:
    local = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert sequence_text(local) == sequence_text(MOMENT)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DimUser_2025-10-07T19:49:55.1234567Z", datetime(2025, 10, 7, 19, 49, 55, 123456, UTC)),
        (
            "DimUser_2025-10-07T19:49:55.1234567Z.parquet",
            datetime(2025, 10, 7, 19, 49, 55, 123456, UTC),
        ),
        ("DimUser_2025-10-07T19:49:55.5", datetime(2025, 10, 7, 19, 49, 55, 500000, UTC)),
        ("DimUser_2025-10-07T19:49:55Z", datetime(2025, 10, 7, 19, 49, 55, 0, UTC)),
        ("DimUser_20260102T030405000678Z.parquet", MOMENT),
        ("_DimUser_20260102T030405000678Z.parquet", None),
        (".DimUser_20260102T030405000678Z.parquet.crc", None),
        ("_SUCCESS", None),
        ("DimUser.parquet", None),
        ("DimUser_99999999T000000000000Z.parquet", None),
        ("DimUser_2025-13-45T00:00:00Z", None),
        ("", None),
    ],
)
def test_sequences_in_names(name: str, expected: datetime | None) -> None:
    assert sequence_of(name) == expected
