"""What does not fit together in the metadata's views is told by place and name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark.errors import ConfigError
from tidemark.metadata import load_source

HEAD = """
source: {connection: c}
tables:
  DimUser: {key: id, cursor: at, gold: {scd: 2}, columns: {exclude: [note]}}
  FactStream: {key: id, cursor: at, gold: {scd: 1}}
  Staging: {key: id, cursor: at}
views:
"""
S = "{table: fact_stream, alias: s, columns: [id, at]}"
U = "{table: dim_user, alias: u, match: {id: s.user_id}, columns: {name: user}}"


def _problems(folder: Path, *views: str) -> list[str]:
    path = folder / "music.yaml"
    path.write_text(HEAD + "".join(f"  {view}\n" for view in views))
    with pytest.raises(ConfigError) as caught:
        load_source(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def _view(*tables: str, more: str = "", name: str = "v") -> str:
    return f"{name}: {{tables: [{', '.join(tables)}]{more}}}"


def test_a_view_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "music.yaml"
    second = "{table: v, alias: x, columns: [user]}"
    path.write_text(f"{HEAD}  {_view(S, U, more=', where: s.at > 0')}\n  {_view(second, name='w')}")
    views = load_source(path).views
    stream, user = views["v"].tables
    assert (stream.columns, user.columns) == ({"id": "id", "at": "at"}, {"name": "user"})
    assert (user.match, user.join, user.history) == ({"id": "s.user_id"}, "left", False)
    assert (views["v"].where, views["w"].tables[0].table) == ("s.at > 0", "v")


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (
            [_view(S.replace("fact_stream", "fact_streem"))],
            ("field 'views.v.tables[0].table' is 'fact_streem', no gold table of this file and no "
             "view above; did you mean 'fact_stream'? (allowed: dim_user, fact_stream) (line 8)"),
        ),
        ([_view(S.replace("fact_stream", "staging"))], "field 'views.v.tables[0].table' is 'stag"),
        # A view is built of those above it: no circle can be written.
        ([_view("{table: w, alias: w, columns: [id]}"), _view(S, name="w")], "field 'views.v.tab"),
        ([_view("{table: v, alias: w, columns: [id]}")], "field 'views.v.tables[0].table' is 'v'"),
        (
            [_view(S, U.replace("s.user_id", "st.user_id"))],
            ("field 'views.v.tables[1].match.id' is 'st.user_id', but no table above has the alias "
             "'st'; did you mean 's'? (allowed: s)"),
        ),
        (
            [_view(S, U.replace("s.user_id", "u.user_id"))],
            "field 'views.v.tables[1].match.id' is 'u.user_id', but no table above",
        ),
        (
            [_view(S, U.replace("s.user_id", "user_id"))],
            ("field 'views.v.tables[1].match.id' is 'user_id', which is no column of a table "
             "above; write s.<column>"),
        ),
        (
            [_view(S, U.replace("match: {id: s.user_id}, ", ""))],
            "field 'views.v.tables[1].match' is missing: say how 'u' is joined, such as {id: s.id}",
        ),
        ([_view(U)], "field 'views.v.tables[0].match' is given, but 'u' is the first table"),
        ([_view(S, U.replace("alias: u", "alias: S"))], "field 'views.v.tables[1].alias' is 'S'"),
        (
            [_view(S, U.replace("name: user", "name: AT"))],
            "field 'views.v.tables[1].columns.name' is 'AT' in the view, as s.at is; write {name: ",
        ),
        (
            [_view(S, U.replace("name: user", "NOTE: user"))],
            "field 'views.v.tables[1].columns.NOTE' is not read: columns.exclude of DimUser names",
        ),
        (
            [_view(S, U.replace("match: {id", "match: {note"))],
            "field 'views.v.tables[1].match.note' is not read: columns.exclude of DimUser names it",
        ),
        ([_view(S, name="dim_user")], "field 'views.dim_user' has the name of what gold makes of"),
        ([_view(S, name="Dim_User_quarantine")], "field 'views.Dim_User_quarantine' has the name"),
        ([_view(S, name="'a; b'")], "field 'views.a; b' is 'a; b', which is no folder name"),
        ([_view(S.replace("[id, at]", "[id, id]"))], "field 'views.v.tables[0].columns' is ['id'"),
        ([_view(S.replace("[id, at]", "{id: a b}"))], "field 'views.v.tables[0].columns' is {'id'"),
        ([_view(S.replace("[id, at]", "[]"))], "field 'views.v.tables' is "),
        ([_view(S.replace("alias: s", "alias: 's s'"))], "field 'views.v.tables[0].alias' is"),
        ([_view(S, more=", wher: x")], "field 'views.v.wher' is unknown; did you mean 'where'?"),
        ([_view(S, U.replace("match", "macth"))], "field 'views.v.tables[1].macth' is unknown"),
        (
            [_view(S, U.replace("match: {", "join: outer, match: {"))],
            "field 'views.v.tables[1].join' is 'outer', which is not allowed (allowed: left, inner",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, views: list[str], message: str) -> None:
    lines = _problems(tmp_path, *views)
    assert any(line.startswith(message) for line in lines), lines
