"""Which version of a Delta table was the newest at a moment; without Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidemark.errors import LakeError


@dataclass(frozen=True)
class Version:
    """One commit that a table's log still names.

    Attributes:
        number: From 0.
        moment: When it was committed, UTC, by the committer's clock.
    """

    number: int
    moment: datetime


def known_versions(url: str, options: Mapping[str, str]) -> list[Version]:
    """List the versions that a Delta table's log still names, the oldest first."""
    from deltalake import DeltaTable  # noqa: PLC0415  # most of `show` does without

    history: list[dict[str, Any]] = DeltaTable(url, storage_options=dict(options) or None).history()
    found = [
        Version(entry["version"], datetime.fromtimestamp(entry["timestamp"] / 1000, UTC))
        for entry in history
    ]
    return sorted(found, key=lambda version: version.number)


def checked(name: str, wanted: int, known: Sequence[Version]) -> int:
    """Give a version's number, if the table has it.

    Raises:
        LakeError: It has not; names those that it has.
    """
    if wanted not in {version.number for version in known}:
        raise LakeError(f"table {name!r} has no version {wanted} ({_span(known)})")
    return wanted


def version_at(name: str, moment: datetime, known: Sequence[Version]) -> int:
    """Give the number of the version that was the newest at a moment.

    Raises:
        LakeError: The moment lies before all that is known of the table.
    """
    until = [version.number for version in known if version.moment <= moment]
    if not until:
        when = moment.astimezone(UTC).isoformat(sep=" ")
        raise LakeError(f"table {name!r}: nothing is known of it at {when} ({_span(known)})")
    return max(until)


def moment_of(text: str) -> datetime:
    """Read a moment as it is typed: ISO 8601, UTC where it names no zone.

    Raises:
        ValueError: It is none.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _span(known: Sequence[Version]) -> str:
    if not known:
        return "its log names no version"
    first, last = known[0], known[-1]
    return (
        f"its versions are {first.number}, of {first.moment:%Y-%m-%d %H:%M:%S} UTC, to "
        f"{last.number}, of {last.moment:%Y-%m-%d %H:%M:%S} UTC"
    )
