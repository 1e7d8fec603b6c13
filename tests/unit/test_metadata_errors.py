"""Each mistake in a metadata file is one line: file, table, field, value, and what was meant."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel

from tidemark.errors import ConfigError
from tidemark.metadata import load_source
from tidemark.metadata.problems import field_names
from tidemark.metadata.source import Alerts, Endpoint, Source, TaskPolicy
from tidemark.metadata.table import Defaults, Gold, Table

SOURCE = "source: {connection: spotify_sql}\n"
USER = "tables: {DimUser: {key: user_id, cursor: updated_at}}\n"


def write(folder: Path, text: str, name: str = "spotify.yaml") -> Path:
    path = folder / "config" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(folder: Path, text: str) -> Source:
    return load_source(write(folder, text))


def problems(folder: Path, text: str) -> list[str]:
    """Return the lines of the error, each of which must begin with the file's name."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_source(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def table(fields: str) -> str:
    return f"{SOURCE}tables:\n  DimUser: {{key: user_id, cursor: updated_at, {fields}}}\n"


GOLD = "gold: {scd: 2"
BAD_TABLES = [
    ("cursr: x", "field 'cursr' is unknown; did you mean 'cursor'? (allowed: schema, lake_name,"),
    ("name: x", "field 'name' is unknown"),
    ("schema_: x", "field 'schema_' is unknown; did you mean 'schema'?"),
    (f"{GOLD}, trak: [x]}}", "field 'gold.trak' is unknown; did you mean 'track'?"),
    ("schema: 5", "field 'schema' is 5 (a whole number), but must be text: put it in quotes"),
    ("schema: no", "field 'schema' is false (a boolean), but must be text: put it in quotes"),
    ("schema: 2025-01-01", "field 'schema' is 2025-01-01 (a date), but must be text"),
    ("schema: ' '", "field 'schema' is ' ', which is empty"),
    ("rule: [x]", "field 'rule' is ['x'] (a list), but must be text"),
    ("lookback: 1 hour", "field 'lookback' is '1 hour', which is no duration; write a number and"),
    ("lookback: -1h", "field 'lookback' is '-1h', which is no duration"),
    ("lookback: -5", "field 'lookback' is -5, which is negative"),
    ("lookback: true", "field 'lookback' is true, which is no duration"),
    ("lookback: 1:30", "field 'lookback' is '1:30', which is no duration"),
    ("clock_lag: 60", "field 'clock_lag' is 60, which is no duration"),
    ("clock_lag: 99999999999d", "field 'clock_lag' is '99999999999d', which is too long"),
    ("future: hodl", "field 'future' is 'hodl', which is not allowed; did you mean 'hold'?"),
    ("strategy: change_trackin", ("field 'strategy' is 'change_trackin', which is not allowed; did "
     "you mean 'change_tracking'? (allowed: watermark, snapshot, rowversion, ")),
    ("cursor_timezone: Europe/Belin", ("field 'cursor_timezone' is 'Europe/Belin', which is no "
     "IANA time zone; did you mean 'Europe/Berlin'?")),
    ("cursor_timezone: Europe", "field 'cursor_timezone' is 'Europe', which is no IANA time zone"),
    ("lake_name: Dim-User", "field 'lake_name' is 'Dim-User', which is no folder name"),
    ("lake_name: _DimUser", "field 'lake_name' is '_DimUser', which is no folder name"),
    ("columns: {exclud: [x]}", "field 'columns.exclud' is unknown; did you mean 'exclude'?"),
    ("columns: {mask: {email: hmca}}", ("field 'columns.mask.email' is 'hmca', which is not "
     "allowed; did you mean 'hmac'? (allowed: redact, hmac)")),
    ("columns: {exclude: [A], mask: {a: redact}}", ("field 'columns.mask' is {'a': "
     "'redact'}, but 'a' is not even read")),
    ("columns: {mask: {a: redact}, as_text: [a]}", "field 'columns.as_text' is ['a'], which would"),
    ("columns: {exclude: [USER_ID]}", ("field 'columns' is {'exclude': ['USER_ID']}, but 'user_id' "
     "is its key")),
    ("columns: {mask: {updated_at: redact}}", ("field 'columns' is {'mask': {'updated_at': "
     "'redact'}}, but 'updated_at' is its cursor")),
    ("gold: 2", "field 'gold' is 2 (a whole number), but must be a mapping"),
    ("gold: {}", "field 'gold.scd' is missing: write 1 to keep the current rows only"),
    ("gold: {scd: 3}", "field 'gold.scd' is 3, which is not allowed (allowed: 1, 2)"),
    ("gold: {scd: true}", "field 'gold.scd' is true, which is not allowed (allowed: 1, 2)"),
    ("gold: {scd: 2.0}", "field 'gold.scd' is 2.0, which is not allowed (allowed: 1, 2)"),
    ("gold: {scd: '2'}", "field 'gold.scd' is '2', which is not allowed; write 2 without quotes"),
    ("gold: {scd: 1, track: [x]}", "field 'gold.track' is ['x'], which needs history; write scd"),
    (f"{GOLD}, track: x}}", "field 'gold.track' is 'x' (text), but must be a list such as [a, b]"),
    (f"{GOLD}, name: dim user}}", "field 'gold.name' is 'dim user', which is no folder name"),
    (f"{GOLD}, track: [note, x]}}, columns: {{exclude: [NOTE]}}", (
     "field 'columns' is {'exclude': ['NOTE']}, but gold.track names 'note', which must then be")),
    (f"{GOLD}, expect: {{a: length(note) > 1}}}}, columns: {{exclude: [note]}}", (
     "field 'columns' is {'exclude': ['note']}, but gold.expect.a names 'note', which must then")),
    (f"{GOLD}, expect_or_fail: {{a: \"`a``b` > 1\"}}}}, columns: {{exclude: ['a`b']}}", (
     "field 'columns' is {'exclude': ['a`b']}, but gold.expect_or_fail.a names 'a`b', which")),
    (f"{GOLD}, expect_or_drop: [x]}}", "field 'gold.expect_or_drop' is ['x'] (a list), but must"),
    (f"{GOLD}, expect_or_drop: {{a: ''}}}}", "field 'gold.expect_or_drop.a' is '', which is empty"),
    (f"{GOLD}, expect_or_drop: {{a: 5}}}}", "field 'gold.expect_or_drop.a' is 5 (a whole number)"),
    (f"{GOLD}, expect: {{a: x}}, expect_or_fail: {{b: x, a: y}}}}", (
     "field 'gold.expect_or_fail' is {'b': 'x', 'a': 'y'}, but 'expect' has a 'a' too; give one")),
    (f"{GOLD}, expect_or_drop: {{a: x}}, expect: {{a: x}}}}", (
     "field 'gold.expect_or_drop' is {'a': 'x'}, but 'expect' has a 'a' too; give one another")),
    (f"{GOLD}, expect_or_drop: {{a: x}}, expect_or_fail: {{a: x}}}}", (
     "field 'gold.expect_or_fail' is {'a': 'x'}, but 'expect_or_drop' has a 'a' too")),
    (f"{GOLD}, expect_or_drop: {{a: x, b: 'y < Current_Date'}}}}", (
     "field 'gold.expect_or_drop' is {'a': 'x', 'b': 'y < Current_Date'}, but 'Current_Date'")),
    (f"{GOLD}, expect_or_drop: {{a: \"x < timestamp 'Now'\"}}}}", (
     "field 'gold.expect_or_drop' is {'a': \"x < timestamp 'Now'\"}, but 'Now' in 'a' may say")),
    (f"{GOLD}, expect_or_drop: {{a: \"y='it\\\\'s' OR x < current_time\"}}}}", (
     "field 'gold.expect_or_drop' is {'a': \"y='it\\\\'s' OR x < current_time\"}, but ")),
    (f"{GOLD}, expect_or_drop: {{a: x > rand (1)}}}}", (
     "field 'gold.expect_or_drop' is {'a': 'x > rand (1)'}, but 'rand' in 'a' may say otherwise")),
    (f"{GOLD}, expect_or_drop: {{a: y > unix_timestamp( )}}}}", (
     "field 'gold.expect_or_drop' is {'a': 'y > unix_timestamp( )'}, but 'unix_timestamp' in 'a'")),
    (f"{GOLD}, expect_or_drop: {{a: }}}}", "field 'gold.expect_or_drop.a' is null, but must be"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), BAD_TABLES, ids=[f for f, _ in BAD_TABLES])
