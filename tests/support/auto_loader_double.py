"""A `spark.readStream` that knows Auto Loader's options as documented, and refuses any other.

Names and values are those of
https://docs.databricks.com/aws/en/ingestion/cloud-object-storage/auto-loader/options (common, list,
file notification, Azure, generic and Parquet options; read 2026-11) and, for how they go together,
https://docs.databricks.com/aws/en/ingestion/cloud-object-storage/auto-loader/schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Check = Callable[[str], bool]


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _matches(pattern: str) -> Check:
    return lambda value: re.fullmatch(pattern, value) is not None


_BOOLEAN = _one_of("true", "false")
_NUMBER = _matches(r"[1-9]\d*")
_INTERVAL = _matches(r"[1-9]\d* (second|minute|hour|day|week|month|year)s?")
_BYTES = _matches(r"[1-9]\d*([kmgt]b?)?")
_TEXT = _matches(r"(?s).+")
_NAMES = _matches(r"(\w+(,\w+)*)?")

OPTIONS: dict[str, Check] = {
    # Common
    "cloudFiles.allowOverwrites": _BOOLEAN,
    "cloudFiles.backfillInterval": _INTERVAL,
    "cloudFiles.cleanSource": _one_of("OFF", "DELETE", "MOVE"),
    "cloudFiles.cleanSource.retentionDuration": _INTERVAL,
    "cloudFiles.cleanSource.moveDestination": _TEXT,
    "cloudFiles.format": _one_of(
        "avro", "binaryFile", "csv", "json", "orc", "parquet", "text", "xml"
    ),
    "cloudFiles.includeExistingFiles": _BOOLEAN,
    "cloudFiles.inferColumnTypes": _BOOLEAN,
    "cloudFiles.maxBytesPerTrigger": _BYTES,
    "cloudFiles.maxFileAge": _INTERVAL,
    "cloudFiles.maxFilesPerTrigger": _NUMBER,
    "cloudFiles.partitionColumns": _NAMES,
    "cloudFiles.schemaEvolutionMode": _one_of(
        "addNewColumns", "addNewColumnsWithTypeWidening", "rescue", "failOnNewColumns", "none"
    ),
    "cloudFiles.schemaHints": _TEXT,
    "cloudFiles.schemaLocation": _TEXT,
    "cloudFiles.useStrictGlobber": _BOOLEAN,
    "cloudFiles.validateOptions": _BOOLEAN,
    # Directory listing, and file notification
    "cloudFiles.useIncrementalListing": _one_of("auto", "true", "false"),
    "cloudFiles.fetchParallelism": _NUMBER,
    "cloudFiles.pathRewrites": _TEXT,
    "cloudFiles.useManagedFileEvents": _BOOLEAN,
    "cloudFiles.useNotifications": _BOOLEAN,
    # Azure
    "cloudFiles.resourceGroup": _TEXT,
    "cloudFiles.subscriptionId": _TEXT,
    "cloudFiles.clientId": _TEXT,
    "cloudFiles.clientSecret": _TEXT,
    "cloudFiles.connectionString": _TEXT,
    "cloudFiles.tenantId": _TEXT,
    "cloudFiles.queueName": _TEXT,
    "databricks.serviceCredential": _TEXT,
    # Generic, and Parquet
    "ignoreCorruptFiles": _BOOLEAN,
    "ignoreMissingFiles": _BOOLEAN,
    "modifiedAfter": _TEXT,
    "modifiedBefore": _TEXT,
    "pathGlobFilter": _TEXT,
    "recursiveFileLookup": _BOOLEAN,
    "datetimeRebaseMode": _one_of("EXCEPTION", "LEGACY", "CORRECTED"),
    "int96RebaseMode": _one_of("EXCEPTION", "LEGACY", "CORRECTED"),
    "mergeSchema": _BOOLEAN,
    "readerCaseSensitive": _BOOLEAN,
    "rescuedDataColumn": _matches(r"\w+"),
}


@dataclass
class AutoLoader:
    """What was asked of `spark.readStream`; `load` says whether Auto Loader would open it."""

    options: dict[str, str] = field(default_factory=dict)
    source: str | None = None
    columns: Any = None
    folder: str | None = None

    @property
    def readStream(self) -> AutoLoader:  # noqa: N802  Spark's name
        return self

    def format(self, source: str) -> AutoLoader:
        self.source = source
        return self

    def schema(self, columns: Any) -> AutoLoader:
        self.columns = columns
        return self

    def option(self, name: str, value: str) -> AutoLoader:
        if name not in OPTIONS:
            raise ValueError(f"Auto Loader documents no option {name!r}")
        if not OPTIONS[name](value):
            raise ValueError(f"Auto Loader's option {name!r} takes no {value!r}")
        self.options[name] = value
        return self

    def load(self, folder: str) -> AutoLoader:
        mode = self.options.get("cloudFiles.schemaEvolutionMode")
        if self.source != "cloudFiles" or "cloudFiles.format" not in self.options:
            raise ValueError("Auto Loader is the format cloudFiles, and needs cloudFiles.format")
        if self.columns is None and "cloudFiles.schemaLocation" not in self.options:
            raise ValueError("without a schema, cloudFiles.schemaLocation is required")
        if self.columns is not None and str(mode).startswith("addNewColumns"):
            raise ValueError(f"{mode} is not allowed where the schema is given")
        ways = ("cloudFiles.useManagedFileEvents", "cloudFiles.useNotifications")
        if all(self.options.get(way) == "true" for way in ways):
            raise ValueError(f"{' and '.join(ways)} exclude each other")
        self.folder = folder
        return self
