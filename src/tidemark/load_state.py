"""An initial load in ranges, noted in the table's ``cdc.json`` until it is whole."""

from __future__ import annotations

from dataclasses import replace

from tidemark.errors import ReadOvertaken
from tidemark.layout import Lake
from tidemark.load_progress import InitialLoad
from tidemark.storage import Store
from tidemark.watermark import TableState, next_sequence, update_state


def begin_load(store: Store, lake: Lake, table: str, load: InitialLoad) -> InitialLoad:
    """Begin an initial load in ranges: set aside a sequence for each range, and note the plan.

    Args:
        store: The lake's storage.
        lake: The lake's layout.
        table: The table's name in the lake.
        load: The plan; its own sequence is replaced.

    Returns:
        The load as it is stored: that of another process, if one has begun it meanwhile.

    Raises:
        ReadOvertaken: Another read has ended meanwhile: the table is no longer unknown.
    """

    def change(state: TableState) -> TableState:
        if state.load is not None:
            return state
        if state.was_read:
            message = (
                f"table {table}: another read has ended since this initial load was planned; "
                "it is not begun"
            )
            raise ReadOvertaken(message)
        first = next_sequence(store, lake, table, state)
        begun = replace(load, sequence=first)
        return replace(state, reserved=begun.last, load=begun)

    return update_state(store, lake, table, change).load or load


def note_empty_range(store: Store, lake: Lake, table: str, load: InitialLoad, number: int) -> None:
    """Note that a range of an initial load holds no row: no file will say that it was read.

    Raises:
        ReadOvertaken: The load is over, or was begun anew.
    """

    def change(state: TableState) -> TableState:
        now = check_same_load(table, state, load)
        return replace(state, load=replace(now, empty=tuple(sorted({*now.empty, number}))))

    update_state(store, lake, table, change)


def check_same_load(table: str, state: TableState, load: InitialLoad) -> InitialLoad:
    """Give the load that is stored, if it is the one that a range was taken from.

    Raises:
        ReadOvertaken: It is over, or was begun anew.
    """
    if state.load is None or state.load.sequence != load.sequence:
        message = (
            f"table {table}: the initial load of {load.sequence.isoformat()} is over or was begun "
            "anew; this range publishes nothing"
        )
        raise ReadOvertaken(message)
    return state.load


def forget_load(store: Store, lake: Lake, table: str) -> None:
    """Give an initial load up; the next read then reads the whole table, compared by key."""
    update_state(store, lake, table, lambda state: replace(state, load=None))
