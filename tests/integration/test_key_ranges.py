"""An initial load in ranges on a real PostgreSQL: by each type of key, beside a writer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from postgres import server
from postgres_world import PostgresWorld, make_postgres_world

from tidemark import initial_load

# By type, nine values; the last is the one before it again.
KEYS = {
    "int": "{n} - 4",
    "bigint": "{n} * 1000000000000",
    "numeric(18,4)": "{n} * 1.5 - 4",
    "numeric": "{n} / 3.0",
    "varchar(20)": "chr(97 + {n}) || '''%(x)s:' || chr(97 - {n})",
    "char(9)": "chr(228 + {n})",
    "uuid": "('{n}F9619FF-8B86-D011-B42D-00C04FC964FF')::uuid",
    "date": "date '2026-01-01' + {n}",
    "timestamp": "timestamp '2026-01-01 10:00' + {n} * interval '1 microsecond'",
    "timestamptz": "timestamptz '2026-01-01 10:00+02' + {n} * interval '1 hour'",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as address:
        yield address


@pytest.mark.parametrize("declared", KEYS)
def test_the_ranges_hold_every_row_and_none_twice(tmp_path: Path, url: str, declared: str) -> None:
    ddl = f'CREATE TABLE dbo."DimUser" (user_id int PRIMARY KEY, k {declared}, updated_at {{type}})'
    fields = "key: [k, user_id], strategy: watermark, initial_ranges: 3"
    world = make_postgres_world(tmp_path, url, fields, ddl)
    for number in range(9):
        value = KEYS[declared].replace("{n}", str(min(number, 7)))
        world.sql(f'INSERT INTO dbo."DimUser" SELECT {number}, {value}, now()')
    world.sql('INSERT INTO dbo."DimUser" VALUES (9, NULL, now())')
    missing = initial_load.missing_ranges(world.job())
    assert len(missing) == 3
    for number in reversed(missing):
        assert initial_load.copy_range(world.job(), number)["rows"] > 0
    initial_load.finish(world.job())
    assert sorted(row["user_id"] for row in world.bronze()) == list(range(10))
    assert world.run()["rows"] == 0


def test_ranges_that_are_read_side_by_side_beside_a_writer_lose_nothing(
    tmp_path: Path, url: str
) -> None:
    world = make_postgres_world(tmp_path, url, "strategy: watermark, initial_ranges: 6")
    world.sql(
        "INSERT INTO dbo.\"DimUser\" SELECT n, 'old', now() - interval '1 day' "
        "FROM generate_series(1, 20000) AS n"
    )
    done = threading.Event()
    writer = threading.Thread(target=_write, args=(world, done))
    missing = initial_load.missing_ranges(world.job())
    writer.start()
    with ThreadPoolExecutor(3) as pool:
        copied = list(pool.map(lambda n: initial_load.copy_range(world.job(), n), missing))
    done.set()
    writer.join()
    assert len([c for c in copied if c["rows"]]) == 6
    assert initial_load.finish(world.job())["ranges"] == 6
    world.run()
    lake = {key: (row["user_name"], row["updated_at"]) for (key,), row in world.replay().items()}
    assert lake == {key: (name, moment) for key, name, moment in world.rows()}
    assert world.hidden == []


def _write(world: PostgresWorld, done: threading.Event) -> None:
    number = 0
    with world.client() as connection:
        while not done.is_set():
            number += 1
            connection.execute(
                'UPDATE dbo."DimUser" SET user_name = %s, updated_at = clock_timestamp() '
                "WHERE user_id %% 977 = %s",
                (f"changed {number}", number % 977),
            )
            connection.execute(
                'INSERT INTO dbo."DimUser" VALUES (%s, %s, clock_timestamp())', (-number, "new")
            )
            connection.commit()
