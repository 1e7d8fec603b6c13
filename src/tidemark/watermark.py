"""The watermark store: ``bronze/<Table>_cdc/cdc.json``.

The ``cdc`` key is Azure Data Factory's: a cursor value up to which all rows are in bronze. What
Tidemark keeps lies beside it under ``tidemark``. ADF rewrites the whole file, so a file without
that part was written by ADF, and its value is gone on from.

The file changes by compare-and-set only: of two writers one wins and the other starts anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any

from tidemark.errors import ReadOvertaken, StateError, shown
from tidemark.layout import Lake
from tidemark.load_progress import InitialLoad, as_json, from_json
from tidemark.published import bronze_files
from tidemark.storage import Content, Store
from tidemark.windows import Kind, ordinal

_FORMAT = 1
_ATTEMPTS = 10


@dataclass(frozen=True)
class TableState:
    """What is stored about a table's reads.

    Attributes:
        cdc: The watermark, in the source's own text form; None before the first read.
        reserved: The sequence of the newest read that has begun, UTC.
        advanced: The sequence of the newest read that moved the watermark, UTC.
        digests: The file of the digests that this read left behind.
        cursor: The column that `cdc` is a value of; None where ADF wrote the file.
        strategy: The strategy that read the table last; None where ADF wrote the file.
        position: What this strategy goes on from, as it left it.
        key: The columns of the key that the table was read by; empty where nobody noted them.
        load: The initial load in ranges that has begun and is not whole yet.
        foreign: Whether another writer (ADF) wrote the file last.
        version: The file's version, for the next compare-and-set; None: no file.
    """

    cdc: str | None = None
    reserved: datetime | None = None
    advanced: datetime | None = None
    digests: str | None = None
    cursor: str | None = None
    strategy: str | None = None
    position: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    load: InitialLoad | None = None
    foreign: bool = False
    version: str | None = None

    @property
    def was_read(self) -> bool:
        """Whether a read of the table, ours or ADF's, has ever come to its end."""
        return self.cdc is not None or self.strategy is not None


def load_state(store: Store, lake: Lake, table: str) -> TableState:
    """Read a table's state; an empty one where there is no file.

    Raises:
        StateError: The file holds something else than a state, ADF's or ours.
    """
    path = lake.state_file(table)
    content = store.read(path)
    return TableState() if content is None else _parse(path, content)


def reserve(store: Store, lake: Lake, table: str, now: datetime | None = None) -> datetime:
    """Begin a read: take a sequence greater than every earlier one of the table.

    Args:
        store: The lake's storage.
        lake: The lake's layout.
        table: The table's name in the lake.
        now: UTC; the clock is used without it.

    Returns:
        The read's ``_sequence``: UTC, microseconds.

    Raises:
        StateError: The state can't be read.
        ReadOvertaken: Other reads kept getting in between.
    """

    def change(state: TableState) -> TableState:
        return replace(state, reserved=next_sequence(store, lake, table, state, now))

    state = update_state(store, lake, table, change)
    if state.reserved is None:
        message = f"table {table}: the reservation was not stored"
        raise StateError(message)
    return state.reserved


def reserve_up_to(store: Store, lake: Lake, table: str, sequence: datetime, last: datetime) -> None:
    """Take the sequences behind a read's own too, for several versions of one key.

    Raises:
        ReadOvertaken: A later read of the table was reserved since.
    """

    def change(state: TableState) -> TableState:
        if state.reserved != sequence:
            check_not_overtaken(store, lake, table, sequence)
        return replace(state, reserved=last)

    update_state(store, lake, table, change)


def check_not_overtaken(store: Store, lake: Lake, table: str, sequence: datetime) -> None:
    """Refuse to go on with a read after a later one has begun.

    Raises:
        ReadOvertaken: A later read of the table was reserved since.
    """
    state = load_state(store, lake, table)
    if state.reserved is not None and state.reserved > sequence:
        message = (
            f"table {table}: the read of {sequence.isoformat()} was overtaken by one of "
            f"{state.reserved.isoformat()}; it publishes nothing and is tried again as a new read"
        )
        raise ReadOvertaken(message)


