"""`tidemark init`: what it writes of a real catalog, and that what it wrote loads and plans."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from core_harness import FAST, SOAK
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis_folder import folder

from tidemark.cli import main
from tidemark.init.adf import read_list, without_trailing_commas
from tidemark.init.command import _name
from tidemark.init.cursors import candidates
from tidemark.init.draft import draft_of, lake_names
from tidemark.init.facts import Column, TableFacts
from tidemark.init.text import render, scalar
from tidemark.metadata import load_all, load_source
from tidemark.metadata.yaml_file import read_yaml
from tidemark.sample import create

ADF = """[
{"schema" : "dbo", "table" : "DimUser", "cdc_collunm" : "updated_at", "fromdate" : ""},
{"schema" : "dbo", "table" : "dimartist", "cdc_collunm" : "Updated_At", "fromdate" : "2025-06-01"},
{"schema" : "dbo", "table" : "DimDate", "cdc_collunm" : "updated_at", "fromdate" : ""},
{"schema" : "dbo", "table" : "DimTrak", "cdc_collunm" : "updated_at", "fromdate" : ""},
{"schema" : "dbo", "table" : "FactStream", "cdc_collunm" : "stream_timestam", "fromdate" : ""},
]"""
AT = Column("updated_at", "datetime2(7)", "timestamp", indexed=True)
ID = Column("id", "int", "integer")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home with the sample as its source, and no metadata."""
    create(tmp_path / "source.db")
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "source.db")}
    monkeypatch.setenv("AIRFLOW_CONN_SPOTIFY_SQL", json.dumps(connection))
    monkeypatch.setenv("TIDEMARK_HOME", str(tmp_path))
    monkeypatch.setenv("TIDEMARK_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TIDEMARK_LAKE", raising=False)
    return tmp_path


