"""Bronze files: types kept, whole or absent."""

# ruff: noqa: DTZ001 - wall clocks, as sources hold them

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemark.bronze import META_COLUMNS, Facts, ParquetFile, ReadStamp, bronze_schema, stamp
from tidemark.digest import row_digests
from tidemark.errors import LakeError

SOURCE = pa.schema(
    {
        "id": pa.int64(),
        "price": pa.decimal128(10, 2),
        "ratio": pa.float64(),
        "active": pa.bool_(),
        "born": pa.date32(),
        "updated_at": pa.timestamp("us"),
        "name": pa.string(),
        "blob": pa.binary(),
    }
)
ROW = {
    "id": 2**53 + 1,
    "price": Decimal("1.50"),
    "ratio": 0.1,
    "active": True,
    "born": date(1, 1, 1),
    "updated_at": datetime(9999, 12, 31, 23, 59, 59, 999999),
    "name": "Zoë",
    "blob": b"\x00\xff",
}
EMPTY = dict.fromkeys(ROW)
READ = ReadStamp(datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), "run-1")

FULL_DISK = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from tidemark.bronze import ParquetFile
from tidemark.errors import LakeError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
rows = pa.record_batch({"a": pa.array([bytes([i % 251]) * (i % 97) for i in range(20_000)])})
try:
    with ParquetFile(Path(sys.argv[1]), rows.schema) as file:
        for _ in range(20):
            file.write(rows)
except LakeError as error:
    print(error)
"""


def batch() -> pa.RecordBatch:
    rows = pa.RecordBatch.from_pylist([ROW, EMPTY], SOURCE)
    return stamp(
        rows,
        Facts(pa.repeat(pa.scalar("upsert"), rows.num_rows), row_digests(rows, SOURCE.names)),
        READ,
    )


def test_a_file_keeps_the_sources_types_and_columns_first(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with ParquetFile(path, bronze_schema(SOURCE), {"run_id": "run-1"}) as file:
        file.write(batch())
        file.write(batch().slice(1))
        file.write(batch().slice(2))
    assert file.rows == 3
    found = pq.read_table(path)
    assert found.schema.names == [*SOURCE.names, *META_COLUMNS]
    assert [found.schema.field(n).type for n in SOURCE.names] == SOURCE.types
    first, second, third = found.select(SOURCE.names).to_pylist()
    assert (first, second, third) == (ROW, EMPTY, EMPTY)
    meta = found.select(META_COLUMNS).to_pylist()[0]
    assert len(meta.pop("_digest")) == 16
    assert meta == {
        "_sequence": READ.sequence,
        "_operation": "upsert",
        "_source_sequence": None,
        "_run_id": "run-1",
    }


def test_a_file_is_snappy_and_says_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with ParquetFile(path, bronze_schema(SOURCE), {"window": "a <= 5"}) as file:
        file.write(batch())
    footer = pq.ParquetFile(path).metadata
    assert footer.num_row_groups == 1
    group = footer.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"SNAPPY"}
    assert footer.metadata[b"tidemark.window"] == b"a <= 5"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_inside_removes_the_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.parquet"

    def fail() -> None:
        with ParquetFile(path, bronze_schema(SOURCE)) as file:
            file.write(batch())
            assert path.exists()
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_removes_the_file_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    message = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert message.startswith(f"{path}: ")
    assert "free space" in message
    assert "the watermark has not moved" in message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_a_lake_error(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.parquet"
    with pytest.raises(LakeError, match=f"^{path}: .*nothing was published"):
        ParquetFile(path, SOURCE).__enter__()


def test_a_task_gives_memory_back_that_its_batches_freed() -> None:
    show = "import tidemark, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    plain = {k: v for k, v in os.environ.items() if k != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True, env=plain
    )
    assert done.stdout.strip() == "system"


def test_whatever_fails_in_the_writing_thread_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: pq.ParquetWriter, _group: pa.Table) -> None:
        raise pa.ArrowInvalid("refused")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", refuse)
    rows = pa.record_batch({"a": [1, 2]})
    path = tmp_path / "x.parquet"
    with pytest.raises(pa.ArrowInvalid, match="refused"), ParquetFile(path, rows.schema) as file:
        file.write(rows)
    assert not path.exists()


def test_an_error_beside_that_of_the_writing_thread_is_the_one_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: pq.ParquetWriter, _group: pa.Table) -> None:
        raise pa.ArrowInvalid("refused")

    def fail(path: Path) -> None:
        rows = pa.record_batch({"a": [1, 2]})
        with ParquetFile(path, rows.schema) as file:
            file.write(rows)
            file._flush()
            raise KeyError("mine")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", refuse)
    with pytest.raises(KeyError, match="mine"):
        fail(tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()
