"""What one run did, kept as one small JSON file per task beside the lake, and shown as text.

Each task writes its own part, whole, and a retry overwrites it; nobody reads and rewrites. A run
that was killed therefore still has a report: of the parts that are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidemark.errors import StateError
from tidemark.layout import Lake
from tidemark.report.model import Failure, NotSeen, RunReport, TableReport
from tidemark.report.text import render_text
from tidemark.storage import Store

__all__ = [
    "Failure",
    "NotSeen",
    "RunReport",
    "TableReport",
    "load",
    "read_part",
    "record",
    "render_text",
]

_SUFFIX = ".json"


class _Part(BaseModel):
    # What a later version adds is passed over: an older reader still shows the rest.
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class _Unseen(_Part):
    count: int
    keys: tuple[Any, ...] = ()


class _Copy(_Part):
    rows: int | None = None
    read: int | None = None
    unchanged: int | None = None
    window: str | None = None
    low: str | None = None
    backfill: bool = False
    note: str | None = None
    not_seen: dict[str, _Unseen] = Field(default_factory=dict)


class _Watermark(_Part):
    watermark: str | None = None


class _LayerTable(_Part):
    rows: int | None = None
    status: str = "done"
    error: str | None = None
    rescued: int = 0
    quarantined: tuple[str, ...] = ()


class _Layer(_Part):
    tables: dict[str, _LayerTable] = Field(default_factory=dict)
    dropped: dict[str, dict[str, int]] = Field(default_factory=dict)
    warned: dict[str, dict[str, int]] = Field(default_factory=dict)
    quarantined: dict[str, int] = Field(default_factory=dict)


class _Reconciled(_Part):
    summary: str | None = None


class _Failure(_Part):
    exception: str
    try_number: int | None = None
    log_url: str | None = None
    run_url: str | None = None


_PartT = TypeVar("_PartT", bound=_Part)


def record(  # noqa: PLR0917  the store and lake first, as everywhere
    store: Store, lake: Lake, source: str, run_id: str, part: str, value: Mapping[str, Any]
) -> None:
    """Write one task's part of a run's report, whole, over an earlier attempt's.

    Args:
        store: The lake's storage.
        lake: The lake's layout.
        source: The source's name.
        run_id: The Dag run's id.
        part: ``copy.<table>``, ``range.<table>.<number>``, ``watermark.<table>``, ``silver``,
            ``gold``, ``reconcile.<table>``, ``failure.<task id>``.
        value: Anything that JSON holds, without secrets.
    """
    data = json.dumps(value, ensure_ascii=False, default=str).encode()
    store.write(_part_file(lake, source, run_id, part), data)


def read_part(store: Store, lake: Lake, source: str, run_id: str, part: str) -> Any:
    """Read back one part as it was recorded; None if there is none."""
    content = store.read(_part_file(lake, source, run_id, part))
    return None if content is None else json.loads(content.data)


def load(store: Store, lake: Lake, source: str, run_id: str) -> RunReport:
    """Read the parts that a run has left so far; none at all is an empty report.

    Raises:
        StateError: A part is no JSON or not of the expected form.
    """
    tables: dict[str, TableReport] = {}
    failures: list[Failure] = []
    gold = _Layer()
    # Sorted by name: a table's watermark comes after its copy, and overrides what the copy knew.
    for path, kind, name, data in _parts(store, lake, source, run_id):
        if kind == "failure":
            failures.append(_failure(name, _parse(path, _Failure, data)))
        elif kind == "copy":
            _update(tables, name, _copy(_parse(path, _Copy, data)))
        elif kind == "range":
            _add_range(tables, name.rpartition(".")[0], _parse(path, _Copy, data))
        elif kind == "watermark":
            _update(tables, name, {"watermark": _parse(path, _Watermark, data).watermark})
        elif kind == "reconcile":
            _update(tables, name, {"note": _parse(path, _Reconciled, data).summary})
        elif kind in ("silver", "gold"):
            layer = _parse(path, _Layer, data)
            gold = layer if kind == "gold" else gold
            for table, found in layer.tables.items():
                _update(tables, table, _layer_fields(kind, found))
    return RunReport(
        source=source,
        run_id=run_id,
        tables=dict(sorted(tables.items())),
        dropped=gold.dropped,
        warned=gold.warned,
        quarantined=gold.quarantined,
        failures=tuple(failures),
    )


def _part_file(lake: Lake, source: str, run_id: str, part: str) -> str:
    return f"{lake.run_folder(source, run_id)}/{quote(part, safe='')}{_SUFFIX}"


def _parts(
    store: Store, lake: Lake, source: str, run_id: str
) -> Iterator[tuple[str, str, str, bytes]]:
    folder = lake.run_folder(source, run_id)
    for file in store.names(folder):
        content = store.read(f"{folder}/{file}") if file.endswith(_SUFFIX) else None
        if content is not None and not file.startswith("_"):
            kind, _, name = unquote(file.removesuffix(_SUFFIX)).partition(".")
            yield f"{folder}/{file}", kind, name, content.data


def _parse(path: str, model: type[_PartT], data: bytes) -> _PartT:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join([".".join(map(str, first["loc"])), first["msg"]]).lstrip(": ")
        message = (
            f"{path}: this part of the run's report can't be read: {reason}; "
            "remove the file: no row in the lake depends on it"
        )
        raise StateError(message) from error


def _update(tables: dict[str, TableReport], table: str, fields: Mapping[str, Any]) -> None:
    tables[table] = replace(tables.get(table, TableReport(table)), **fields)


def _add_range(tables: dict[str, TableReport], table: str, copied: _Copy) -> None:
    known = tables.get(table, TableReport(table))
    sums = {
        "rows": (known.rows or 0) + (copied.rows or 0),
        "read": (known.read or 0) + (copied.read or 0),
    }
    notes = "; ".join(filter(None, [known.note, copied.note])) or None
    told = {"window": "the whole table, in ranges of its key", "note": notes}
    _update(tables, table, {**sums, **told})


def _copy(copied: _Copy) -> dict[str, Any]:
    return {
        "rows": copied.rows,
        "read": copied.read,
        "unchanged": copied.unchanged,
        "window": copied.window,
        "watermark": copied.low,
        "backfill": copied.backfill,
        "note": copied.note,
        "not_seen": tuple(
            NotSeen(reason, found.count, tuple(_key_text(key) for key in found.keys))
            for reason, found in sorted(copied.not_seen.items())
        ),
    }


def _key_text(key: object) -> str:
    return f"({', '.join(map(str, key))})" if isinstance(key, list | tuple) else str(key)


def _layer_fields(layer: str, found: _LayerTable) -> dict[str, Any]:
    failed = found.status == "failed"
    error = (found.error or "failed without a message") if failed else None
    fields: dict[str, Any] = {f"{layer}_rows": found.rows, f"{layer}_error": error}
    if layer == "silver":
        fields |= {"rescued": found.rescued, "quarantined": found.quarantined}
    return fields


def _failure(task_id: str, found: _Failure) -> Failure:
    return Failure(task_id, found.exception, found.try_number, found.log_url, found.run_url)
