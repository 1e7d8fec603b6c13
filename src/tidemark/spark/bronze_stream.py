"""A table's bronze files as a stream: under which schema, and with which of our columns.

The schema is the union of the columns of all files that the stream has met, kept beside the
stream's checkpoint: a column that left the source is read as NULL, a new one arrives.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.streaming.readwriter import DataStreamReader
from pyspark.sql.types import (
    BinaryType,
    ByteType,
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from tidemark.errors import PipelineError
from tidemark.layout import PUBLISHED, Lake, sequence_of
from tidemark.published import file_name, names_in_bronze
from tidemark.quarantine import change, held_files, judged, seen, waiting
from tidemark.spark.databricks import auto_loader
from tidemark.spark.engine import is_databricks
from tidemark.spark.rules import column
from tidemark.storage import Store, again

META = StructType(
    [
        StructField("_sequence", TimestampType()),
        StructField("_operation", StringType()),
        StructField("_source_sequence", StringType()),
        StructField("_digest", BinaryType()),
        StructField("_run_id", StringType()),
    ]
)
# The bronze file that a row comes from: known to the stream and the rules, not kept in silver.
FILE = "_file"

# A file that waited long (a table that was broken for weeks) must not be passed over.
_NO_AGE_LIMIT = "36500d"
_IN_ALL_FOLDERS = ("recursiveFileLookup", "true")
_CHUNK = 2**24  # bytes
_DIGITS = 38  # of a decimal, at the most
_WIDER = (
    "silver was written with the narrower one: `tidemark rebuild` the table, which takes the wider "
    "one, or let `tidemark replay --rescue` keep the values that fit"
)
_CONTRADICTS = (
    "set it back at the source, or give it a name of its own there, and let `tidemark replay "
    "--rescue` take the file: values that fit are kept, others go into _rescued_data"
)
_WIDTHS: tuple[tuple[type[DataType], ...], ...] = (
    (ByteType, ShortType, IntegerType, LongType),
    (FloatType, DoubleType),
)


@dataclass(frozen=True)
class StreamSchema:
    """What a table's stream can read without losing a column.

    Attributes:
        columns: The union of the files' columns, and ours.
        files: The names of the files whose columns are in it.
        new: Those of them that no earlier stream has met.
        held: Those of them that are in quarantine, and are not to be read.
        version: Of the file that it was read from; None before the first.
    """

    columns: StructType
    files: frozenset[str]
    new: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    version: str | None = None


def stream_schema(spark: SparkSession, store: Store, lake: Lake, table: str) -> StreamSchema:
    """Find the schema for everything that lies in a table's bronze now.

    Only files that were not there the last time are opened. One that can't be read, or has a column
    whose type does not go with what was there before, is put into quarantine.

    Raises:
        PipelineError: A file is no bronze file at all.
    """
    attempt = partial(_found_schema, spark, store, lake, table)
    return again(attempt, lake.stream_schema(table))


def _found_schema(spark: SparkSession, store: Store, lake: Lake, table: str) -> StreamSchema:
    known = known_schema(store, lake, table)
    files = _bronze_files(store, lake, table)
    names = frozenset(map(file_name, files))
    before = held_files(store, lake, table)
    held = seen(before, names)
    met = known.files | (before.keys() - waiting(before).keys())
    new = {path: url for path, url in files.items() if file_name(path) not in met}
    opened, refused = frozenset(map(file_name, new)), dict[str, str]()
    if new:
        columns, refused = _union(spark, store, lake, table, new, known.columns)
        columns = StructType([*columns, *(f for f in META if f.name not in columns.names)])
        known = replace(known, columns=columns, files=names)
    if new or held != before:
        held = change(store, lake, table, lambda now: judged(seen(now, names), opened, refused))
    if new:
        # Last: what silver has not met is judged again.
        write_schema(store, lake, table, known)
    return replace(known, files=names, new=opened, held=frozenset(held.keys() & names))


def file_schema(spark: SparkSession, store: Store, lake: Lake, table: str, path: str) -> StructType:
    """Read the columns of one bronze file, by its path from the table's folder.

    Raises:
        PipelineError: Its content can't be read. Where it can't be had, Spark's own error.
    """
    place = f"{lake.bronze_folder(table)}/{path}"
    try:
        return spark.read.option(*_IN_ALL_FOLDERS).parquet(lake.url(place)).schema
    except (PySparkException, Py4JJavaError) as error:
        _fetch(store, place)  # the storage's error, if it is the storage's
        raise PipelineError(unreadable(table, path)) from error


def unreadable(table: str, path: str) -> str:
    """Say that a bronze file's content is broken, and what to do."""
    return (
        f"{table}: bronze file {path} can't be read as Parquet; bring the file back as it was, or "
        "read its rows again: run with from_date and to_date around them"
    )


