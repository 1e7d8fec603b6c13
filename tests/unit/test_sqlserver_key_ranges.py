"""An initial load's ranges on SQL Server: their statements, by the type of the key.

No server is asked here. To write the golden files anew after a wanted change, run

    TIDEMARK_GOLDEN=write .venv/bin/pytest tests/unit/test_sqlserver_key_ranges.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sqlglot
from fake_sqlserver import DECLARED, ask, rendered

from tidemark.extract import watermark
from tidemark.extract.key_ranges import find_bounds, within
from tidemark.load_progress import KeyRange

GOLDEN = Path(__file__).parent / "golden" / "tsql"
BOUNDS = {
    "int": ("7", "90"),
    "nvarchar(20)": ("Ä", "Z'"),
    "varchar(20)": ("a", "z"),
    "uniqueidentifier": (
        "6F9619FF-8B86-D011-B42D-00C04FC964FF", "7F9619FF-8B86-D011-B42D-00C04FC964FF",
    ),
    "datetime": ("2026-01-01 10:00:00.003", "2026-01-02 10:00:00.997"),
    "datetime2(7)": ("2026-01-01 10:00:00.1234567", "2026-01-02 10:00:00.0000001"),
    "datetimeoffset(7)": ("2026-01-01 10:00:00.1234567 +02:00", "2026-01-02 10:00:00 +00:00"),
    "decimal(18,4)": ("1.0000", "12345678901234.5678"),
}  # fmt: skip


@pytest.mark.parametrize("declared", BOUNDS)
def test_ranges_are_t_sql_and_as_they_were(tmp_path: Path, declared: str) -> None:
    low, high = BOUNDS[declared]
    answers = {"IS NOT NULL": [(1000,)], "row_number()": [("least",), (low,), (high,)]}
    asked, statements = ask(tmp_path, answers, declared=DECLARED | {"order_id": declared})
    # Of two answers to the same words, the more particular one.
    asked.source.connection.answers = dict(reversed(answers.items()))  # type: ignore[attr-defined]
    assert find_bounds(asked, 3) == (low, high)
    edges = ((None, low), (low, high), (high, None))
    ranges = [rendered(within(asked, KeyRange("order_id", *pair))) for pair in edges]
    for text in (*statements, *(f"SELECT 1 WHERE {text}" for text in ranges)):
        sqlglot.parse_one(text, dialect="tsql")
    content = "\n".join(
        [*(f"-- the bounds\n{text}" for text in statements), *(f"-- a range\n{t}" for t in ranges)]
    )
    path = GOLDEN / f"ranges_{declared.partition('(')[0]}.sql"
    if os.environ.get("TIDEMARK_GOLDEN") == "write":
        path.write_text(content)
    assert content == path.read_text(), f"see how to write {path.name} anew at the file's top"


def test_a_range_narrows_the_strategys_own_statement(tmp_path: Path) -> None:
    asked, _ = ask(tmp_path, {})
    statement = watermark.plan(asked).statement
    part = within(asked, KeyRange("order_id", "7", "90"))
    text = rendered(statement.where(part))  # type: ignore[union-attr]
    assert "order_id >= CAST(" in text
    assert "order_id < CAST(" in text
    assert "'7'" not in text.split("\n-- ")[0], "values are bound"
    sqlglot.parse_one(text, dialect="tsql")
