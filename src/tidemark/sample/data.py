"""The initial rows of the sample: a made-up vocabulary, and the same rows on each machine.

Only ``random()`` is drawn from the generator: it is the one method whose sequence Python promises
to keep from version to version. Names hold what the cleaning rules act on: hyphens, odd and
non-ASCII characters, blanks at either end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

from tidemark.errors import SourceError
from tidemark.sample.schema import SCHEMA, Row, set_step, transaction

T = TypeVar("T")
Maker = Callable[[Random, int, str], Row]

ROWS = {"DimUser": 500, "DimArtist": 500, "DimTrack": 500, "FactStream": 1_000}
FIRST_MOMENT = datetime.fromisoformat("2025-12-01")
QUARTER_HOURS = 31 * 96
"""Cursors lie on the quarter hours of December 2025 (UTC): about 16 rows of a table each day."""


def _words(text: str, separator: str | None = None) -> list[str]:
    return text.split(separator)  # a vocabulary reads better as text than as quoted words


_FIRST = _words(
    "Ada Anne-Marie Bo Chidi Dragoş Elif François Gül Hana Ines Jürgen Kofi Łucja Mateo Noor "
    "Oluwaseun Priya Quentin Renée Søren Tomás Uma Viktória Wanjiru Ximena Yuki Zoë"
)
_LAST = _words(
    "Abernathy Bergström Castellanos D'Souza Eze Fernández Grünwald Haddad Iversen Jóhannsdóttir "
    "Kowalski Lindqvist Mbeki Novák O'Malley Petrov Quispe Rahman Saint-Clair Tanaka Ulrich "
    "Vasquez Weiß Xu Yücel Zhou"
)
_COUNTRIES = _words(
    "Argentina,Brazil,Côte d'Ivoire,Denmark,Egypt,France,Germany,India,Japan,Kenya,Lebanon,Mexico,"
    "New Zealand,Perú,Romania,South Korea,Türkiye,Uruguay",
    ",",
)
_ADJECTIVES = _words(
    "Amber Borrowed Crooked Distant Electric Frozen Gilded Hollow Idle Jagged Kind Lucid Midnight "
    "Neon Overcast Paper Quiet Restless Silver Tidal Velvet Wandering"
)
_NOUNS = _words(
    "Anchor Beacon Comet Driftwood Ember Fern Garden Harbour Island Jigsaw Kite Lantern "
    "Meridian Northwind Orchard Pendulum Quill River Staircase Telegram Undertow Window"
)
_ARTIST_FORMS = (
    "The {a} {n}s",
    "{a} {n}",
    "{f} & the {n}s",
    "{a}★{n}",
    "{f} «{a}» {l}",
    "DJ {n}™ #1",
    "{n} ♫ {a}",
    "東京 {n}",
    "Кино-{n}",
    "{a}/{n} (feat. {f})",
    "Mc{l} | {n}",
    "  {a} {n} Trio ",
)
_TRACK_FORMS = (
    "{a} {n}",
    "{a}-{n}",
    "Half-{a} {n}",
    "{n}-by-{m}",
    "The {n} and the {m}",
    "{a} {n} - Live",
    " {a} {m} ",
    "{n}'s {a}-{m}",
)
SUBSCRIPTIONS = ("Free", "Premium", "Family", "Student")
GENRES = ("Ambient", "Folk", "House", "Indie", "Jazz", "Metal", "Pop", "Soul")
_DEVICES = ("Car", "Desktop", "Mobile", "Smart Speaker", "Tablet", "TV")
_EDGES = (149, 150, 299, 300)  # seconds: both sides of each limit of the duration bands
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def generator(step: int, name: str) -> Random:
    """Return the generator of a table's rows in a step."""
    # With 400, user 7 (the one that examples ask for) is among those that step 2 updates.
    return Random(400 * step + list(SCHEMA).index(name))


def pick(rng: Random, options: Sequence[T]) -> T:
    """Draw one of the options."""
    return options[int(rng.random() * len(options))]


def between(rng: Random, low: int, high: int) -> int:
    """Draw an integer, both ends included."""
    return low + int(rng.random() * (high - low + 1))


def _day(rng: Random, first: date, last: date) -> date:
    return first + timedelta(days=between(rng, 0, (last - first).days))