def sql(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "source.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def init(*words: str) -> int:
    return main(["init", "spotify_sql", *words])


def text(home: Path, name: str = "spotify") -> str:
    """Read the config as one line, so that it does not matter where a comment is broken."""
    lines = (home / "config" / f"{name}.yaml").read_text().splitlines()
    return " ".join(word for line in lines for word in line.strip().removeprefix("#").split())


# --- from the catalog


def test_the_samples_config_loads_and_plans(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init() == 0
    assert "5 tables, 3 by watermark, 2 by snapshot" in capsys.readouterr().out
    tables = load_source(home / "config" / "spotify.yaml").tables
    assert {name: (t.key, t.strategy, t.cursor) for name, t in tables.items()} == {
        "DimArtist": (("artist_id",), "watermark", "updated_at"),
        "DimDate": (("date_key",), "snapshot", None),
        "DimTrack": (("track_id",), "watermark", "updated_at"),
        "DimUser": (("user_id",), "watermark", "updated_at"),
        "FactStream": (("stream_id",), "snapshot", None),
    }
    assert "cursor: stream_timestamp" in text(home), "a candidate, for the user to judge"
    assert main(["validate"]) == 0
    assert main(["plan", "spotify"]) == 0
    assert "500 now, of 500" in capsys.readouterr().out


def test_a_file_that_is_there_stays_as_it_is(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "config" / "spotify.yml"
    path.parent.mkdir()
    path.write_text("mine")
    assert init() == 1
    assert "--dry-run" in capsys.readouterr().err
    assert [p.name for p in path.parent.iterdir()] == ["spotify.yml"]
    assert path.read_text() == "mine"


def test_a_dry_run_prints_the_file_and_writes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql(home, "CREATE TABLE Log (message TEXT)")
    before = sorted(home.rglob("*"))
    assert init("--dry-run") == 0
    assert sorted(home.rglob("*")) == before
    printed = capsys.readouterr()
    assert init() == 0
    assert (home / "config" / "spotify.yaml").read_text() == printed.out
    assert "Log is left out" in printed.err


def test_what_can_not_be_ingested_is_a_comment_with_the_reason(home: Path) -> None:
    sql(
        home,
        "CREATE TABLE Log (at TIMESTAMP, message TEXT)",
        "CREATE TABLE Maybe (code TEXT UNIQUE, n INTEGER)",
        "CREATE TABLE Half (code TEXT NOT NULL, n INTEGER)",
        "CREATE UNIQUE INDEX half_code ON Half (code) WHERE n > 0",
        "CREATE TABLE Shape (place GEOGRAPHY PRIMARY KEY, id INTEGER)",
        'CREATE TABLE Spaced (id INTEGER PRIMARY KEY, "unit price" TEXT)',
    )
    assert init() == 0
    tables = load_source(home / "config" / "spotify.yaml").tables
    assert not {"Log", "Maybe", "Half", "Shape", "Spaced"} & set(tables)
    told = text(home)
    assert 'Log: key: "?" # its columns: at, message' in told
    for name in ("Log", "Maybe", "Half"):
        assert f"table {name} is left out: it has neither a primary key" in told
    assert "Shape is left out: its key holds place, of a type that the lake can't hold" in told
    assert "'unit price' has a character that Delta takes in no column's name" in told


def test_a_unique_constraint_of_not_null_columns_is_a_key(home: Path) -> None:
    sql(
        home,
        "CREATE TABLE Line (a INT NOT NULL, b INT NOT NULL, c INT NOT NULL, d TEXT UNIQUE, "
        "UNIQUE (a, b, c), UNIQUE (b, a))",
        "CREATE TABLE Code (code TEXT NOT NULL)",
        "CREATE UNIQUE INDEX code_once ON Code (code)",
    )
    assert init("--table", "Line", "--table", "Code") == 0
    tables = load_source(home / "config" / "spotify.yaml").tables
    assert {name: t.key for name, t in tables.items()} == {"Line": ("b", "a"), "Code": ("code",)}


def test_a_column_that_loses_something_is_named(home: Path) -> None:
    sql(home, "CREATE TABLE Price (id INTEGER PRIMARY KEY, amount NUMERIC)")
    assert init("--table", "Price") == 0
    assert "amount loses something in the lake: NUMERIC has no precision" in text(home)


def test_a_column_of_no_type_of_the_lakes_is_taken_as_text(home: Path) -> None:
    sql(home, 'CREATE TABLE Shape (id INTEGER PRIMARY KEY, place GEOGRAPHY, "on" HIERARCHYID)')
    assert init("--table", "Shape") == 0
    table = load_source(home / "config" / "spotify.yaml").tables["Shape"]
    assert table.columns.as_text == ("place", "on")
    assert "GEOGRAPHY, HIERARCHYID: no type of the lake's" in text(home)
    assert main(["plan", "spotify"]) == 0


def test_views_are_taken_when_asked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql(home, "CREATE VIEW Users AS SELECT * FROM DimUser")
    assert init("--dry-run") == 0
    assert "Users" not in capsys.readouterr().out
    assert init("--views") == 0
    assert "view Users is left out: a view has no key in the catalog" in text(home)


def test_nothing_to_ingest_is_an_error_and_no_file(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql(home, "CREATE TABLE Log (message TEXT)")
    assert init("--table", "Log") == 1
    error = capsys.readouterr().err
    assert "Log is left out: it has neither" in error
    assert "no table can be ingested as it is" in error
    assert not (home / "config").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--table", "DimUsr"], "no table 'DimUsr'; did you mean 'DimUser'?"),
        (["--name", "a b"], "'a b' is to be a Dag's id"),
        (["--schema", " "], "schema ' ': Value error, which is empty"),
        (["--from-adf", "nowhere.json"], "nowhere.json: can't be read"),
    ],
)
@pytest.mark.usefixtures("home")
def test_what_can_not_be_is_explained(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(*words) == 1
    assert said in capsys.readouterr().err


def test_an_empty_database_is_explained(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "source.db").write_bytes(b"")
    assert init() == 1
    assert "schema 'dbo' holds no table" in capsys.readouterr().err
    (home / "source.db").write_bytes(b"no database" * 100)
    assert init() == 1
    assert "connection spotify_sql: the database refuses" in capsys.readouterr().err


def test_a_second_config_takes_no_folder_of_the_first(home: Path) -> None:
    assert init("--table", "DimUser") == 0
    assert init("--name", "more") == 0
    assert all(not isinstance(s, Exception) for s in load_all(home / "config").values())
    tables = load_source(home / "config" / "more.yaml").tables
    assert tables["DimUser"].lake_name == "more_DimUser"
    assert tables["DimTrack"].lake_name == "DimTrack"


@pytest.mark.parametrize(
    ("connection", "name"),
    [("spotify_sql", "spotify"), ("shop-db", "shop-db"), ("shop_db", "shop"), ("_sql", "_sql")],
)
def test_the_file_is_named_after_the_connection(connection: str, name: str) -> None:
    assert _name(connection) == name


# --- from ADF's list


def test_adfs_list_becomes_a_config_and_what_does_not_exist_is_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "loop.json").write_text(ADF)
    assert init("--from-adf", str(home / "loop.json")) == 0
    told = capsys.readouterr().err
    assert "loop.json: a trailing comma in line 6, which is no JSON, was passed over" in told
    assert (
        "DimTrak: schema 'dbo' has no such table; it is left out; did you mean 'DimTrack'?" in told
    )
    assert "'dimartist' is written 'DimArtist' in the catalog" in told
    assert "DimDate: cdc_collunm 'updated_at' is no column of dbo.DimDate (date_key," in told
    assert "did you mean 'stream_timestamp'?; it gets snapshot" in told
    tables = load_source(home / "config" / "spotify.yaml").tables
    assert {name: (t.strategy, t.cursor) for name, t in tables.items()} == {
        "DimUser": ("watermark", "updated_at"),
        "DimArtist": ("watermark", "updated_at"),
        "DimDate": ("snapshot", None),
        "FactStream": ("snapshot", None),
    }
    assert "ADF's fromdate was 2025-06-01" in text(home)
    assert main(["plan", "spotify"]) == 0


def test_two_schemas_of_adfs_list_share_a_file(home: Path) -> None:
    entry = {"table": "DimUser", "cdc_collunm": "", "fromdate": ""}
    listed = [entry | {"schema": s, "table": t} for s, t in (
        ("dbo", "DimUser"), ("dbo", "DimTrack"), ("sales", "DimDate"), ("sales", "DimUser"),
    )]  # fmt: skip
    (home / "loop.json").write_text(json.dumps(listed))
    assert init("--from-adf", str(home / "loop.json")) == 0
    tables = load_source(home / "config" / "spotify.yaml").tables
    assert {name: t.schema_ for name, t in tables.items()} == {
        "DimUser": "dbo", "DimTrack": "dbo", "DimDate": "sales",
    }  # fmt: skip
    assert main(["plan", "spotify"]) == 0


@pytest.mark.parametrize(
    ("given", "read", "lines"),
    [
        ("[1, 2,\n]", "[1, 2\n]", [1]),
        ('[{"a": "x,]"\n,},]', '[{"a": "x,]"\n}]', [2, 2]),
        ('["\\",]", 1 , ]', '["\\",]", 1  ]', [1]),
        ("[,]", "[,]", []),
        ("[1,,]", "[1,,]", []),
        ('{"a":,}', '{"a":,}', []),
    ],
)  # fmt: skip
def test_only_a_trailing_comma_is_taken_out(given: str, read: str, lines: list[int]) -> None:
    assert without_trailing_commas(given) == (read, lines)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(',]}[{"\\ a', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(',]}"', max_size=3), inner),
    max_leaves=8,
)


@given(json_values, st.sampled_from([None, 1]))
def test_json_without_a_trailing_comma_is_read_as_it_stands(value: Any, indent: int | None) -> None:
    strict = json.dumps(value, indent=indent)
    assert without_trailing_commas(strict) == (strict, [])


@given(st.lists(json_values, min_size=1, max_size=4))
def test_json_with_a_trailing_comma_is_read_as_without(values: list[Any]) -> None:
    loose = json.dumps(values)[:-1] + " ,\n]"
    found, lines = without_trailing_commas(loose)
    assert json.loads(found) == values
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ('{"table": "T"}', "is no list of tables"),
        ("[1]", "entry 1 is no object"),
        ('[{"schema": "dbo"}]', "entry 1: 'table' is no text"),
        ('[{"table": "T", "fromdat": ""}]', "'fromdat' is unknown; did you mean 'fromdate'?"),
        ('[{"table": "T", "schema": null}]', "'schema' is no text"),
        ("[", "is no JSON"),
    ],
)
def test_a_list_that_is_none_is_explained(tmp_path: Path, listed: str, said: str) -> None:
    path = tmp_path / "loop.json"
    path.write_text(listed)
    with pytest.raises(Exception, match=r"loop\.json") as raised:
        read_list(path)
    assert said in str(raised.value)


