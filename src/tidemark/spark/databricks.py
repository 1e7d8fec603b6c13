"""What only Databricks has, on silver's side: Auto Loader in the place of Spark's file stream.

The options are those of https://docs.databricks.com/aws/en/ingestion/cloud-object-storage/auto-loader/options
and, for the schema, of …/auto-loader/schema; a test refuses what is not documented there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from pyspark.sql import SparkSession
from pyspark.sql.streaming.readwriter import DataStreamReader
from pyspark.sql.types import StructType

from tidemark.errors import ConfigError

# What did not fit into the schema, as JSON with the file's path; a column of silver only where
# there is such a row.
RESCUED = "_rescued_data"
FILES_BY, MAX_FILES = "TIDEMARK_AUTO_LOADER_FILES", "TIDEMARK_AUTO_LOADER_MAX_FILES"
EVOLUTION = "TIDEMARK_AUTO_LOADER_SCHEMA_EVOLUTION"
# The modes for a schema that is given; `addNewColumns` is not allowed then.
_MODES = ("none", "rescue", "failOnNewColumns")
_FOUND_BY: dict[str, dict[str, str]] = {
    "listing": {},
    # File events of the Unity Catalog external location.
    "events": {"cloudFiles.useManagedFileEvents": "true"},
    # Auto Loader's own subscription and queue, with rights to make them.
    "notifications": {"cloudFiles.useNotifications": "true"},
}


def auto_loader(spark: SparkSession, columns: StructType) -> DataStreamReader:
    """Open Auto Loader under a schema of ours; only the folder is still to be named."""
    reader = spark.readStream.format("cloudFiles").schema(columns)
    for name, value in auto_loader_options(os.environ).items():
        reader = reader.option(name, value)
    return reader


def auto_loader_options(environ: Mapping[str, str]) -> dict[str, str]:
    """Give Auto Loader's options.

    The schema is ours, the union of all files' (`tidemark.spark.bronze_stream`), so that both
    engines take the same columns. With a given schema Auto Loader neither infers nor stores one (no
    ``cloudFiles.schemaLocation``), and the mode of evolution is ``none``: ``addNewColumns`` is
    not allowed then. What does not fit all the same is rescued, not dropped. ``maxFileAge`` is left
    at its default, no limit. What a mode does is left to say only for a file that is published
    after its schema was looked for: ours has the columns of all others.

    Args:
        environ: ``TIDEMARK_AUTO_LOADER_FILES``: how files are found, ``listing`` (the default),
            ``events`` or ``notifications``; ``TIDEMARK_AUTO_LOADER_MAX_FILES``: files in a batch;
            ``TIDEMARK_AUTO_LOADER_SCHEMA_EVOLUTION``: ``none`` (the default), ``rescue`` or
            ``failOnNewColumns``.

    Raises:
        ConfigError: One of them is no such value.
    """
    found_by = _one_of(_FOUND_BY, FILES_BY, environ)
    mode = _one_of(_MODES, EVOLUTION, environ)
    most = environ.get(MAX_FILES) or "1000"
    if not most.isdecimal() or not int(most):
        raise ConfigError(f"{MAX_FILES} is {most!r}; set it to a whole number above 0")
    return {
        "cloudFiles.format": "parquet",
        "cloudFiles.schemaEvolutionMode": mode,
        "cloudFiles.maxFilesPerTrigger": most,
        # A day's folder is no partition: a table may have a column `date` of its own.
        "cloudFiles.partitionColumns": "",
        "cloudFiles.validateOptions": "true",
        "rescuedDataColumn": RESCUED,
        # The union of the columns goes by their names whatever the case, as Delta's do.
        "readerCaseSensitive": "false",
        **_FOUND_BY[found_by],
    }


def _one_of(values: Collection[str], name: str, environ: Mapping[str, str]) -> str:
    """Read a setting; the first value is the default."""
    value = environ.get(name) or next(iter(values))
    if value not in values:
        raise ConfigError(f"{name} is {value!r}; set it to one of {', '.join(values)}")
    return value
