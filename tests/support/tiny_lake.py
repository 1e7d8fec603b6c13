"""A lake whose bronze is written by hand, and whose silver real Spark makes of it."""

from __future__ import annotations

import datetime as dt
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from tidemark.layout import Lake
from tidemark.metadata import Source, load_source
from tidemark.spark.silver import TableResult, run_silver

JOB = Path(__file__).parents[2] / "spark_jobs" / "silver.py"
KEYS = {
    "DimUser": "user_id",
    "DimArtist": "artist_id",
    "DimTrack": "track_id",
    "DimDate": "date_key",
    "FactStream": "[user_id, track_id]",
}
META = {
    "_sequence": pa.timestamp("us", "UTC"),
    "_operation": pa.string(),
    "_source_sequence": pa.string(),
    "_digest": pa.binary(16),
    "_run_id": pa.string(),
}
Rows = list[dict[str, Any]]


def sequence(minute: int) -> dt.datetime:
    return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=minute)


@dataclass
class TinyLake:
    """A lake whose bronze is written by hand."""

    spark: SparkSession
    root: Path
    rules: str = ""

    def __post_init__(self) -> None:
        (self.root / "rules").mkdir(parents=True)
        (self.root / "rules" / "spotify.py").write_text(self.rules)
        tables = "".join(f"  {name}: {{key: {key}}}\n" for name, key in KEYS.items())
        text = "source: {connection: c}\ndefaults: {cursor: updated_at}\ntables:\n" + tables
        (self.root / "spotify.yaml").write_text(text)

    @property
    def lake(self) -> Lake:
        return Lake(str(self.root))

    def publish(
        self, table: str, minute: int, rows: Rows, types: Mapping[str, pa.DataType] | None = None
    ) -> Path:
        """Write one bronze file; `_delete` in a row makes it a delete."""
        stamp = {"_sequence": sequence(minute), "_digest": bytes(15) + bytes([minute])}
        operations = [{"_operation": "delete" if "_delete" in r else "upsert"} for r in rows]
        full = [{**r, **stamp, **o} for r, o in zip(rows, operations, strict=True)]
        own = dict.fromkeys(k for row in rows for k in row if k != "_delete")
        found = {n: pa.infer_type([*(r.get(n) for r in rows)]) for n in own}
        # A database's column has a type, also where all of its values are NULL.
        found = {n: pa.string() if t == pa.null() else t for n, t in found.items()}
        schema = pa.schema({**found, **(types or {}), **META})
        path = self.root / self.lake.bronze_file(table, sequence(minute))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(full, schema), path)
        return path

    @property
    def source(self) -> Source:
        return load_source(self.root / "spotify.yaml", self.root / "rules")

    def run(self, *tables: str) -> dict[str, TableResult]:
        return run_silver(self.spark, str(self.root), self.source, tables, self.root / "rules")

    def read(self, relative: str, *columns: str, version: int | None = None) -> list[tuple]:
        """Give a table's rows, sorted; `_sequence` as minutes."""
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        start = int(sequence(0).timestamp())
        minutes = ((sf.unix_seconds("_sequence") - start) / 60).cast("int")
        found = reader.load(str(self.root / relative)).withColumn("_sequence", minutes)
        return sorted((tuple(r) for r in found.select(*columns).collect()), key=repr)

    def current(self, table: str, *columns: str, version: int | None = None) -> list[tuple]:
        return self.read(self.lake.silver(table), *columns, version=version)

    def changes(self, table: str, *columns: str) -> list[tuple]:
        return self.read(self.lake.changes(table), *columns)

    def commits(self, relative: str) -> int:
        return len(list((self.root / relative / "_delta_log").glob("*.json")))


def user(user_id: int, name: str) -> dict[str, Any]:
    return {"user_id": user_id, "user_name": name}


def artist(artist_id: int, name: str) -> dict[str, Any]:
    return {"artist_id": artist_id, "artist_name": name}


def job(lake: TinyLake, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the job's entry point, in this process."""
    spec = importlib.util.spec_from_file_location("silver_job", JOB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = {
        "lake": lake.root, "config": lake.root, "source": "spotify",
        "tables": "DimUser,DimTrack,DimDate,DimArtist,FactStream",
        "report": lake.root / "report.json", "rules": lake.root / "rules",
    }  # fmt: skip
    argv = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["silver.py", *argv, *words])
    return module.main()
