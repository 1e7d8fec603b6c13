"""What a session is told by the amount of its work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tidemark.spark.session import suit_to

CODE = {"spark.sql.codegen.factoryMode": "NO_CODEGEN", "spark.sql.codegen.wholeStage": "false"}


@pytest.fixture
def codeless(spark: SparkSession) -> Iterator[SparkSession]:
    """Give the session as a job on a laptop begins, and put it back."""
    before = {name: str(spark.conf.get(name)) for name in CODE}
    for name, value in CODE.items():
        spark.conf.set(name, value)
    yield spark
    for name, value in before.items():
        spark.conf.set(name, value)


def mode(session: SparkSession) -> list[str | None]:
    return [session.conf.get(name) for name in CODE]


def test_code_is_generated_for_much_data_alone(codeless: SparkSession, tmp_path: Path) -> None:
    few, much = tmp_path / "few", tmp_path / "much"
    for folder, size in ((few, 1_000_000), (much, 1_500_000)):
        folder.mkdir()
        (folder / "rows.parquet").write_bytes(bytes(size))
    suit_to(codeless, [str(few), str(tmp_path / "absent")])
    assert mode(codeless) == ["NO_CODEGEN", "false"]
    suit_to(codeless, [str(few), str(much)])
    assert mode(codeless) == ["FALLBACK", "true"]


def test_what_somebody_else_has_set_stays(codeless: SparkSession, tmp_path: Path) -> None:
    codeless.conf.set("spark.sql.codegen.factoryMode", "FALLBACK")
    (tmp_path / "rows.parquet").write_bytes(bytes(3_000_000))
    suit_to(codeless, [str(tmp_path)])
    assert mode(codeless) == ["FALLBACK", "false"]
