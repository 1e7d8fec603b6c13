"""A table's bronze files as a stream: under which schema, and with which of our columns.

The schema is the union of the columns of all files that the stream has met, kept beside the
stream's checkpoint: a column that left the source is read as NULL, a new one arrives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf
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
from tidemark.storage import Store

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
    """

    columns: StructType
    files: frozenset[str]
    new: frozenset[str] = frozenset()


def stream_schema(spark: SparkSession, store: Store, lake: Lake, table: str) -> StreamSchema:
    """Find the schema for everything that lies in a table's bronze now.

    Only files that were not there the last time are opened.

    Raises:
        PipelineError: A file can't be read, has a column whose type does not go with what was
            there before, or is no bronze file at all.
    """
    path = lake.stream_schema(table)
    known = _read(store, path)
    files = _bronze_files(store, lake, table)
    new = {path: url for path, url in files.items() if file_name(path) not in known.files}
    names = frozenset(map(file_name, files))
    if not new:
        return StreamSchema(known.columns, names)
    columns = known.columns
    for file, found in _schemas(spark, table, new):
        columns = merged(columns, found, known.columns, table, file)
    columns = StructType([*columns, *(f for f in META if f.name not in columns.names)])
    schema = StreamSchema(columns, names, frozenset(map(file_name, new)))
    _write(store, path, schema)
    return schema


def bronze_stream(spark: SparkSession, lake: Lake, table: str, columns: StructType) -> DataFrame:
    """Open a table's bronze as a stream.

    Files that Azure Data Factory wrote have none of our columns: their rows are upserts, in the
    order of the time in the file's name (UTC).
    """
    # On Databricks, Auto Loader (`cloudFiles`) takes this place, with `cloudFiles.partitionColumns`
    # set to "".
    reader = spark.readStream.schema(columns).format("parquet").option("maxFileAge", _NO_AGE_LIMIT)
    # A day's folder is no partition: a table may have a column `date` of its own.
    reader = reader.option(*_IN_ALL_FOLDERS)
    rows = reader.load(lake.url(lake.bronze_folder(table)))
    name = sf.col("_metadata.file_name")
    # Spark opens no file that this leaves out, such as one that was moved out of the way.
    published = sf.col("_metadata.file_path").rlike(f"/{table}/{PUBLISHED}$")
    return rows.where(published).withColumns(
        {
            FILE: name,
            "_sequence": sf.coalesce("_sequence", _time_in(name)),
            "_operation": sf.coalesce("_operation", sf.lit("upsert")),
        }
    )


def allow_adfs_names(spark: SparkSession, store: Store, lake: Lake, tables: Iterable[str]) -> None:
    """Let Spark read a local folder in which a file's name holds colons, as Azure Data Factory's.

    Hadoop's usual file system keeps a checksum beside each file, and can't name it then; the one
    without checksums can. It stays with the session.
    """
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


def _schemas(
    spark: SparkSession, table: str, files: Mapping[str, str]
) -> Iterable[tuple[str, StructType]]:
    if len(files) > 1:
        reader = spark.read.option("mergeSchema", "true").option(*_IN_ALL_FOLDERS)
        try:
            merged = reader.parquet(*files.values()).schema
        except (PySparkException, Py4JJavaError):
            pass  # Spark does not say which file, and widens no integers: one by one, then.
        else:
            return [(list(files)[-1], merged)]
    return ((path, _schema(spark, table, path, url)) for path, url in files.items())


def _schema(spark: SparkSession, table: str, path: str, url: str) -> StructType:
    try:
        return spark.read.option(*_IN_ALL_FOLDERS).parquet(url).schema
    except (PySparkException, Py4JJavaError) as error:
        message = (
            f"{table}: bronze file {path} can't be read as Parquet; move it out of its folder, and "
            "read its rows again: run with from_date and to_date around them"
        )
        raise PipelineError(message) from error


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
                f"{file}, but {mine.dataType.simpleString()} before; give it a name of its own at "
                "the source, then move the file out of its folder and read its rows again: run "
                "with from_date and to_date around them"
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
        return max(one, other, key=lambda t: t.precision) if one.scale == other.scale else None
    return None


def _read(store: Store, path: str) -> StreamSchema:
    content = store.read(path)
    if content is None:
        return StreamSchema(StructType([]), frozenset())
    value = json.loads(content.data)
    return StreamSchema(StructType.fromJson(value["columns"]), frozenset(value["files"]))


def _write(store: Store, path: str, schema: StreamSchema) -> None:
    value = {"columns": schema.columns.jsonValue(), "files": sorted(schema.files)}
    store.write(path, json.dumps(value).encode())