def check_same_cursor(lake: Lake, table: str, state: TableState, cursor: str | None) -> None:
    """Refuse to go on from a watermark that is a value of another column.

    Raises:
        StateError: The metadata's cursor is not the one that the table was read by.
    """
    if state.cursor not in {None, cursor}:
        message = (
            f"table {table}: {lake.state_file(table)} holds a value of {state.cursor!r}, and the "
            f"metadata's cursor is {cursor!r} now: rows that differ in it would be passed over. "
            "Delete the file: then the whole table is read again, and nothing is doubled in "
            f"silver; or set cursor to {state.cursor!r} again"
        )
        raise StateError(message)


def check_same_key(lake: Lake, table: str, state: TableState, key: Sequence[str]) -> None:
    """Refuse to read by another key than the one by which silver tells the rows apart.

    Raises:
        StateError: The metadata's key is not the one that the table was read by.
    """
    if state.key and set(state.key) != set(key):
        message = (
            f"table {table}: it was read with the key ({', '.join(state.key)}), and key in config/ "
            f"is ({', '.join(key)}) now: silver would match the rows by one and hold those of the "
            "other, twice or for ever. Run `tidemark rebuild <source> --table "
            f"{table}`, which builds silver by the new key, then delete {lake.state_file(table)}: "
            "the next run reads the whole table, and deletes what is not there any more; or set "
            f"key to [{', '.join(state.key)}] again"
        )
        raise StateError(message)


def check_same_kind(
    lake: Lake, table: str, state: TableState, cursor: str | None, kind: Kind | None
) -> None:
    """Refuse to read what could not be stored: the watermark is no value of the cursor's kind.

    Raises:
        StateError: The metadata's cursor, or its type at the source, has changed.
    """
    if state.cdc is None or kind is None:
        return
    try:
        ordinal(kind, state.cdc)
    except ValueError as error:
        was = f"a value of {state.cursor!r}" if state.cursor else "the value of another tool (ADF)"
        message = (
            f"table {table}: {lake.state_file(table)} holds {shown(repr(state.cdc))}, {was}, "
            f"and the metadata's cursor is {cursor!r} now, which is of kind {kind}: "
            "neither can be told to be newer. Delete the file: then the whole table is read again, "
            "and nothing is doubled in silver; or name the value's own cursor in config/"
        )
        raise StateError(message) from error


@dataclass(frozen=True)
class Advance:
    """What a finished read leaves behind.

    Attributes:
        sequence: The read's own, UTC.
        high: The cursor value up to which all rows are now in bronze; None: no such value.
        digests: The digests' file of that read, relative to the lake.
        cursor: The column that `high` is a value of.
        strategy: The strategy that read.
        position: What it goes on from.
        key: The columns of the key that it read by.
        anew: The read was a full reload: the watermark may go back.
    """

    sequence: datetime
    high: str | None
    digests: str | None
    cursor: str | None = None
    strategy: str | None = None
    position: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    anew: bool = False


def advance(store: Store, lake: Lake, table: str, kind: Kind | None, step: Advance) -> TableState:
    """Store what a read left behind; of two reads the later one counts.

    The watermark moves forward only, but for a full reload, which begins anew: a step that isn't
    forward is a successful no-op. A value of another cursor is never compared with: it stays, under
    its own name, until there is one of the new cursor.

    Returns:
        The state that is stored afterwards.
    """

    def change(state: TableState) -> TableState:
        late = state.advanced is not None and step.sequence <= state.advanced
        is_other = state.cdc is not None and state.cursor not in {None, step.cursor}
        back = not (step.anew or is_other) and _is_back(table, kind, state.cdc, step.high)
        if late or (back and step.strategy in {None, "watermark"}):
            return state
        # Who goes on from something else than the watermark may find its newest row deleted.
        stays = back or (step.high is None and not step.anew)
        return replace(
            state,
            cdc=state.cdc if stays else step.high,
            cursor=state.cursor if stays and is_other else step.cursor,
            advanced=step.sequence,
            digests=step.digests,
            strategy=step.strategy,
            position=dict(step.position),
            key=step.key,
            load=None,
        )

    return update_state(store, lake, table, change)


def next_sequence(
    store: Store, lake: Lake, table: str, state: TableState, now: datetime | None = None
) -> datetime:
    """Give a moment (UTC) greater than every sequence of the table that was ever handed out."""
    published = [sequence for _, sequence in bronze_files(store, lake, table)]
    known = [s for s in (state.reserved, state.advanced, *published) if s]
    floor = max(known, default=None)
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    if floor is not None and moment <= floor:
        moment = floor + timedelta(microseconds=1)
    return moment


