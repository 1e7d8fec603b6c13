"""What only Databricks has: its catalog, and the credential that opens the lake's small files.

Tables lie where the lake's layout says, on any engine; the catalog gets them as external tables,
which it governs and people find. Spark itself reads and writes the lake by Unity Catalog's external
locations; the markers beside the tables are reached by Azure's SDK, with the token of a service
credential. Names come from the cluster's environment, which the bundle sets.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import SparkSession

from tidemark.errors import ConfigError
from tidemark.lake_access import open_with
from tidemark.layout import Lake
from tidemark.metadata import Source, Table
from tidemark.spark.engine import is_databricks
from tidemark.spark.rules import quoted
from tidemark.storage import open_store

CATALOG = "TIDEMARK_CATALOG"
SCHEMA = "TIDEMARK_SILVER_SCHEMA"
CREDENTIAL = "TIDEMARK_SERVICE_CREDENTIAL"


def use_service_credential() -> None:
    """Let the lake's store ask Unity Catalog for its token; nothing is done elsewhere.

    Without a name the store asks the machine for its identity, which a cluster of Databricks in
    standard access mode does not give.
    """
    name = os.environ.get(CREDENTIAL)
    if is_databricks() and name:
        open_with(lambda: _service_credential(name))


def register_tables(
    session: SparkSession, lake_root: str, source: Source, tables: Iterable[str]
) -> list[str]:
    """Register silver's tables in the catalog that the cluster's environment names.

    What is registered already stays as it is. Nothing is done off Databricks, without a catalog,
    and for a table that is not there yet.

    Args:
        session: The session.
        lake_root: The lake's folder or URL.
        source: The metadata.
        tables: Lake names.

    Returns:
        The names that are registered now, in full.
    """
    catalog = os.environ.get(CATALOG)
    names = list(tables)
    if not is_databricks() or not catalog or not names:
        return []
    lake, store, schema = Lake(lake_root), open_store(lake_root), os.environ.get(SCHEMA, "silver")
    registered = []
    for table in source.tables_named(names):
        for path, comment in _external(lake, source, table):
            if store.names(f"{path}/_delta_log"):
                name = ".".join(map(quoted, (catalog, schema, path.rpartition("/")[2])))
                session.sql(statement(name, lake.url(path), comment))
                registered.append(name)
    return registered


def statement(name: str, url: str, comment: str) -> str:
    """Write the statement that registers a table.

    Args:
        name: In full, quoted.
        url: Where it lies.
        comment: What it is.
    """
    return (
        f"CREATE TABLE IF NOT EXISTS {name} USING DELTA "
        f"LOCATION {_text(url)} COMMENT {_text(comment)}"
    )


def _external(lake: Lake, source: Source, table: Table) -> Iterator[tuple[str, str]]:
    of = f"{table.schema_}.{table.name} of {source.name}"
    yield lake.silver(table.lake_name), f"The rows as they are now: {of}, cleaned"
    yield lake.changes(table.lake_name), f"Every distinct change, appended: {of}, cleaned"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _service_credential(name: str) -> Any:
    # Not at the top: there is no such module elsewhere.
    dbutils = importlib.import_module("databricks.sdk.runtime").dbutils
    try:
        return dbutils.credentials.getServiceCredentialsProvider(name)
    except Exception as error:
        message = (
            f"the service credential {name!r} ({CREDENTIAL}) can't be used: {error}; create it, "
            f"and GRANT ACCESS ON SERVICE CREDENTIAL {quoted(name)} to whom the job runs as "
            "(docs/azure-setup.md)"
        )
        raise ConfigError(message) from error
