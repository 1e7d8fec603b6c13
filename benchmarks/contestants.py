"""One way to copy the bench's table to Parquet, in a process of its own.

`copy_to_bronze.py` calls it. It prints one line of JSON: rows, seconds of the copy and of CPU
(without the importing of libraries), and the process's peak memory. The address comes in
TIDEMARK_BENCH_URL, as it may hold a password.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BATCH = 50_000
_YAML = """
source: {{connection: bench, schema: {schema}}}
tables:
  wide: {{key: id, cursor: changed_at, strategy: watermark}}
"""
_DRIVERS = {"postgresql+psycopg": "psycopg", "mssql+mssqlpython": "mssql_python"}
Copy = Callable[[], None]
Read = Callable[[str, str], Iterator[Any]]


def tidemark(url: str, schema: str, folder: Path) -> Copy:
    """Copy as the Dag's tasks do: look up, copy to bronze with window and digests, advance."""
    ingest = importlib.import_module("tidemark.ingest")
    layout = importlib.import_module("tidemark.layout")
    metadata = importlib.import_module("tidemark.metadata")
    storage = importlib.import_module("tidemark.storage")
    # What the first statement, and pyarrow at its first conversion of a value, would load.
    for library in (f"sqlalchemy.dialects.{url.partition('+')[0]}", "pandas"):
        importlib.import_module(library)
    path = folder / "bench.yaml"
    path.write_text(_YAML.format(schema=schema))
    table = metadata.load_source(path).tables["wide"]
    lake = layout.Lake(str(folder / "lake"))
    job = ingest.TableJob(storage.open_store(lake.root), lake, table, "bench", url)

    def copy() -> None:
        ingest.advance_watermark(job, ingest.copy_to_bronze(job, ingest.lookup_watermark(job)))

    return copy


def bare(url: str, schema: str, folder: Path) -> Copy:
    """Read as Arrow by the driver that Tidemark uses, and in its way, and write; nothing else."""
    return _written(
        _arrow_batches if url.startswith("mssql") else _copied_batches, url, schema, folder
    )


def rows(url: str, schema: str, folder: Path) -> Copy:
    """Read PostgreSQL's rows as psycopg gives them, Python's values, and write."""
    return _written(_psycopg_batches, url, schema, folder)


def _written(read: Read, url: str, schema: str, folder: Path) -> Copy:
    pq = importlib.import_module("pyarrow.parquet")

    def copy() -> None:
        writer = None
        for batch in read(url, schema):
            writer = writer or pq.ParquetWriter(folder / "x.parquet", batch.schema)
            writer.write_batch(batch)
        writer.close()

    return copy


def pymssql(url: str, schema: str, folder: Path) -> Copy:
    """Read in batches by pymssql's own cursor."""
    driver = importlib.import_module("pymssql")
    sa = importlib.import_module("sqlalchemy")
    pq = importlib.import_module("pyarrow.parquet")
    at = sa.make_url(url)

    def copy() -> None:
        with (
            driver.connect(
                server=at.host, port=str(at.port or 1433), user=at.username,
                password=at.password, database=at.database,
            ) as connection,
            connection.cursor() as cursor,
            pq.ParquetWriter(folder / "x.parquet", _schema(zone=None)) as writer,
        ):  # fmt: skip
            cursor.execute(_query(schema))
            for batch in _batches(cursor, _schema(zone=None)):
                writer.write_batch(batch)

    return copy


def sqlalchemy_pandas(url: str, schema: str, folder: Path) -> Copy:
    """Stream with SQLAlchemy to pandas, chunk by chunk, and write these with pyarrow."""
    pa = importlib.import_module("pyarrow")
    pd = importlib.import_module("pandas")
    pq = importlib.import_module("pyarrow.parquet")
    sa = importlib.import_module("sqlalchemy")
    kinds = _schema(zone=None if url.startswith("mssql") else "UTC")

    def copy() -> None:
        with (
            sa.create_engine(url).connect() as connection,
            pq.ParquetWriter(folder / "x.parquet", kinds) as writer,
        ):
            streamed = connection.execution_options(stream_results=True)
            for chunk in pd.read_sql(
                sa.text(_query(schema)), streamed, chunksize=BATCH, coerce_float=False
            ):
                writer.write_table(pa.Table.from_pandas(chunk, kinds, preserve_index=False))

    return copy


def connectorx(url: str, schema: str, folder: Path) -> Copy:
    """Let connectorx read the whole table to Arrow, as it does unless told otherwise."""
    cx = importlib.import_module("connectorx")
    pq = importlib.import_module("pyarrow.parquet")

    def copy() -> None:
        table = cx.read_sql(_plain(url), _query(schema), return_type="arrow")
        pq.write_table(table, folder / "x.parquet")

    return copy


def dlt_pyarrow(url: str, schema: str, folder: Path) -> Copy:
    """Run a dlt pipeline from its SQL source, backend pyarrow, to Parquet in a folder."""
    return _dlt(url, schema, folder, "pyarrow")