# --- decisions


@pytest.mark.parametrize(
    ("names", "sure"),
    [
        (["created_at", "updated_at"], ["updated_at"]),
        (["LastModifiedDate", "CreatedDate"], ["LastModifiedDate"]),
        (["sys_changed_on"], ["sys_changed_on"]),
        (["order_updated_at"], ["order_updated_at"]),  # the table's own name
        (["password_changed_at", "price_updated"], []),
        (["updated_by", "update_count", "modified_reason"], []),
        (["ordered_at", "valid_from"], []),
    ],
)
def test_a_name_is_taken_at_its_word(names: list[str], sure: list[str]) -> None:
    columns = tuple(Column(name, "datetime", "timestamp") for name in names)
    found = candidates(TableFacts("dbo", "Order", columns))
    assert [column.name for column in found.sure] == sure
    assert [column.name for column in found.perhaps] == [n for n in names if n not in sure]


def test_the_best_candidate_is_exact_not_null_and_indexed() -> None:
    columns = (
        Column("modified_date", "date", "date", indexed=True),
        Column("changed_at", "datetime", "timestamp", nullable=True, indexed=True),
        Column("updated_at", "datetime", "timestamp"),
        Column("modified_at", "datetime", "timestamp", indexed=True),
        Column("edited_at", "nvarchar(50)", None),
    )
    found = candidates(TableFacts("dbo", "T", columns))
    assert [c.name for c in found.sure] == [
        "modified_at", "updated_at", "changed_at", "modified_date",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("offers", "columns", "strategy", "cursor"),
    [
        (("cdc", "change_tracking", "rowversion"), (ID, AT), "cdc", "updated_at"),
        (("change_tracking",), (ID,), "change_tracking", None),
        (("rowversion",), (ID,), "rowversion", None),
        ((), (ID, AT), "watermark", "updated_at"),
        ((), (ID,), "snapshot", None),
    ],
)
def test_the_best_strategy_that_table_and_login_allow(
    tmp_path: Path, offers: Any, columns: Any, strategy: str, cursor: str | None
) -> None:
    # SQL Server's answers, simulated: no server is asked.
    facts = TableFacts("dbo", "T", columns, ("id",), offers=offers)
    table = loaded(tmp_path, [facts])["T"]
    assert (table.strategy, table.cursor) == (strategy, cursor)


