"""The network drops among the rows: nothing is published, and the next read has all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres import server
from postgres_world import PostgresWorld, make_postgres_world
from proxy import Network

from tidemark.errors import SourceUnavailable, is_transient

ROWS = 20_000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as url:
        yield url


def filled(folder: Path, url: str, strategy: str) -> PostgresWorld:
    world = make_postgres_world(folder, url, f"strategy: {strategy}")
    world.sql(
        'INSERT INTO dbo."DimUser" SELECT i, repeat(md5(i::text), 4), '
        f"timestamptz '2026-01-01 UTC' + i * interval '1 second' FROM generate_series(1, {ROWS}) i"
    )
    return world


@pytest.mark.parametrize("strategy", ["watermark", "snapshot"])
@pytest.mark.parametrize("cut_after", [20_000, 1_000_000])
def test_a_read_that_loses_its_connection_is_tried_again(
    tmp_path: Path, url: str, strategy: str, cut_after: int
) -> None:
    world = filled(tmp_path, url, strategy)
    parsed = sa.make_url(url)
    assert parsed.port is not None
    with Network(parsed.port, cut_after).up() as network:
        through = parsed.set(port=network.port).render_as_string(hide_password=False)
        with pytest.raises(SourceUnavailable, match=r"(?s)DimUser.*tried again") as error:
            world.copy(url=through)
    assert network.dropped == 1
    assert is_transient(error.value)
    assert "not-asked" not in str(error.value)
    assert world.published == []
    assert world.state.cdc is None
    assert world.run()["rows"] == ROWS
    assert len(world.replay()) == ROWS
    assert world.hidden == []