def _user(rng: Random, key: int, moment: str) -> Row:
    name = f"{pick(rng, _FIRST)} {pick(rng, _LAST)}"
    name = {0: f" {name}", 1: f"{name}  "}.get(between(rng, 0, 11), name)
    start = _day(rng, date(2021, 1, 1), date(2025, 6, 30))
    end = str(start + timedelta(days=between(rng, 30, 150))) if rng.random() < 0.2 else None
    return (key, name, pick(rng, _COUNTRIES), pick(rng, SUBSCRIPTIONS), str(start), end, moment)


def _artist(rng: Random, key: int, moment: str) -> Row:
    name = pick(rng, _ARTIST_FORMS).format(
        a=pick(rng, _ADJECTIVES), n=pick(rng, _NOUNS), f=pick(rng, _FIRST), l=pick(rng, _LAST)
    )
    return (key, name, pick(rng, GENRES), pick(rng, _COUNTRIES), moment)


def _track(rng: Random, key: int, moment: str) -> Row:
    words = {"a": pick(rng, _ADJECTIVES), "n": pick(rng, _NOUNS), "m": pick(rng, _NOUNS)}
    name = pick(rng, _TRACK_FORMS).format(**words)
    album = f"{pick(rng, _ADJECTIVES)} {pick(rng, _NOUNS)}s"
    drawn = between(rng, 60, 480)
    seconds = _EDGES[key - 1] if key <= len(_EDGES) else drawn
    released = _day(rng, date(1995, 1, 1), date(2025, 11, 30))
    return (key, name, between(rng, 1, ROWS["DimArtist"]), album, seconds, str(released), moment)


def _stream(rng: Random, key: int, moment: str) -> Row:
    user, track = between(rng, 1, ROWS["DimUser"]), between(rng, 1, ROWS["DimTrack"])
    date_key = int(moment[:10].replace("-", ""))
    return (key, user, track, date_key, between(rng, 5, 420), pick(rng, _DEVICES), moment)


MAKERS: Mapping[str, Maker] = {
    "DimUser": _user,
    "DimArtist": _artist,
    "DimTrack": _track,
    "FactStream": _stream,
}
"""A new row of a table from its key and cursor value; DimDate's come from ``calendar_day``."""


def calendar_day(day: date) -> Row:
    """Return DimDate's row of a day."""
    key = int(f"{day:%Y%m%d}")
    return (key, str(day), day.day, day.month, day.year, _WEEKDAYS[day.weekday()])


def initial_rows(name: str) -> Iterator[Row]:
    """Yield the rows that a table begins with, by rising key."""
    if name == "DimDate":
        yield from (calendar_day(date(2025, 1, 1) + timedelta(days=i)) for i in range(365))
        return
    rng = generator(1, name)
    for key in range(1, ROWS[name] + 1):
        # The last four rows fill the last hour, so that a lookback has something to read again.
        left = ROWS[name] - key
        slot = QUARTER_HOURS - 1 - left if left < 4 else between(rng, 0, QUARTER_HOURS - 1)
        yield MAKERS[name](rng, key, str(FIRST_MOMENT + timedelta(minutes=15 * slot)))


def create(path: Path, *, dry_run: bool = False) -> dict[str, int]:
    """Write the sample source in its initial state (step 1), whole or not at all.

    A file that is there is replaced; who has it open goes on reading the old one.

    Args:
        path: the SQLite file to write; its folder is created.
        dry_run: count only, write nothing.

    Returns:
        Rows per table.

    Raises:
        SourceError: the file can't be written.
    """
    rows = {name: list(initial_rows(name)) for name in SCHEMA}
    if not dry_run:
        try:
            _replace(path, rows)
        except OSError as error:
            raise SourceError(
                f"{path}: can't be written: {error.strerror}; name another file with --path"
            ) from error
    return {name: len(of_table) for name, of_table in rows.items()}


def _replace(path: Path, rows: Mapping[str, list[Row]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        beside = Path(folder) / path.name
        _write(beside, rows)
        # A journal that a killed writer left would be rolled back into the new file.
        Path(f"{path}-journal").unlink(missing_ok=True)
        beside.replace(path)


def _write(path: Path, rows: Mapping[str, list[Row]]) -> None:
    with transaction(path) as connection:
        for name, table in SCHEMA.items():
            connection.execute(table.ddl)
            connection.executemany(table.insert(list(table.columns)), rows[name])
        set_step(connection, 1)
