"""Reading a lake's tables without Spark."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tidemark.errors import LakeError
from tidemark.lake_tables import query, table_names
from tidemark.layout import Lake


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_lake_is_a_folder_or_a_file_url(tmp_path: Path, scheme: str) -> None:
    root = tmp_path / "lake"
    (root / "silver").mkdir(parents=True)
    pl.DataFrame({"user_id": [7]}).write_delta(root / "silver" / "DimUser")
    lake = Lake(f"{scheme}{root}")
    assert table_names(lake) == {"DimUser": "silver/DimUser"}
    assert query(lake, "DimUser").to_dicts() == [{"user_id": 7}]


def test_a_lake_elsewhere_is_refused_and_not_empty() -> None:
    with pytest.raises(LakeError, match="'s3' is not supported"):
        table_names(Lake("s3://lake"))