def broken_files(
    spark: SparkSession, store: Store, lake: Lake, table: str, said: str
) -> dict[str, str]:
    """Name the files of which an error of Spark speaks and which can't be read, each with why.

    A file may have a good end, where its columns stand, and broken rows.
    """
    found: dict[str, str] = {}
    for path in names_in_bronze(store, lake, table):
        if file_name(path) in unquote(said):
            place = f"{lake.bronze_folder(table)}/{path}"
            rows = spark.read.option(*_IN_ALL_FOLDERS).parquet(lake.url(place))
            every_value = sf.xxhash64(*map(column, rows.columns))
            try:
                rows.agg(sf.max(every_value)).collect()
            except (PySparkException, Py4JJavaError):
                _fetch(store, place)
                found[file_name(path)] = unreadable(table, path)
    return found


def bronze_stream(spark: SparkSession, lake: Lake, table: str, schema: StreamSchema) -> DataFrame:
    """Open a table's bronze as a stream, without the files that are in quarantine."""
    open_files = auto_loader if is_databricks() else _file_stream
    rows = open_files(spark, schema.columns).load(lake.url(lake.bronze_folder(table)))
    return with_order(published(rows, table, schema.held))


def published(rows: DataFrame, table: str, held: Collection[str] = ()) -> DataFrame:
    """Take only what lies where bronze files are published, and not in quarantine.

    Spark opens no file that this leaves out, such as one that was moved out of the way.
    """
    chosen = sf.col("_metadata.file_path").rlike(f"/{table}/{PUBLISHED}$")
    if held:
        chosen &= ~sf.col("_metadata.file_name").isin(*held)
    return rows.where(chosen)


def bronze_file(
    spark: SparkSession, lake: Lake, table: str, path: str, columns: StructType
) -> DataFrame:
    """Open one bronze file, by its path from the table's folder, under a schema."""
    reader = spark.read.schema(columns).option(*_IN_ALL_FOLDERS)
    return reader.parquet(lake.url(f"{lake.bronze_folder(table)}/{path}"))


def with_order(rows: DataFrame) -> DataFrame:
    """Add to the rows of bronze files the files' names, and what gives an order to ADF's.

    Files that Azure Data Factory wrote have none of our columns: their rows are upserts, in the
    order of the time in the file's name (UTC).
    """
    name = sf.col("_metadata.file_name")
    return rows.withColumns(
        {
            FILE: name,
            "_sequence": sf.coalesce("_sequence", _time_in(name)),
            "_operation": sf.coalesce("_operation", sf.lit("upsert")),
        }
    )


def _file_stream(spark: SparkSession, columns: StructType) -> DataStreamReader:
    reader = spark.readStream.schema(columns).format("parquet").option("maxFileAge", _NO_AGE_LIMIT)
    # A day's folder is no partition: a table may have a column `date` of its own.
    return reader.option(*_IN_ALL_FOLDERS)


def allow_adfs_names(spark: SparkSession, store: Store, lake: Lake, tables: Iterable[str]) -> None:
    """Let Spark read a local folder in which a file's name holds colons, as Azure Data Factory's.

    Hadoop's usual file system keeps a checksum beside each file, and can't name it then; the one
    without checksums can. It stays with the session.
    """
    if is_databricks():
        return  # its lake is no local folder
    names = (name for table in tables for name in names_in_bronze(store, lake, table))
    if any(":" in name for name in names):
        conf = spark.sparkContext._jsc.hadoopConfiguration()  # noqa: SLF001  there is no other way
        conf.set("fs.file.impl", "org.apache.hadoop.fs.RawLocalFileSystem")
        conf.set("fs.file.impl.disable.cache", "true")


def _time_in(file_name: Column) -> Column:
    # As tidemark.layout.sequence_of reads it, cut to microseconds.
    stamp = sf.regexp_extract(file_name, r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)", 1)
    return sf.try_to_timestamp(sf.concat(stamp, sf.lit("Z")))