def test_a_mistake_in_a_table_is_one_line(tmp_path: Path, fields: str, message: str) -> None:
    (line,) = problems(tmp_path, table(fields))
    assert line.startswith(f"table DimUser: {message}")
    assert line.endswith("(line 3)")


BAD_FILES = [
    (USER, "field 'source' is missing: write source: {connection: <Airflow connection>}"),
    (SOURCE, "field 'tables' is missing: name the tables to ingest"),
    (SOURCE + "tables:\n", "field 'tables' is null, but must be a mapping"),
    (SOURCE + "tables: {}\n", "field 'tables' is {}, but "),
    (SOURCE + "tables: [DimUser]\n", "field 'tables' is ['DimUser'] (a list), but must be a map"),
    (SOURCE + "tables: {DimUser: {cursor: a}}", "table DimUser: field 'key' is missing: name the"),
    (SOURCE + "tables: {DimUser: {key: a, strategy: watermark}}",
     ("table DimUser: field 'cursor' is missing: strategy "
     "watermark needs the column that moves with each change; give it here or under 'defaults'")),
    (SOURCE + "tables: {DimUser: {key: [], cursor: a}}", "table DimUser: field 'key' is [], which"),
    (SOURCE + "tables: {DimUser: {key: [a, a], cursor: a}}", "table DimUser: field 'key' is ['a',"),
    (SOURCE + "tables: {DimUser: {key: 5, cursor: a}}", "table DimUser: field 'key' is 5 (a whole"),
    (SOURCE + "tables: {DimUser: x}", "table DimUser: is 'x' (text), but must be a mapping"),
    (SOURCE + "tables: {Dim User: {key: a, cursor: b}}", ("table Dim User: field 'lake_name' is "
     "'Dim User', which is no folder name; use A-Z, a-z, 0-9 and _")),
    (SOURCE + "shedule: '@daily'\n" + USER, "field 'shedule' is unknown; did you mean 'schedule'?"),
    (SOURCE + "schedule: '@dialy'\n" + USER, ("field 'schedule' is '@dialy', which is no preset; "
     "did you mean '@daily'?")),
    (SOURCE + "schedule: '* * *'\n" + USER, "field 'schedule' is '* * *', which has 3 cron fields"),
    (SOURCE + "schedule: '0 24 * * *'\n" + USER, ("field 'schedule' is '0 24 * * *', whose hour "
     "'24' is no cron field from 0 to 23")),
    (SOURCE + "schedule: '*/0 * * * *'\n" + USER, "field 'schedule' is '*/0 * * * *', whose minu"),
    (SOURCE + "schedule: '5-1 * * * *'\n" + USER, "field 'schedule' is '5-1 * * * *', whose minu"),
    (SOURCE + "schedule: '1-2-3 * * * *'\n" + USER, "field 'schedule' is '1-2-3 * * * *', whose "),
    (SOURCE + "schedule: 5\n" + USER, "field 'schedule' is 5 (a whole number), but must be text"),
    (SOURCE + "start_date: 2025-02-30\n" + USER, ("field 'start_date' is '2025-02-30' (text), but "
     "must be a date")),
    (SOURCE + "start_date: 2025-02-01 00:00:00\n" + USER, "field 'start_date' is 2025-02-01 00:00"),
    (SOURCE + "compute: databriks\n" + USER, "field 'compute' is 'databriks', which is not allowe"),
    (SOURCE + "tags: music\n" + USER, "field 'tags' is 'music' (text), but must be a list"),
    (SOURCE + "tasks: {retries: '5'}\n" + USER, ("field 'tasks.retries' is '5' (text), but must be "
     "a whole number")),
    (SOURCE + "tasks: {retries: true}\n" + USER, "field 'tasks.retries' is true (a boolean), but"),
    (SOURCE + "tasks: {retries: -1}\n" + USER, "field 'tasks.retries' is -1, but should be"),
    (SOURCE + "tasks: {timeout: 0s}\n" + USER, "field 'tasks.timeout' is '0s', which leaves no"),
    (SOURCE + "tasks: {retry_delay: -5m}\n" + USER, "field 'tasks.retry_delay' is '-5m', which is"),
    (SOURCE + "alerts: {to: [data.example.com]}\n" + USER, ("field 'alerts.to[0]' is "
     "'data.example.com', which is no mail address")),
    (SOURCE + "alerts: {events: [failure, sucess]}\n" + USER, ("field 'alerts.events[1]' is "
     "'sucess', which is not allowed; did you mean 'success'? (allowed: failure, recovery, succ")),
    (SOURCE + "defaults: {key: a}\n" + USER, "field 'defaults.key' is unknown (allowed: schema, "),
    (SOURCE + "defaults: [a]\n" + USER, "field 'defaults' is ['a'] (a list), but must be a mapp"),
    ("source: spotify_sql\n" + USER, "field 'source' is 'spotify_sql' (text), but must be a mappi"),
    ("source: {}\n" + USER, "field 'source.connection' is missing: name an Airflow connection"),
    ("- a\n", "must be a mapping with at least 'source' and 'tables'"),
    ("", "is empty"),
    ("# nothing\n", "is empty"),
    (SOURCE + "tables: {DimUser: [}\n", "line 2: is no YAML: "),
    (SOURCE + "---\n" + USER, "line 2: is no YAML: "),
    (SOURCE + "tags: !!python/name:os.system\n" + USER, "line 2: is no YAML: could not determine"),
    (SOURCE + "tags: \x07\n" + USER, "is no YAML: "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (line,) = problems(tmp_path, text)
    assert line.startswith(message)


def test_a_duplicate_table_names_both_lines(tmp_path: Path) -> None:
    text = f"{SOURCE}tables:\n  DimUser: {{key: a, cursor: b}}\n  DimUser: {{key: c, cursor: d}}\n"
    assert problems(tmp_path, text) == [
        "table DimUser: is given twice: in line 3 and in line 4; remove one"
    ]


def test_duplicate_keys_are_found_at_every_level(tmp_path: Path) -> None:
    text = f"{SOURCE}{SOURCE}tables:\n  DimUser: {{key: a, cursor: b, key: c,\n"
    text += '    gold: {scd: 1, "scd": 2}}\n'
    assert problems(tmp_path, text) == [
        "field 'source' is given twice: in line 1 and in line 2; remove one",
        "table DimUser: field 'key' is given twice: in line 4 and in line 4; remove one",
        "table DimUser: field 'gold.scd' is given twice: in line 5 and in line 5; remove one",
    ]


def test_a_key_that_yaml_reads_as_a_boolean_is_named_as_it_is_written(tmp_path: Path) -> None:
    first, second = problems(tmp_path, f"{SOURCE}alerts: {{no: [a@b.c]}}\n{USER}")
    assert first == (
        "field 'alerts.no' is a key that YAML reads as bool, not text; put it in quotes (line 2)"
    )
    assert second.startswith("field 'alerts.no' is unknown; did you mean 'to'?")


def test_an_anchor_may_be_merged_and_overridden(tmp_path: Path) -> None:
    text = f"{SOURCE}tables:\n  A: &a {{key: k, cursor: c}}\n  B: {{<<: *a, cursor: d}}\n"
    tables = load(tmp_path, text).tables
    assert (tables["B"].key, tables["B"].cursor) == (("k",), "d")


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path) -> None:
    text = (
        "source: {connection: c, schma: x}\n"
        "schedule: daily\n"
        "tables:\n"
        "  DimUser: {key: user_id, cursr: updated_at}\n"
        "  DimDate: {cursor: date, lake_name: dimuser, gold: {scd: 5}}\n"
    )
    fragments = ["source.schma", "'daily'", "cursr", "'key' is missing",
                 "'gold.scd' is 5", "the folder 'DimUser' is table DimUser's already"]  # fmt: skip
    lines = problems(tmp_path, text)
    assert len(lines) == len(fragments)
    assert all(sum(fragment in line for line in lines) == 1 for fragment in fragments)


@pytest.mark.parametrize("wrong", ["cursr: updated_at", "cursor: 5", "lookback: soon, cursor: a"])
def test_a_mistake_in_the_defaults_is_reported_there_only(tmp_path: Path, wrong: str) -> None:
    text = f"{SOURCE}defaults: {{{wrong}}}\ntables: {{DimUser: {{key: a}}, DimDate: {{key: b}}}}\n"
    (line,) = problems(tmp_path, text)
    assert line.startswith("field 'defaults.")


@pytest.mark.parametrize(
    "secret", ["mssql://sa:hunter2@db", "Server=db;PWD=hunter2;", "db;Password=hunter2"]
)
def test_a_password_in_the_file_is_refused_and_not_repeated(tmp_path: Path, secret: str) -> None:
    (line,) = problems(tmp_path, f"source: {{connection: '{secret}'}}\n{USER}")
    assert "which is no Airflow connection id" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("name", ["my source.yaml", "é.yaml"])
def test_a_file_name_that_is_no_dag_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is to be a Dag's id"):
        load_source(write(tmp_path, SOURCE + USER, name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"spotfy\.yaml: there is no such file; .* no source's"):
        load_source(tmp_path / "spotfy.yaml")
    (tmp_path / "spotify.yaml").touch()
    with pytest.raises(ConfigError, match=r"holds spotify; did you mean 'spotify'\?"):
        load_source(tmp_path / "spotfy.yaml")
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere; let TIDEMARK_CONFIG"):
        load_source(tmp_path / "nowhere" / "spotify.yaml")


MODELS: list[tuple[tuple[str, ...], type[BaseModel]]] = [
    ((), Source),
    (("source",), Endpoint),
    (("alerts",), Alerts),
    (("tasks",), TaskPolicy),
    (("defaults",), Defaults),
    (("tables", "DimUser"), Table),
    (("tables", "DimUser", "gold"), Gold),
]
FIELDS = [(place, name) for place, model in MODELS for name in field_names(model)]


@st.composite
def one_edit(draw: st.DrawFn, name: str) -> str:
    """Insert, delete or replace one letter of a name."""
    at = draw(st.integers(0, len(name)))
    letter = draw(st.sampled_from(["", *string.ascii_lowercase, "_"]))
    rest = name[at + draw(st.integers(0, 1)) :]
    return f"{name[:at]}{letter}{rest}"


@given(st.data())
def test_a_field_with_one_wrong_letter_is_told_its_name(data: st.DataObject) -> None:
    place, name = data.draw(st.sampled_from(FIELDS))
    typo = data.draw(one_edit(name))
    config: dict[str, Any] = {
        "source": {"connection": "c"},
        "alerts": {},
        "tasks": {},
        "defaults": {},
        "tables": {"DimUser": {"key": "a", "cursor": "b", "gold": {"scd": 1}}},
    }
    at = config
    for part in place:
        at = at[part]
    assume(typo and (place, typo) not in FIELDS)
    at[typo] = "x"
    with tempfile.TemporaryDirectory() as folder:
        lines = problems(Path(folder), yaml.safe_dump(config))
    (line,) = (line for line in lines if "is unknown" in line)
    suggested = line.partition("did you mean ")[2].partition("?")[0].split(" or ")
    assert repr(name) in suggested


def test_a_mask_by_hmac_needs_the_connection_of_its_key(tmp_path: Path) -> None:
    masked = "tables: {DimUser: {key: user_id, columns: {mask: {email: hmac}}}}\n"
    (line,) = problems(tmp_path, SOURCE + masked)
    assert line.startswith("field 'tables' masks columns of DimUser with hmac, which needs a key:")
    keyed = "source: {connection: spotify_sql, mask_connection: masks}\n"
    assert load(tmp_path, keyed + masked).source.mask_connection == "masks"
