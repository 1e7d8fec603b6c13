from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark.errors import StateError
from tidemark.layout import Lake
from tidemark.report import Failure, NotSeen, RunReport, TableReport, load, record, render_text
from tidemark.storage import LocalStore

LAKE = Lake("lake")
RUN = "manual__2026-01-02T10:00:00+00:00"
COPIED = {
    "table": "DimUser",
    "rows": 1200,
    "read": 1300,
    "unchanged": 100,
    "window": "2026-01-01 09:00:00 <= updated_at <= 2026-01-02 10:00:00",
    "low": "2026-01-01 10:00:00",
    "backfill": False,
    "not_seen": {
        "future": {"count": 3, "keys": [17, 40]},
        "null_cursor": {"count": 1, "keys": [[9, "a"]]},
    },
}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def write(store: LocalStore, part: str, value: dict[str, object]) -> None:
    record(store, LAKE, "spotify", RUN, part, value)


def test_a_run_that_left_nothing_is_an_empty_report(store: LocalStore) -> None:
    report = load(store, LAKE, "spotify", RUN)
    assert report == RunReport("spotify", RUN)
    assert render_text(report) == "no table was read"


def test_the_parts_of_all_tasks_make_one_report(store: LocalStore) -> None:
    write(store, "copy.DimUser", COPIED)
    write(store, "watermark.DimUser", {"watermark": "2026-01-02 10:00:00", "moved": True})
    write(store, "silver", {"tables": {"DimUser": {"rows": 512, "status": "done"}}})
    write(
        store,
        "gold",
        {
            "tables": {"DimUser": {"rows": None, "status": "failed", "error": "no space"}},
            "dropped": {"dim_user": {"valid_id": 3}},
            "warned": {"dim_user": {"named": 2}},
            "quarantined": {"dim_user": 3},
            "views": {"track_popularity": {"rows": 5}},
        },
    )
    write(store, "failure.gold", {"exception": "PipelineError: DimUser", "try_number": 1})

    report = load(store, LAKE, "spotify", RUN)

    assert report.tables["DimUser"] == TableReport(
        name="DimUser",
        rows=1200,
        read=1300,
        unchanged=100,
        window=str(COPIED["window"]),
        watermark="2026-01-02 10:00:00",
        not_seen=(NotSeen("future", 3, ("17", "40")), NotSeen("null_cursor", 1, ("(9, a)",))),
        silver_rows=512,
        gold_error="no space",
    )
    assert report.dropped == {"dim_user": {"valid_id": 3}}
    assert report.warned == {"dim_user": {"named": 2}}
    assert report.quarantined == {"dim_user": 3}
    assert report.failures == (Failure("gold", "PipelineError: DimUser", 1),)


def test_what_silver_keeps_aside_is_told(store: LocalStore) -> None:
    done = {
        "rows": 5, "status": "failed", "error": "DimUser: 1 bronze file is in quarantine",
        "rescued": 2, "quarantined": ["DimUser_2.parquet"],
    }  # fmt: skip
    write(store, "silver", {"tables": {"DimUser": done, "DimDate": {"rows": 1}}})
    report = load(store, LAKE, "spotify", RUN)
    found = {name: (t.rescued, t.quarantined) for name, t in report.tables.items()}
    assert found == {"DimUser": (2, ("DimUser_2.parquet",)), "DimDate": (0, ())}
    text = render_text(report)
    line = "  DimUser  in quarantine: DimUser_2.parquet; 2 rows with _rescued_data"
    assert f"kept aside by silver\n{line}\n" in text


def test_an_empty_read_shows_the_watermark_that_stays(store: LocalStore) -> None:
    write(store, "copy.DimUser", COPIED | {"rows": 0})
    assert load(store, LAKE, "spotify", RUN).tables["DimUser"].watermark == "2026-01-01 10:00:00"


def test_a_retry_overwrites_its_part(store: LocalStore) -> None:
    write(store, "failure.DimUser.copy_to_bronze", {"exception": "A: first", "try_number": 1})
    write(store, "failure.DimUser.copy_to_bronze", {"exception": "B: second", "try_number": 4})
    report = load(store, LAKE, "spotify", RUN)
    assert report.failures == (Failure("DimUser.copy_to_bronze", "B: second", 4),)


