"""The watermark store: ADF's forms, reservations, and forward only."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark.errors import ReadOvertaken, StateError
from tidemark.layout import Lake, sequence_of
from tidemark.storage import LocalStore
from tidemark.watermark import (
    Advance,
    TableState,
    advance,
    check_not_overtaken,
    load_state,
    reserve,
)
from tidemark.windows import ordinal

LAKE = Lake("unused")
PATH = LAKE.state_file("DimUser")
T0 = datetime(2026, 1, 1, tzinfo=UTC)

RESERVER = """
import sys
from pathlib import Path
from tidemark.errors import ReadOvertaken
from tidemark.layout import Lake
from tidemark.storage import LocalStore
from tidemark.watermark import reserve
for _ in range(15):
    while True:
        try:
            print(reserve(LocalStore(Path(sys.argv[1])), Lake("unused"), "DimUser").isoformat())
            break
        except ReadOvertaken:
            pass
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def state_of(store: LocalStore) -> TableState:
    return load_state(store, LAKE, "DimUser")


def at(minutes: int) -> datetime:
    return T0 + timedelta(minutes=minutes)


# --- ADF's file


@pytest.mark.parametrize(
    ("data", "cdc"),
    [
        (b'{"cdc":"2025-10-07T19:49:55.1234567Z"}', "2025-10-07T19:49:55.1234567Z"),
        (b'[{"cdc":"2025-10-07"}]', "2025-10-07"),
        (b'[\n  {"cdc": "7"}\n]\n', "7"),
        (b'{"cdc":"7"}\n{"cdc":"7"}\n', "7"),
        (b'\xef\xbb\xbf{"cdc":"7"}', "7"),
        (b'\xef\xbb\xbf\r\n{"cdc":"7", "dummy": 1}\r\n', "7"),
        (b'{"cdc":7}', "7"),
        (b'{"cdc":9007199254740993}', "9007199254740993"),
        (b'{"cdc":null}', None),
        (b'{"cdc":""}', None),
    ],
)
def test_adfs_forms_are_read_and_noticed(store: LocalStore, data: bytes, cdc: str | None) -> None:
    store.write(PATH, data)
    state = state_of(store)
    assert (state.cdc, state.foreign) == (cdc, True)
    assert (state.reserved, state.advanced, state.digests) == (None, None, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"null",
        b"[]",
        b"[null]",
        b'"2025-10-07"',
        b"{}",
        b'{"CDC": "7"}',
        b'{"cdc": "2025-10-',
        b'\xff\xfe{\x00"\x00',
        b"\x00\x00\x00\x00",
        b'{"cdc": "7", "tidemark": 5}',
        b'{"cdc": "7", "tidemark": {"reserved": "soon"}}',
        b'{"cdc": "7", "tidemark": {"advanced": 5}}',
        b'{"cdc": "7", "tidemark": {"reserved": "9999-12-31T23:59:59.999999+00:00"}}',
        b'{"cdc": "7", "tidemark": {"advanced": "9999-12-31T23:59:59-01:00"}}',
        b'{"cdc": "7", "tidemark": {"cursor": ["u"]}}',
        b'{"cdc": "7", "tidemark": {"strategy": {}}}',
        b'{"cdc": "7", "tidemark": {"digests": 5}}',
        b'{"cdc": "7", "tidemark": {"key": [1]}}',
        b'{"cdc": "7", "tidemark": {"position": {"version": 1}}}',
        b'{"cdc": "7", "tidemark": {"load": {"sequence": "2026-01-01"}}}',
        b"[" * 100_000,
    ],
)
def test_a_corrupt_file_is_named_shown_and_mendable(store: LocalStore, data: bytes) -> None:
    store.write(PATH, data)
    for call in (load_state, reserve):
        with pytest.raises(StateError) as caught:
            call(store, LAKE, "DimUser")
        message = str(caught.value)
        assert message.startswith(f"{PATH}: ")
        assert repr(data[:80]) in message
        assert "restore" in message
        assert '{"cdc": "<value>"}' in message
    content = store.read(PATH)
    assert content is not None
    assert content.data == data


def test_our_file_is_one_that_adf_reads(store: LocalStore) -> None:
    sequence = reserve(store, LAKE, "DimUser")
    advance(store, LAKE, "DimUser", "timestamp", Advance(sequence, "2026-01-01 10:00:00", "d"))
    content = store.read(PATH)
    assert content is not None
    assert json.loads(content.data)["cdc"] == "2026-01-01 10:00:00"
    assert not state_of(store).foreign


def test_what_adf_overwrote_is_gone_on_from(store: LocalStore) -> None:
    first = reserve(store, LAKE, "DimUser")
    advance(store, LAKE, "DimUser", "integer", Advance(first, "5", "digests"))
    store.write(LAKE.bronze_file("DimUser", first), b"")
    store.write(PATH, b'{"cdc":"9"}')
    assert state_of(store).foreign
    second = reserve(store, LAKE, "DimUser", now=T0)
    assert second > first  # from the names in bronze: the reservation itself is lost
    state = state_of(store)
    assert (state.cdc, state.digests, state.foreign) == ("9", None, False)


def test_no_file_is_an_empty_state(store: LocalStore) -> None:
    assert state_of(store) == TableState()


# --- reserve


def test_sequences_grow_when_the_clock_goes_back(store: LocalStore) -> None:
    clocks = [at(0), at(5), at(5), at(-600), at(5), at(6)]
    taken = [reserve(store, LAKE, "DimUser", now=clock) for clock in clocks]
    assert taken == sorted(set(taken))
    assert taken[0] == at(0)
    assert taken[3] == at(5) + timedelta(microseconds=2)
    assert taken[5] == at(6)


