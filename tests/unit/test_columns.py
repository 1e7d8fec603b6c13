"""Columns that are left out, masked, or kept as text: on the whole way from a source to bronze."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from core_harness import World

from tidemark.errors import ConfigError, SourceError
from tidemark.extract import sqlite
from tidemark.extract.columns import select
from tidemark.extract.types import HIDDEN, conformed, record_batch
from tidemark.metadata import Table, load_source
from tidemark.plan import plan_table, render
from tidemark.reconcile import reconcile_table
from tidemark.reconcile.model import Options

KEY = "the-key-of-the-masks"
SECRET = "ada@example.com"  # noqa: S105
DDL = (
    "CREATE TABLE DimUser (user_id INTEGER PRIMARY KEY, email TEXT, note TEXT, amount REAL, "
    "updated_at TIMESTAMP)"
)
T1, T2 = "2026-01-01 00:00:00", "2026-01-02 00:00:00"


def world_of(folder: Path, columns: str, strategy: str = "watermark", ddl: str = DDL) -> World:
    path = folder / "config" / "spotify.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "source: {connection: spotify_sql, mask_connection: masks}\ntables:\n"
        f"  DimUser: {{key: user_id, cursor: updated_at, strategy: {strategy}, columns: {columns}}}"
    )
    world = World(folder, load_source(path).tables["DimUser"])
    world.sql(ddl)
    return world


def run(world: World) -> dict[str, Any]:
    copied = world.copy(mask_key=KEY)
    world.finish(copied)
    return copied


def rows(world: World, copied: dict[str, Any]) -> list[dict[str, Any]]:
    return pq.read_table(Path(world.lake.root) / copied["file"]).to_pylist()


def lake_holds(world: World, word: str) -> bool:
    files = [f for f in Path(world.lake.root).rglob("*") if f.is_file()]
    assert files
    return any(word.encode() in f.read_bytes() for f in files)


def test_an_excluded_column_is_not_even_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(said.append)
        return connection

    world = world_of(tmp_path, "{exclude: [EMAIL]}")
    world.put((1, SECRET, "x", 1.5, T1))
    monkeypatch.setattr(sqlite.sqlite3, "connect", traced)
    (row,) = rows(world, run(world))
    assert [name for name in row if name[0] != "_"] == ["user_id", "note", "amount", "updated_at"]
    assert said
    assert not any("email" in statement for statement in said if "SELECT" in statement)
    assert not lake_holds(world, SECRET)


def test_a_change_of_an_excluded_column_alone_is_no_change(tmp_path: Path) -> None:
    world = world_of(tmp_path, "{exclude: [email]}")
    world.put((1, SECRET, "x", 1.5, T1))
    run(world)
    world.put((1, "other", "x", 1.5, T1))
    assert run(world)["rows"] == 0
    world.put((1, "other", "y", 1.5, T1))
    assert run(world)["rows"] == 1


def test_a_redacted_column_leaves_no_value(tmp_path: Path) -> None:
    world = world_of(tmp_path, "{mask: {email: redact, amount: redact}}")
    world.put((1, SECRET, "x", 1.5, T1), (2, None, "x", None, T1))
    found = rows(world, run(world))
    assert [(r["email"], r["amount"]) for r in found] == [("***", None), (None, None)]
    assert not lake_holds(world, SECRET)
    (plan,) = [plan_table(world.job(mask_key=KEY))]
    assert plan.sql is not None
    assert "CASE WHEN (email IS NOT NULL) THEN '***' END AS email" in plan.sql
    assert "NULL AS amount" in plan.sql


@pytest.mark.parametrize("strategy", ["watermark", "snapshot"])
def test_a_masked_column_joins_and_counts_and_hides(tmp_path: Path, strategy: str) -> None:
    world = world_of(tmp_path, "{mask: {email: hmac, amount: hmac}}", strategy)
    world.put((1, SECRET, "x", 1.5, T1), (2, SECRET, "y", None, T1), (3, "é", "z", 2.0, T1))
    found = rows(world, run(world))
    expected = hmac.new(KEY.encode(), SECRET.encode(), hashlib.sha256).hexdigest()
    assert [r["email"] for r in found][:2] == [expected, expected]
    assert found[2]["email"] == hmac.new(KEY.encode(), "é".encode(), hashlib.sha256).hexdigest()
    assert [len(r["amount"] or "") for r in found] == [64, 0, 64]
    assert not lake_holds(world, SECRET)
    # A change of it is a change; and the digest is not one of the open value.
    assert run(world)["rows"] == 0
    world.put((1, "other@example.com", "x", 1.5, T2))
    changed = run(world)
    assert changed["rows"] == 1
    assert rows(world, changed)[0]["_digest"] != found[0]["_digest"]


def test_a_digest_can_not_be_guessed_from_the_open_value(tmp_path: Path) -> None:
    digests = []
    for name, key in (("a", KEY), ("b", "another key")):
        (tmp_path / name).mkdir()
        world = world_of(tmp_path / name, "{mask: {email: hmac}}")
        world.put((1, SECRET, "x", 1.5, T1))
        digests.append(rows(world, world.copy(mask_key=key))[0]["_digest"])
    assert digests[0] != digests[1]


def test_a_repair_masks_too(tmp_path: Path) -> None:
    world = world_of(tmp_path, "{mask: {email: hmac}, exclude: [note]}")
    world.put((1, SECRET, "x", 1.5, T1), (2, SECRET, "x", 1.5, T1))
    run(world)
    job = world.job(mask_key=KEY)
    assert not any(reconcile_table(job, Options()).counts.values())
    world.sql(f"UPDATE DimUser SET email = '{SECRET}!', updated_at = '2025-01-01'")
    result = reconcile_table(job, Options(repair=True))
    assert sum(result.counts.values()) == 2
    assert not any(reconcile_table(job, Options()).counts.values())
    assert not lake_holds(world, SECRET)


def test_a_column_gets_a_text_beside_it(tmp_path: Path) -> None:
    world = world_of(tmp_path, "{as_text: [amount]}")
    world.put((1, "a", "x", 1.5, T1), (2, "a", "x", None, T1))
    found = rows(world, run(world))
    assert [(r["amount"], r["amount_text"]) for r in found] == [(1.5, "1.5"), (None, None)]
    assert list(found[0])[:6] == ["user_id", "email", "note", "amount", "updated_at", "amount_text"]


def test_a_type_that_the_lake_lacks_is_taken_as_text_or_left_out(tmp_path: Path) -> None:
    ddl = (
        "CREATE TABLE DimUser (user_id INTEGER PRIMARY KEY, place GEOGRAPHY, updated_at TIMESTAMP)"
    )
    for number, columns in enumerate(("{as_text: [place]}", "{exclude: [place]}", "{}")):
        folder = tmp_path / str(number)
        folder.mkdir()
        world = world_of(folder, columns, ddl=ddl)
        world.put((1, "POINT (1 2)", T1))
        if columns == "{}":
            with pytest.raises(Exception, match=r"'place'.*columns.as_text.*columns.exclude"):
                run(world)
            continue
        (row,) = rows(world, run(world))
        assert [n for n in row if n.startswith("place")] == ["place_text"][: number == 0]
        assert row.get("place_text") == ("POINT (1 2)" if number == 0 else None)


def test_plan_says_what_becomes_of_the_columns(tmp_path: Path) -> None:
    columns = "{exclude: [note, amount], mask: {email: hmac}, as_text: [amount]}"
    plan = plan_table(world_of(tmp_path, columns).job(mask_key=KEY))
    assert plan.altered == {
        "note": "left out",
        "amount": "left out, and as text in amount_text",
        "email": "masked by HMAC",
    }
    assert "columns     email: masked by HMAC" in render(plan)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            "{exclude: [e_mail]}",
            "columns.exclude 'e_mail' is not a column of dbo.DimUser; did you ",
        ),
        ("{mask: {mail: redact}}", "columns.mask 'mail' is not a column"),
        ("{as_text: [amont]}", "columns.as_text 'amont' is not a column .*did you mean 'amount'"),
    ],
)
def test_a_misspelt_column_lets_nothing_pass(tmp_path: Path, columns: str, message: str) -> None:
    world = world_of(tmp_path, columns)
    world.put((1, SECRET, "x", 1.5, T1))
    with pytest.raises(ConfigError, match=f"table DimUser: {message}"):
        run(world)
    assert not list(Path(world.lake.root).rglob("*.parquet"))


def test_a_text_beside_may_not_take_the_name_of_another_column(tmp_path: Path) -> None:
    ddl = (
        "CREATE TABLE DimUser (user_id INTEGER PRIMARY KEY, v REAL, V_TEXT TEXT, "
        "updated_at TIMESTAMP)"
    )
    with pytest.raises(ConfigError, match="makes a column 'v_text', and the source has one"):
        run(world_of(tmp_path, "{as_text: [v]}", ddl=ddl))


def test_without_a_key_nothing_is_read(tmp_path: Path) -> None:
    world = world_of(tmp_path, "{mask: {email: hmac}}")
    world.put((1, SECRET, "x", 1.5, T1))
    with pytest.raises(ConfigError, match=r"columns\.mask says hmac, and there is no key"):
        world.copy()


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    world = world_of(tmp_path, "{mask: {email: hmac}}")
    assert KEY not in repr(world.job(mask_key=KEY))


@pytest.mark.parametrize("columns", ["{mask: {email: hmac}}", "{mask: {email: redact}}"])
def test_no_error_shows_a_masked_value(tmp_path: Path, columns: str) -> None:
    world = world_of(tmp_path, columns)
    with world.connect() as connection:
        broken = b"\xff" + SECRET.encode()
        connection.execute(
            "INSERT INTO DimUser VALUES (1, CAST(? AS TEXT), 'x', 1.5, ?)", (broken, T1)
        )
    said = ""
    try:
        run(world)
    except SourceError as error:
        said = str(error)
    assert SECRET not in said
    assert bool(said) == ("hmac" in columns), "what is redacted is not even read"
    assert not lake_holds(world, SECRET)


def test_a_value_of_a_masked_column_is_not_shown_where_it_does_not_fit() -> None:
    hidden = pa.field("email", pa.string(), metadata={HIDDEN: b""})
    for make in (
        lambda: record_batch([[SECRET.encode()]], pa.schema([hidden]), "T"),
        lambda: conformed(
            pa.record_batch({"email": pa.array([b"\xff" + SECRET.encode()])}),
            pa.schema([hidden]),
            "T",
        ),
    ):
        with pytest.raises(SourceError, match="not shown: it is masked") as error:
            make()
        assert SECRET not in str(error.value)


def test_a_wish_that_two_columns_could_mean_is_refused() -> None:
    table = load_source_of("{exclude: [EMAIL]}")
    with pytest.raises(ConfigError, match="'EMAIL' may mean each of Email, email"):
        select(table, {"user_id": "INTEGER", "Email": "TEXT", "email": "TEXT"}, sqlite.arrow_type)


def load_source_of(columns: str) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.yaml"
        path.write_text(
            f"source: {{connection: x}}\ntables:\n  DimUser: {{key: user_id, columns: {columns}}}\n"
        )
        return load_source(path).tables["DimUser"]