def _bronze_files(store: Store, lake: Lake, table: str) -> dict[str, str]:
    """List a table's files, in the order of their names: path from its folder → URL."""
    folder = lake.bronze_folder(table)
    paths = sorted(names_in_bronze(store, lake, table), key=file_name)
    for path in paths:
        if sequence_of(file_name(path)) is None:
            message = (
                f"{table}: {folder}/{path} is no bronze file by its name "
                f"({table}_<time>.parquet); move it elsewhere and run again"
            )
            raise PipelineError(message)
    return {path: lake.url(f"{folder}/{path}") for path in paths}


def _union(  # noqa: PLR0917  the session, store and lake first, as everywhere
    spark: SparkSession,
    store: Store,
    lake: Lake,
    table: str,
    files: Mapping[str, str],
    known: StructType,
) -> tuple[StructType, dict[str, str]]:
    """Add the columns of files to those known; files that do not go with them, each with why."""
    if len(files) > 1:
        reader = spark.read.option("mergeSchema", "true").option(*_IN_ALL_FOLDERS)
        try:
            found = reader.parquet(*files.values()).schema
            return merged(known, found, known, table, "of several"), {}
        except (PySparkException, Py4JJavaError, PipelineError):
            pass  # Spark does not say which file, and widens no integers: one by one, then.
    columns, refused = known, {}
    for path in files:
        try:
            found = file_schema(spark, store, lake, table, path)
            columns = merged(columns, found, known, table, path)
        except PipelineError as error:
            refused[file_name(path)] = str(error)
    return columns, refused


def _fetch(store: Store, path: str) -> None:
    """Fetch a whole file, to see that storage gives it: then it is its content that is wrong."""
    place = store.readable(path)
    with place.open("rb") if isinstance(place, Path) else place as file:
        while file.read(_CHUNK):
            pass


def merged(
    columns: StructType, found: StructType, kept: StructType, table: str, file: str
) -> StructType:
    """Add a file's columns to a schema; a type may become wider, but not that of a kept column.

    Args:
        columns: The schema so far.
        found: The file's schema.
        kept: What silver was written with; its types stay as they are.
        table: For the message.
        file: For the message.

    Raises:
        PipelineError: A column's types do not go together.
    """
    fields = {field.name.lower(): field for field in columns}
    fixed = {field.name.lower(): field.dataType for field in kept}
    for field in found:
        name = field.name.lower()
        mine = fields.setdefault(name, field)
        wide = wider(mine.dataType, field.dataType)
        if wide is None or fixed.get(name, wide) != wide:
            message = (
                f"{table}: column {field.name} is {field.dataType.simpleString()} in bronze file "
                f"{file}, but {mine.dataType.simpleString()} before; "
                f"{_CONTRADICTS if wide is None else _WIDER}"
            )
            raise PipelineError(message)
        fields[name] = StructField(mine.name, wide)
    return StructType(list(fields.values()))


def wider(one: DataType, other: DataType) -> DataType | None:
    """Give the type that holds the values of both without loss; None if none is safe."""
    if one == other:
        return one
    for family in _WIDTHS:
        if type(one) in family and type(other) in family:
            return max(one, other, key=lambda t: family.index(type(t)))
    if isinstance(one, DecimalType) and isinstance(other, DecimalType):
        scale = max(one.scale, other.scale)
        precision = max(one.precision - one.scale, other.precision - other.scale) + scale
        return DecimalType(precision, scale) if precision <= _DIGITS else None
    return None


def known_schema(store: Store, lake: Lake, table: str) -> StreamSchema:
    """Read what silver's stream was written with; nothing before the first."""
    content = store.read(lake.stream_schema(table))
    if content is None:
        return StreamSchema(StructType([]), frozenset())
    value = json.loads(content.data)
    columns, files = StructType.fromJson(value["columns"]), frozenset(value["files"])
    return StreamSchema(columns, files, version=content.version)


def write_schema(store: Store, lake: Lake, table: str, schema: StreamSchema) -> None:
    """Write what silver's stream is written with from now on, if it is still what was read.

    Raises:
        ReadOvertaken: Another one has written it since: its columns would be lost.
    """
    value = {"columns": schema.columns.jsonValue(), "files": sorted(schema.files)}
    store.write_if(lake.stream_schema(table), json.dumps(value).encode(), schema.version)
