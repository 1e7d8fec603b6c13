"""The metadata: what is filled in, names within a lake, and rules."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from tidemark.errors import ConfigError
from tidemark.metadata import Source, Table, load_all, load_source, rule_notes, snake_case
from tidemark.metadata.source import Endpoint
from tidemark.metadata.table import Gold

SOURCE = "source: {connection: spotify_sql}\n"
USER = "tables: {DimUser: {key: user_id, cursor: updated_at}}\n"


def write(folder: Path, text: str, name: str = "spotify.yaml") -> Path:
    path = folder / "config" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_rules(folder: Path, text: str) -> Path:
    rules = folder / "spark_jobs" / "rules"
    rules.mkdir(parents=True)
    (rules / "spotify.py").write_text(text)
    return rules


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


# --- what is filled in


def test_a_minimal_file_has_the_documented_defaults(tmp_path: Path) -> None:
    source = load(tmp_path, SOURCE + USER)
    assert source == Source(
        name="spotify",
        path=tmp_path / "config" / "spotify.yaml",
        source=Endpoint(connection="spotify_sql"),
        tables={"DimUser": Table(name="DimUser", key=("user_id",), cursor="updated_at")},
    )
    assert (source.schedule, source.start_date) == (None, date(2025, 1, 1))
    assert source.alerts.events == ("failure", "recovery")
    assert source.tasks.timeout == timedelta(hours=2)
    user = source.tables["DimUser"]
    assert (user.schema_, user.lake_name, user.lookback) == ("dbo", "DimUser", timedelta(hours=1))
    assert (user.strategy, user.chosen_strategy) == (None, "watermark")
    assert (user.future, user.null_cursor, user.rule) == ("hold", "include", None)
    assert user.gold is None


def test_the_shipped_file() -> None:
    source = load_source(Path(__file__).parents[2] / "config" / "spotify.yaml")
    assert [t.key for t in source.tables.values()] == [
        ("user_id",),
        ("artist_id",),
        ("track_id",),
        ("date_key",),
        ("stream_id",),
    ]
    gold = [t.gold for t in source.tables.values() if t.gold]
    assert [(g.name, g.scd) for g in gold] == [
        ("dim_user", 2),
        ("dim_artist", 1),
        ("dim_track", 2),
        ("dim_date", 2),
        ("fact_stream", 1),
    ]
    assert all(g.expect_or_drop for g in gold)
    assert source.tables["DimDate"].future == "take"
    assert "success" in source.alerts.events


def test_defaults_fill_what_a_table_leaves_out_and_nothing_else(tmp_path: Path) -> None:
    source = load(
        tmp_path,
        "source: {connection: c, schema: music}\n"
        "defaults: {cursor: updated_at, lookback: 2d, clock_lag: 5m}\n"
        "tables:\n"
        "  DimUser: {key: user_id}\n"
        "  FactStream: {key: [stream_id, day], cursor: stream_timestamp, lookback: 1000,"
        " schema: log}\n",
    )
    user, stream = source.tables.values()
    assert (user.cursor, user.lookback, user.schema_) == (
        "updated_at",
        timedelta(days=2),
        "music",
    )
    assert (stream.cursor, stream.lookback, stream.schema_) == ("stream_timestamp", 1000, "log")
    assert stream.clock_lag == user.clock_lag == timedelta(minutes=5)
    assert stream.key == ("stream_id", "day")


def test_the_schema_of_the_defaults_goes_before_that_of_the_source(tmp_path: Path) -> None:
    text = "source: {connection: c, schema: a}\ndefaults: {schema: b}\n" + USER
    assert load(tmp_path, text).tables["DimUser"].schema_ == "b"


def test_gold_is_named_after_the_lake_name(tmp_path: Path) -> None:
    assert load(tmp_path, table("lake_name: WebUser, gold: {scd: 1}")).tables[
        "DimUser"
    ].gold == Gold(scd=1, name="web_user")


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("DimUser", "dim_user"),
        ("dim_user", "dim_user"),
        ("Dim_User", "dim_user"),
        ("HTTPLog", "http_log"),
        ("Order2Line", "order2_line"),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


@pytest.mark.parametrize(
    "schedule", ["@hourly", "*/15 6-22 * * mon-fri", "0 6 1,15 JAN-jun 0-7/2", "null"]
)
def test_valid_schedules(tmp_path: Path, schedule: str) -> None:
    quoted = schedule if schedule == "null" else f'"{schedule}"'
    expected = None if schedule == "null" else schedule
    assert load(tmp_path, f"{SOURCE}schedule: {quoted}\n{USER}").schedule == expected


def test_models_are_frozen(tmp_path: Path) -> None:
    source = load(tmp_path, SOURCE + USER)
    with pytest.raises(ValueError, match="frozen"):
        source.tables["DimUser"].lookback = 5


def test_tables_named(tmp_path: Path) -> None:
    text = f"{SOURCE}defaults: {{cursor: c}}\ntables:\n  DimUser: {{key: a, lake_name: WebUser}}\n"
    source = load(tmp_path, text + "  DimDate: {key: b}\n")
    user, day = source.tables.values()
    assert source.tables_named([]) == (user, day)
    assert source.tables_named(["DimDate", "WebUser", "DimUser"]) == (user, day)
    with pytest.raises(ConfigError, match="'DimUsr' is unknown; did you mean 'DimUser'"):
        source.tables_named(["DimDate", "DimUsr"])


# --- names within a lake


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("lake_name: X", "lake_name: x", "'lake_name' is 'x', but the folder 'X' is table A's"),
        ("lake_name: X", "lake_name: X_cdc", "'lake_name' is 'X_cdc', but the folder 'X_cdc' is"),
        ("lake_name: X_changes", "lake_name: X", "'lake_name' is 'X', but the folder 'X_changes'"),
        ("lake_name: X, gold: {scd: 1}", "lake_name: X, gold: {scd: 1}", "'lake_name' is 'X'"),
        (
            "gold: {scd: 1}",
            "gold: {scd: 1, name: A_quarantine}",
            "'gold.name' is 'A_quarantine', but the folder 'gold/a_quarantine",
        ),
        ("gold: {scd: 1, name: b}", "gold: {scd: 1}", "'gold.name' is 'b', but the folder 'gold/b"),
    ],
)
def test_two_tables_must_not_share_a_folder(
    tmp_path: Path, first: str, second: str, message: str
) -> None:
    a, b = f"A: {{key: k, cursor: c, {first}}}", f"B: {{key: k, cursor: c, {second}}}"
    (line,) = problems(tmp_path, f"{SOURCE}tables:\n  {a}\n  {b}\n")
    assert line.startswith(f"table B: field {message}")
    write(tmp_path, f"{SOURCE}tables:\n  {a}\n", "one.yaml")
    later = write(tmp_path, f"{SOURCE}tables:\n  {b}\n", "two.yaml")
    (tmp_path / "config" / "spotify.yaml").unlink()
    loaded = load_all(tmp_path / "config")
    assert isinstance(loaded["one"], Source)
    text = str(loaded["two"])
    assert text.startswith(f"{later}: table B: field {message}")
    assert f"is table A's in {tmp_path / 'config' / 'one.yaml'} already" in text


@pytest.mark.parametrize("turned", [False, True])
def test_a_gold_table_must_not_be_named_like_the_view_of_anothers_changes(
    tmp_path: Path, turned: bool
) -> None:
    names = ("UserChanges", "User") if turned else ("User", "UserChanges")
    first, second = (f"  {n}: {{key: k, cursor: c, gold: {{scd: 1}}}}\n" for n in names)
    (line,) = problems(tmp_path, f"{SOURCE}tables:\n{first}{second}")
    assert line.startswith(
        f"table {names[1]}: field 'gold.name' is {snake_case(names[1])!r}, but the name "
        f"'user_changes' is table {names[0]}'s already; gold names a view of each table's changes "
        "like the table, with '_changes' behind it: give one of the tables another gold.name"
    )
    # Each file has a pipeline of its own, with its own views.
    (tmp_path / "config" / "spotify.yaml").unlink()
    write(tmp_path, f"{SOURCE}tables:\n{first}", "one.yaml")
    write(tmp_path, f"{SOURCE}tables:\n{second}", "two.yaml")
    assert all(isinstance(s, Source) for s in load_all(tmp_path / "config").values())


@pytest.mark.parametrize("kind", ["table", "view"])
def test_a_view_is_no_other_files_gold_table_or_view(tmp_path: Path, kind: str) -> None:
    view = "views: {Wide: {tables: [{table: a, alias: a, columns: [k]}]}}\n"
    write(
        tmp_path,
        f"{SOURCE}tables: {{A: {{key: k, cursor: c, gold: {{scd: 1}}}}}}\n{view}",
        "one.yaml",
    )
    name = "wide" if kind == "table" else "b"
    table = f"{SOURCE}tables: {{B: {{key: k, cursor: c, gold: {{scd: 1, name: {name}}}}}}}\n"
    also = view.replace("Wide", "wide").replace("table: a", "table: b") if kind == "view" else ""
    write(tmp_path, table + also, "two.yaml")
    text = str(load_all(tmp_path / "config")["two"])
    assert "the folder 'gold/Wide' is view Wide's in" in text
    assert f"field '{'views.wide' if kind == 'view' else 'gold.name'}'" in text


def test_a_broken_file_leaves_the_others_alone(tmp_path: Path) -> None:
    write(tmp_path, "tables: [", "broken.yaml")
    write(tmp_path, SOURCE + USER, "good.yml")
    write(tmp_path, f"{SOURCE}shedule: x\n{USER}", "almost.yaml")
    write(tmp_path, "hidden", ".draft.yaml")
    write(tmp_path, "a note", "README.md")
    loaded = load_all(tmp_path / "config")
    # almost.yaml wants the same table as good.yml, but is broken and so has no claim to it.
    assert [(name, type(value)) for name, value in loaded.items()] == [
        ("almost", ConfigError),
        ("broken", ConfigError),
        ("good", Source),
    ]


def test_two_files_of_one_stem(tmp_path: Path) -> None:
    write(tmp_path, SOURCE + USER, "spotify.yaml")
    write(tmp_path, SOURCE + USER, "spotify.yml")
    loaded = load_all(tmp_path / "config")
    assert list(loaded) == ["spotify"]
    assert "spotify.yml: another file has this name; keep one" in str(loaded["spotify"])


def test_a_missing_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config: is no folder; create it, or let TIDEMARK_CON"):
        load_all(tmp_path / "config")


# --- rules

RULES = "import nothing\ndef dim_user(df): ...\ndef _helper(df): ...\nclass Other:\n  def x(s): ..."


def test_a_rule_is_found_by_the_lake_name(tmp_path: Path) -> None:
    write_rules(tmp_path, RULES)
    text = f"{SOURCE}defaults: {{cursor: c}}\ntables:\n  A: {{key: k, lake_name: DimUser}}\n"
    tables = load(tmp_path, text + "  B: {key: k}\n  C: {key: k, rule: dim_user}\n").tables
    assert [t.rule for t in tables.values()] == ["dim_user", None, "dim_user"]


@pytest.mark.parametrize("rule", ["dim_usr", "_helper", "x"])
def test_an_unknown_rule_is_refused(tmp_path: Path, rule: str) -> None:
    file = write_rules(tmp_path, RULES) / "spotify.py"
    (line,) = problems(tmp_path, table(f"rule: {rule}"))
    assert line.startswith(f"table DimUser: field 'rule' is '{rule}', which is no function in")
    assert f"{file}" in line
    assert line.endswith("(allowed: dim_user) (line 3)")
    assert ("did you mean 'dim_user'?" in line) == (rule == "dim_usr")


def test_a_rule_without_a_rules_file_is_refused(tmp_path: Path) -> None:
    write_rules(tmp_path, "")
    (line,) = problems(tmp_path, table("rule: dim_user"))
    assert "(it has none)" in line


def test_rules_that_are_no_python_are_a_problem_of_the_file(tmp_path: Path) -> None:
    write_rules(tmp_path, "def dim_user(df)\n")
    (line,) = problems(tmp_path, SOURCE + USER)
    assert "spotify.py: line 1: is no Python: " in line


def test_without_a_rules_folder_rules_are_taken_as_written(tmp_path: Path) -> None:
    assert load(tmp_path, table("rule: anything")).tables["DimUser"].rule == "anything"


def test_a_rule_that_no_table_uses_is_noted(tmp_path: Path) -> None:
    rules = write_rules(tmp_path, "def dim_usr(df): ...\n")
    source = load(tmp_path, SOURCE + USER)
    (note,) = rule_notes(source, rules)
    assert "rule 'dim_usr' is used by no table" in note
    assert "did you mean 'dim_user'?" in note
    (rules / "spotify.py").write_text(RULES)
    assert rule_notes(load(tmp_path, SOURCE + USER), rules) == []


def test_a_tables_maintenance_is_safe_without_a_word(tmp_path: Path) -> None:
    plain = load(tmp_path, table("gold: {scd: 1}")).tables["DimUser"].maintenance
    assert (plain.z_order, plain.cluster_by, plain.vacuum) == ((), (), timedelta(days=7))
    wished = load(tmp_path, table("maintenance: {z_order: [a, b], vacuum: 30d}"))
    assert wished.tables["DimUser"].maintenance.z_order == ("a", "b")
    assert wished.tables["DimUser"].maintenance.vacuum == timedelta(days=30)
    never = f"{SOURCE}defaults: {{maintenance: {{vacuum: never}}}}\n{USER}"
    assert load(tmp_path, never).tables["DimUser"].maintenance.vacuum is None


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("vacuum: 6d", "'6d', which is less than 7d: readers that have begun"),
        ("vacuum: 7", "7, which is no duration"),
        ("z_order: [a], cluster_by: [b]", "and z_order too, which exclude each other"),
        ("cluster_by: [a, b, c, d, e]", "which are more than 4, Delta's limit"),
        ("zorder: [a]", "field 'maintenance.zorder' is unknown; did you mean 'z_order'?"),
    ],
)
def test_a_wrong_maintenance_is_named(tmp_path: Path, fields: str, text: str) -> None:
    (problem,) = problems(tmp_path, table(f"maintenance: {{{fields}}}"))
    assert problem.startswith("table DimUser: field 'maintenance.")
    assert text in problem


@pytest.mark.parametrize(
    "predicate",
    ["x = 'note''s note'", "note(x) > 0", "x.note > 0", "CAST(x AS date) > date '2020-01-01'", "d"],
)
def test_what_only_looks_like_an_excluded_column_is_taken(tmp_path: Path, predicate: str) -> None:
    text = f"""{SOURCE}tables:
  DimUser:
    key: user_id
    cursor: updated_at
    columns: {{exclude: [note, date], mask: {{name: hmac}}}}
    gold: {{scd: 2, track: [name], expect: {{a: "{predicate}"}}}}
""".replace("spotify_sql}", "spotify_sql, mask_connection: k}")
    assert load(tmp_path, text).tables["DimUser"].gold


@pytest.mark.parametrize(
    "predicate",
    [
        *("x <> 'now()'", "`rand` > 0", "x.now > 0", "my_rand(x) > 0", "unix_timestamp(x) > 0"),
        *("now", "x <> 'now'", "x <> \\\"it's now()\\\" AND y <> 'z'", "user <> 'x'"),
    ],
)
def test_what_only_looks_like_a_varying_function_may_drop_rows(
    tmp_path: Path, predicate: str
) -> None:
    gold = load(tmp_path, table(f'gold: {{scd: 2, expect_or_drop: {{a: "{predicate}"}}}}')).tables
    assert gold["DimUser"].gold


def test_the_clock_may_judge_what_stays(tmp_path: Path) -> None:
    gold = "gold: {scd: 2, expect: {a: x < now()}, expect_or_fail: {b: x < current_date()}}"
    assert load(tmp_path, table(gold)).tables["DimUser"].gold