@pytest.mark.parametrize(
    "name",
    [
        "DimUser_20990101T000000000007Z.parquet",
        "DimUser_2099-01-01T00:00:00.0000079Z",
        "DimUser_2099-01-01T00:00:00.0000079Z.parquet",
        "date=2099-01-01/DimUser_20990101T000000000007Z.parquet",
        "date=1999-01-01/DimUser_2099-01-01T00:00:00.0000079Z",
    ],
)
def test_a_sequence_is_above_every_bronze_file(store: LocalStore, name: str) -> None:
    store.write(f"{LAKE.bronze_folder('DimUser')}/{name}", b"")
    store.write(f"{LAKE.bronze_folder('DimUser')}/_DimUser_21000101T000000000000Z.parquet", b"")
    sequence = reserve(store, LAKE, "DimUser")
    assert sequence == datetime(2099, 1, 1, 0, 0, 0, 8, tzinfo=UTC)
    assert reserve(store, LAKE, "DimUser") > sequence


def test_other_tables_sequences_do_not_count(store: LocalStore) -> None:
    store.write("bronze/DimUserX/DimUserX_20990101T000000000000Z.parquet", b"")
    assert reserve(store, LAKE, "DimUser", now=T0) == T0


def test_threads_get_distinct_sequences(store: LocalStore) -> None:
    def take(_: int) -> datetime:
        while True:
            try:
                return reserve(store, LAKE, "DimUser", now=T0)
            except ReadOvertaken:
                continue

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(64)))
    assert sorted(taken) == [T0 + timedelta(microseconds=i) for i in range(64)]
    assert state_of(store).reserved == max(taken)


def test_processes_get_distinct_sequences(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RESERVER, str(tmp_path)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [worker.communicate()[0].split() for worker in workers]
    assert all(output == sorted(output) and len(output) == 15 for output in outputs)
    assert len({sequence for output in outputs for sequence in output}) == 45


def test_a_read_is_overtaken_by_a_later_one(store: LocalStore) -> None:
    first = reserve(store, LAKE, "DimUser")
    check_not_overtaken(store, LAKE, "DimUser", first)
    second = reserve(store, LAKE, "DimUser")
    with pytest.raises(ReadOvertaken, match=f"DimUser.*{first.year}.*overtaken"):
        check_not_overtaken(store, LAKE, "DimUser", first)
    check_not_overtaken(store, LAKE, "DimUser", second)


# --- advance


def test_an_equal_value_of_a_later_read_stores_its_digests(store: LocalStore) -> None:
    advance(store, LAKE, "DimUser", "timestamp", Advance(at(1), "2026-01-01 10:00:00", "one"))
    later = Advance(at(2), "2026-01-01T10:00:00.0000000Z", "two")
    state = advance(store, LAKE, "DimUser", "timestamp", later)
    assert (state.advanced, state.digests) == (at(2), "two")
    assert state == state_of(store)


@pytest.mark.parametrize(
    "step", [Advance(at(1), "9", "zombie"), Advance(at(2), "9", "zombie"), Advance(at(3), "4", "x")]
)
def test_a_step_that_is_not_forward_changes_nothing(store: LocalStore, step: Advance) -> None:
    advance(store, LAKE, "DimUser", "integer", Advance(at(2), "5", "kept"))
    before = store.read(PATH)
    state = advance(store, LAKE, "DimUser", "integer", step)
    assert (state.cdc, state.advanced, state.digests) == ("5", at(2), "kept")
    assert store.read(PATH) == before


def test_a_watermark_of_another_kind_is_named(store: LocalStore) -> None:
    store.write(PATH, b'{"cdc": "2026-01-01"}')
    with pytest.raises(StateError, match=r"DimUser.*cdc\.json holds '2026-01-01'.*integer"):
        advance(store, LAKE, "DimUser", "integer", Advance(T0, "5", None))


STEPS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from([9, 10, 11, 100, 101, -1]), st.booleans()),
    max_size=14,
)


@settings(max_examples=60)
@given(STEPS)
def test_no_order_of_steps_moves_a_watermark_back(steps: list[tuple[int, int, bool]]) -> None:
    with TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        stored: str | None = None
        for minute, high, reserving in steps:
            if reserving:
                before = state_of(store)
                sequence = reserve(store, LAKE, "DimUser", now=at(minute))
                known = [s for s in (before.reserved, before.advanced) if s]
                assert sequence > max(known, default=datetime.min.replace(tzinfo=UTC))
            else:
                step = Advance(at(minute), str(high), f"d{minute}")
                advance(store, LAKE, "DimUser", "integer", step)
            state = state_of(store)
            if stored is not None:
                assert state.cdc is not None
                assert ordinal("integer", state.cdc) >= ordinal("integer", stored)
            stored = state.cdc
            if state.digests:
                assert state.digests == f"d{(state.advanced - T0).seconds // 60}"  # type: ignore[operator]


def test_two_advances_at_once_end_at_the_greater(store: LocalStore) -> None:
    def move(minute: int) -> None:
        advance(store, LAKE, "DimUser", "integer", Advance(at(minute), str(minute), None))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, [3, 1, 4, 2]))
    assert state_of(store).cdc == "4"


def test_a_reserved_sequence_names_a_bronze_file(store: LocalStore) -> None:
    sequence = reserve(store, LAKE, "DimUser")
    name = LAKE.bronze_file("DimUser", sequence).rpartition("/")[2]
    assert sequence_of(name) == sequence