def test_runs_do_not_see_each_other(store: LocalStore) -> None:
    write(store, "copy.DimUser", COPIED)
    assert not load(store, LAKE, "spotify", f"{RUN}/../other").tables
    assert not load(store, LAKE, "other", RUN).tables


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"rows": 12', "Invalid JSON"),
        (b'{"rows": "many"}', "rows: "),
        (b"[]", "Input should be"),
    ],
)
def test_a_corrupt_part_is_named(store: LocalStore, data: bytes, reason: str) -> None:
    path = f"{LAKE.run_folder('spotify', RUN)}/copy.DimUser.json"
    store.write(path, data)
    with pytest.raises(StateError) as caught:
        load(store, LAKE, "spotify", RUN)
    assert path in str(caught.value)
    assert reason in str(caught.value)
    assert "remove the file" in str(caught.value)


def test_what_is_half_written_or_unknown_is_passed_over(store: LocalStore) -> None:
    folder = LAKE.run_folder("spotify", RUN)
    store.write(f"{folder}/_copy.DimUser.json", b'{"rows"')
    store.write(f"{folder}/notes.json", b"{}")
    store.write(f"{folder}/README.txt", b"hello")
    assert load(store, LAKE, "spotify", RUN) == RunReport("spotify", RUN)


def test_the_text_tells_everything_by_name(store: LocalStore) -> None:
    write(store, "copy.DimUser", COPIED | {"backfill": True})
    write(store, "silver", {"tables": {"DimUser": {"rows": 512}}})
    found = {
        "dropped": {"dim_user": {"valid_id": 3, "other": 0}},
        "warned": {"dim_user": {"named": 1, "long": 0}},
        "quarantined": {"dim_user": 3, "dim_track": 0},
    }
    write(store, "gold", {"tables": {}, **found})
    failure = {
        "exception": "SourceError: no column 'x'\nhint: y",
        "try_number": 2,
        "log_url": "http://localhost:8080/log",
    }
    write(store, "failure.DimDate.copy_to_bronze", failure)

    assert render_text(load(store, LAKE, "spotify", RUN)).splitlines() == [
        "table    published   read  unchanged  silver  gold  watermark",
        "DimUser      1,200  1,300        100     512     -  2026-01-01 10:00:00",
        "",
        "rows read",
        f"  DimUser  {COPIED['window']} (backfill: the watermark stays)",
        "",
        "dropped by an expectation of gold",
        "  dim_user  valid_id: 3 rows",
        "",
        "kept in gold/<table>_quarantine",
        "  dim_user  3 rows",
        "",
        "kept against an expectation of gold",
        "  dim_user  named: 1 row",
        "",
        "not seen",
        "  DimUser  future: 3 rows (17, 40, …)",
        "  DimUser  null_cursor: 1 row ((9, a))",
        "",
        "failed tasks",
        "  DimDate.copy_to_bronze (try 2)",
        "    SourceError: no column 'x'",
        "    hint: y",
        "    http://localhost:8080/log",
    ]


def test_an_exception_cannot_steer_the_terminal() -> None:
    report = RunReport("spotify", RUN, failures=(Failure("silver", "E: \x1b[2Jgone\rX"),))
    assert "\x1b" not in render_text(report)
    assert "\r" not in render_text(report)


NAMES = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=128)
COUNTS = st.none() | st.integers(0, 10**12)


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(
            TableReport,
            name=NAMES,
            rows=COUNTS,
            read=COUNTS,
            unchanged=COUNTS,
            window=st.none() | st.text(max_size=300),
            watermark=st.none() | NAMES,
            silver_rows=COUNTS,
            gold_error=st.none() | st.text(max_size=300),
            not_seen=st.lists(
                st.builds(NotSeen, NAMES, st.integers(0, 99), st.lists(NAMES).map(tuple))
            ).map(tuple),
        ),
        max_size=4,
    ),
    st.lists(st.builds(Failure, NAMES, st.text(max_size=300)), max_size=3),
)
def test_whatever_the_names_the_text_fits_100_columns(
    tables: list[TableReport], failures: list[Failure]
) -> None:
    report = RunReport(
        "spotify", RUN, {table.name: table for table in tables}, failures=tuple(failures)
    )
    assert max(len(line) for line in render_text(report).split("\n")) <= 100