def test_what_the_database_records_and_can_not_be_used_is_said(tmp_path: Path) -> None:
    why = {"cdc": "of computed columns (total) it records NULL"}
    facts = TableFacts("dbo", "T", (ID,), ("id",), passed_over=why)
    assert loaded(tmp_path, [facts])["T"].strategy == "snapshot"
    assert "cdc is on for it, and can't be used: of computed" in written(tmp_path, [facts])


# --- names


def written(folder: Path, facts: Sequence[TableFacts]) -> str:
    drafts = lake_names([draft_of(f) for f in facts], folder / "shop.yaml", [])
    return render("shop_sql", "shop", facts[0].schema, list(drafts))


def loaded(folder: Path, facts: Sequence[TableFacts]) -> dict[str, Any]:
    path = folder / "shop.yaml"
    path.write_text(written(folder, facts), encoding="utf-8")
    return load_source(path).tables


ODD = ["on", "Yes", "null", "~", "1e3", "0x1F", "1_000", "1:30", "2025-01-01", ".inf", "<<", "="]
SIGNS = ["-", "?", "#a", "'", '"', "\\", "[a]", "{a}", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a"]
NAMES = st.sampled_from(
    [
        *ODD,
        *SIGNS,
        "é",
        "😀",
        "silver",
        "a: b",
        "a #b",
        "? a",
        "- a",
        "a\nb",
        "a\tb",
        "a\u2028b",
        "\u0085",
        "\ufeffa",
        "\x7f",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | NAMES)
def test_any_text_is_read_as_it_was_written(name: str) -> None:
    with folder(FAST) as here:
        path = here / "x.yaml"
        name_in_yaml = scalar(name)
        path.write_text(f"{name_in_yaml}: [{name_in_yaml}, {name_in_yaml}]\n", encoding="utf-8")
        document = read_yaml(path)
    assert document.data == {name: [name, name]}
    assert not document.problems


@settings(max_examples=1_000 if SOAK else 100)
@given(
    st.lists(
        st.tuples(NAMES, NAMES, NAMES, NAMES), min_size=1, max_size=4, unique_by=lambda t: t[0]
    )
)
def test_any_names_of_tables_and_columns_come_back(names: list[tuple[str, str, str, str]]) -> None:
    facts = []
    for table, schema, one, two in names:
        columns = (Column(one, two, "timestamp"), Column(f"{two}x", one))
        key = tuple(dict.fromkeys([one, f"{two}x"]))
        facts.append(TableFacts(schema, table, columns, key, cuts={one: two, two: one}))
        facts.append(TableFacts(schema, f"{table}-", columns, is_view=True))
        facts.append(TableFacts(schema, f"{table}+", columns, refused=f"{one} {two}"))
    blank = {f.name for f in facts if not f.name.strip()}
    good = [f for f in facts if f.primary_key and f.name not in blank]
    assume(good and all(t.strip() for f in facts for t in (f.schema, *f.primary_key)))
    assume(len({f.name for f in facts}) == len(facts))
    with folder(FAST) as here:
        tables = loaded(here, facts)
    assert {n: (t.schema_, t.key) for n, t in tables.items()} == {
        f.name: (f.schema, f.primary_key) for f in good
    }
    lake = [table.lake_name.casefold() for table in tables.values()]
    assert len(set(lake)) == len(lake)


def test_odd_names_of_a_real_database_load_and_plan(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [
        "on",
        "1e3",
        'say "it\'s": so',
        "#1",
        "null",
        "a.b",
        "dim-user",
        "DIM-USER2",
        "öäü",
        "gold",
    ]
    for name in odd:
        quoted = name.replace('"', '""')
        columns = '"on" INTEGER, "1e3" TEXT, "Zeile: #" TEXT, "updated_at" TIMESTAMP'
        columns = columns.replace(" #", "#")
        sql(home, f'CREATE TABLE "{quoted}" ({columns}, PRIMARY KEY ("on", "1e3"))')
    assert init() == 0
    tables = load_source(home / "config" / "spotify.yaml").tables
    assert set(odd) <= set(tables)
    assert tables["on"].key == ("on", "1e3")
    capsys.readouterr()
    assert main(["plan", "spotify"]) == 0