def dlt_connectorx(url: str, schema: str, folder: Path) -> Copy:
    """Do the same with its backend connectorx."""
    return _dlt(url, schema, folder, "connectorx")


def _dlt(url: str, schema: str, folder: Path, backend: str) -> Copy:
    # By its name as a text: in this repository `dlt/` is another thing (CONTRIBUTING.md).
    dlt = importlib.import_module("dlt")
    source = importlib.import_module("dlt.sources.sql_database")
    extra = {"backend_kwargs": {"conn": _plain(url)}} if backend == "connectorx" else {}

    def copy() -> None:
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=str(folder / "pipelines"),
            destination=dlt.destinations.filesystem(f"file://{folder / 'out'}"),
            dataset_name="bench",
        )
        table = source.sql_table(url, "wide", schema, backend=backend, chunk_size=BATCH, **extra)
        pipeline.run(table, loader_file_format="parquet")

    return copy


def _query(schema: str) -> str:
    return f"SELECT * FROM {schema}.wide"  # noqa: S608 - the bench's own name


def _plain(url: str) -> str:
    return f"{urlsplit(url).scheme.split('+')[0]}://{url.split('://', 1)[1]}"


def _schema(zone: str | None) -> Any:
    pa = importlib.import_module("pyarrow")
    return pa.schema(
        [
            ("id", pa.int64()), ("a", pa.int32()), ("b", pa.int64()),
            ("price", pa.decimal128(10, 2)), ("ratio", pa.float64()), ("name", pa.string()),
            ("city", pa.string()), ("born", pa.date32()), ("active", pa.bool_()),
            ("changed_at", pa.timestamp("us", zone)),
        ]
    )  # fmt: skip


def _psycopg_batches(url: str, schema: str) -> Iterator[Any]:
    psycopg = importlib.import_module("psycopg")
    with (
        psycopg.connect(_plain(url), options="-c timezone=UTC") as connection,
        connection.cursor(name="bench") as cursor,
    ):
        cursor.execute(_query(schema))
        yield from _batches(cursor, _schema(zone="UTC"))


def _copied_batches(url: str, schema: str) -> Iterator[Any]:
    psycopg = importlib.import_module("psycopg")
    csv = importlib.import_module("pyarrow.csv")
    pa = importlib.import_module("pyarrow")
    kinds = _schema(zone="UTC")
    convert = csv.ConvertOptions(
        column_types=kinds, null_values=[""], true_values=["t"], false_values=["f"],
        strings_can_be_null=True, quoted_strings_can_be_null=False,
    )  # fmt: skip
    statement = f"COPY ({_query(schema)}) TO STDOUT (FORMAT csv)"
    with (
        psycopg.connect(_plain(url), options="-c timezone=UTC") as connection,
        connection.cursor().copy(statement) as rows,
    ):
        for block in _blocks(connection.pgconn, rows):
            read = csv.ReadOptions(column_names=kinds.names, block_size=len(block) + 1)
            yield from csv.read_csv(pa.BufferReader(block), read, None, convert).to_batches()


def _blocks(connection: Any, rows: Any) -> Iterator[bytearray]:
    """Gather rows without psycopg's own loop around each, which takes longer than the rest."""
    size = 1
    while size > 0:
        block = bytearray()
        for _ in range(BATCH):
            size, row = connection.get_copy_data(1)
            if not size:
                row = rows.read()
                size = len(row)
            if size <= 0:
                break
            block += row
        if block:
            yield block
    while size < 0 and connection.get_result():
        pass


def _batches(cursor: Any, kinds: Any) -> Iterator[Any]:
    pa = importlib.import_module("pyarrow")
    while rows := cursor.fetchmany(BATCH):
        columns: Sequence[Any] = list(zip(*rows, strict=True))
        arrays = [pa.array(c, f.type) for c, f in zip(columns, kinds, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=kinds)


def _arrow_batches(url: str, schema: str) -> Iterator[Any]:
    sa = importlib.import_module("sqlalchemy")
    with sa.create_engine(url).connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(_query(schema))
        yield from cursor.arrow_reader(batch_size=BATCH)


def _rows(folder: Path) -> int:
    pq = importlib.import_module("pyarrow.parquet")
    files = [f for f in folder.rglob("*.parquet") if "wide" in f.parts or f.name == "x.parquet"]
    return sum(pq.read_metadata(file).num_rows for file in files)


def main() -> None:
    """Copy once, and say what it took."""
    name, schema, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    url = os.environ["TIDEMARK_BENCH_URL"]
    copy: Copy = globals()[name](url, schema, folder)
    for library in ("pyarrow.parquet", _DRIVERS[urlsplit(url).scheme]):
        importlib.import_module(library)
    begin, cpu = time.perf_counter(), time.process_time()
    copy()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "rows": _rows(folder)}))


if __name__ == "__main__":
    main()