def _is_back(table: str, kind: Kind | None, stored: str | None, high: str | None) -> bool:
    if stored is None or high is None or kind is None:
        return False
    return ordinal(kind, high) < place(table, kind, stored)


def place(table: str, kind: Kind, cdc: str) -> int:
    """Place a stored watermark on its cursor's line (see `windows.ordinal`).

    Raises:
        StateError: It is no value of the cursor's kind.
    """
    try:
        return ordinal(kind, cdc)
    except ValueError as error:
        message = (
            f"table {table}: bronze/{table}_cdc/cdc.json holds {shown(repr(cdc))}, but its "
            f'cursor is of kind {kind}; restore the file, or set its "cdc" to a value '
            "from which to read on"
        )
        raise StateError(message) from error


def update_state(
    store: Store, lake: Lake, table: str, change: Callable[[TableState], TableState]
) -> TableState:
    """Change a table's state by compare-and-set.

    Args:
        store: The lake's storage.
        lake: The lake's layout.
        table: The table's name in the lake.
        change: Gives the state that is wanted; it is called again if another writer was faster.

    Returns:
        The state that is stored afterwards.

    Raises:
        StateError: The state can't be read.
        ReadOvertaken: Other writers kept getting in between.
    """
    path = lake.state_file(table)
    for _ in range(_ATTEMPTS):
        state = load_state(store, lake, table)
        wanted = change(state)
        if wanted == state:
            return state
        try:
            version = store.write_if(path, _format(wanted), state.version)
        except ReadOvertaken:
            continue
        return replace(wanted, foreign=False, version=version)
    message = f"{path}: {_ATTEMPTS} other writers got in between; retry as a new read"
    raise ReadOvertaken(message)


def _format(state: TableState) -> bytes:
    own = {
        "format": _FORMAT,
        "reserved": state.reserved.isoformat() if state.reserved else None,
        "advanced": state.advanced.isoformat() if state.advanced else None,
        "digests": state.digests,
        "cursor": state.cursor,
        "strategy": state.strategy,
        "position": dict(state.position),
        "key": list(state.key),
        "load": as_json(state.load) if state.load else None,
    }
    return json.dumps({"cdc": state.cdc, "tidemark": own}).encode()


# What a text that somebody wrote by hand can raise: other types, a year 0, brackets without end.
_NOT_A_STATE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def _parse(path: str, content: Content) -> TableState:
    try:
        value = _first_object(content.data.decode("utf-8-sig"))
        own = value.get("tidemark")
        cdc = value["cdc"]
        stored = {} if own is None else dict(own)
        return TableState(
            cdc=str(cdc) if cdc not in (None, "") else None,
            reserved=_moment(stored.get("reserved")),
            advanced=_moment(stored.get("advanced")),
            digests=_text(stored, "digests"),
            cursor=_text(stored, "cursor"),
            strategy=_text(stored, "strategy"),
            position={_a_text(k): _a_text(v) for k, v in (stored.get("position") or {}).items()},
            key=tuple(map(_a_text, stored.get("key") or ())),
            load=from_json(stored["load"]) if stored.get("load") else None,
            foreign=own is None,
            version=content.version,
        )
    except _NOT_A_STATE as error:
        message = (
            f"{path}: no watermark can be read from {content.data[:80]!r} ({error!r}); restore "
            'the file, or write {"cdc": "<value>"} with the value from which to read on, or '
            "delete it: then the whole table is read again, and nothing is doubled in silver"
        )
        raise StateError(message) from error


def _first_object(text: str) -> dict[str, Any]:
    # ADF's JSON sink writes an object, an array of one, or JSON lines, as it is set up.
    value, _ = json.JSONDecoder().raw_decode(text.strip())
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        message = "not an object"
        raise TypeError(message)
    return value


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text).astimezone(UTC)
    if moment.year == MAXYEAR:
        message = f"no read comes after {text}"
        raise ValueError(message)
    return moment


def _text(stored: Mapping[str, Any], name: str) -> str | None:
    value = stored.get(name)
    return None if value is None else _a_text(value)


def _a_text(value: Any) -> str:
    if not isinstance(value, str):
        message = f"not a text: {value!r}"
        raise TypeError(message)
    return value
