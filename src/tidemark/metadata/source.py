"""The models of a source: its connection, alerts and tasks, and its tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from tidemark.errors import ConfigError
from tidemark.metadata.problems import FILLED
from tidemark.metadata.table import Defaults, Table
from tidemark.metadata.types import (
    CLOSED,
    Addresses,
    ConnectionId,
    Duration,
    Events,
    FolderName,
    Schedule,
    Text,
    Texts,
    Timeout,
)
from tidemark.metadata.views import View
from tidemark.suggestions import did_you_mean


class Endpoint(BaseModel):
    """Where the tables are read from."""

    model_config = CLOSED
    connection: ConnectionId = Field(
        description="Airflow connection of the source database. It holds host, login and password; "
        "none of them belongs in this file.",
        examples=["spotify_sql"],
    )
    schema_: Text = Field(
        default="dbo",
        validation_alias="schema",
        description="Schema of every table that does not name its own.",
        examples=["dbo"],
    )
    mask_connection: ConnectionId | None = Field(
        default=None,
        description="Airflow connection whose password is the key of `mask: hmac`. Whoever has it "
        "can find out which value a masked one was; with another key every row changes.",
        examples=["mask_key"],
        json_schema_extra={"default": "none; **required** where a column is masked with `hmac`"},
    )


class Alerts(BaseModel):
    """Who gets a mail, and when."""

    model_config = CLOSED
    to: Addresses = Field(
        default=(),
        description="Recipients; nobody gets a mail if empty.",
        examples=["[data@example.com]"],
    )
    events: Events = Field(
        default=("failure", "recovery"),
        description="When to mail, once per run. `recovery` is the first success after a failure; "
        "`completion` is the end of any run.",
        examples=["[failure, recovery, success]"],
    )
    connection: ConnectionId = Field(
        default="smtp_default",
        description="Airflow connection of the mail server. Without it a run logs a warning and "
        "does not fail.",
        examples=["smtp_default"],
    )


class TaskPolicy(BaseModel):
    """How Airflow runs the tasks."""

    model_config = CLOSED
    retries: int = Field(
        default=3,
        ge=0,
        description="Further attempts of a task that failed for a transient reason. What can't "
        "succeed again is not retried.",
        examples=["3"],
    )
    retry_delay: Duration = Field(
        default=timedelta(minutes=1),
        description="Wait before the first retry; it grows from one retry to the next.",
        examples=["1m"],
    )
    timeout: Timeout = Field(
        default=timedelta(hours=2), description="Longest time of one step.", examples=["2h"]
    )
    pool: Text = Field(
        default="default_pool",
        description="Airflow pool that limits how many reads run at once. It must exist.",
        examples=["default_pool"],
    )


class Reconcile(BaseModel):
    """When the source is compared with its lake, in a Dag of its own, ``<source>_reconcile``."""

    model_config = CLOSED
    schedule: Schedule | None = Field(
        default=None,
        description="When the Dag runs, in UTC: a preset or five cron fields. Without it, only "
        "when somebody triggers it.",
        examples=['"@weekly"'],
    )
    repair: bool = Field(
        default=False,
        description="Whether rows that differ are read again, into bronze, for the next run of the "
        "source's Dag to merge. Without it a run that finds any ends red.",
        examples=["true"],
    )


class Databricks(BaseModel):
    """What runs silver and gold with ``compute: databricks``.

    The names are those of the bundle in production; `TIDEMARK_DATABRICKS_PREFIX` goes before them,
    as a bundle's development mode does it.
    """

    model_config = CLOSED
    connection: ConnectionId = Field(
        default="databricks_default",
        description="Airflow connection of the workspace. It holds the address, and what opens it: "
        "a managed identity, a service principal or a token.",
        examples=["databricks_default"],
    )
    silver_job: Text = Field(
        default="tidemark_silver",
        description="Name of the silver job.",
        examples=["tidemark_silver"],
    )
    gold_pipeline: Text | None = Field(
        default=None,
        description="Name of the gold pipeline.",
        examples=["tidemark_spotify_gold"],
        json_schema_extra={"default": "`tidemark_<source>_gold`"},
    )
    poll: Timeout = Field(
        default=timedelta(seconds=30),
        description="How often Databricks is asked whether the run has ended.",
        examples=["30s"],
    )


class Source(BaseModel):
    """One file of ``config/``: a source, its tables, and how the Dag that is named like it runs."""

    model_config = CLOSED
    name: Text = Field(validation_alias=f"{FILLED}name", description="The file's stem.")
    path: Path = Field(validation_alias=f"{FILLED}path", description="The file.")
    source: Endpoint = Field(
        description="Where the tables are read from.", examples=["{connection: spotify_sql}"]
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When the Dag runs, in UTC: a preset or five cron fields. Without it, only "
        "when somebody triggers it.",
        examples=['"@hourly"', '"30 6 * * 1-5"'],
    )
    start_date: date = Field(
        default=date(2025, 1, 1),
        description="Day before which nothing is scheduled, in UTC. Nothing is caught up by "
        "itself; a backfill may go further back.",
        examples=["2025-01-01"],
    )
    owner: Text = Field(
        default="data-engineering", description="Owner of the Dag.", examples=["music"]
    )
    tags: Texts = Field(default=(), description="Tags of the Dag.", examples=["[music, sql]"])
    alerts: Alerts = Field(
        default=Alerts(),
        description="Who gets a mail, and when.",
        examples=["{to: [data@example.com]}"],
    )
    compute: Literal["spark", "databricks"] = Field(
        default="spark", description="What runs silver and gold.", examples=["databricks"]
    )
    databricks: Databricks = Field(
        default=Databricks(),
        description="Where `compute: databricks` runs them.",
        examples=["{connection: databricks_default}"],
    )
    tasks: TaskPolicy = Field(
        default=TaskPolicy(),
        description="How Airflow runs the tasks.",
        examples=["{retries: 5}"],
    )
    reconcile: Reconcile = Field(
        default=Reconcile(),
        description="When the source is compared with its lake.",
        examples=['{schedule: "@weekly"}'],
    )
    defaults: Defaults = Field(
        default=Defaults(),
        description="What a table gets that leaves the field out.",
        examples=["{cursor: updated_at}"],
    )
    tables: dict[Text, Table] = Field(
        min_length=1,
        description="The tables to ingest: the name in the source, then the table's fields.",
        examples=["{DimUser: {key: user_id, cursor: updated_at}}"],
    )
    views: dict[FolderName, View] = Field(
        default_factory=dict,
        description="Views over gold's tables: the name, unique among gold's, then the view's "
        "fields.",
        examples=["{users: {tables: [{table: dim_user, alias: u, columns: [user_name]}]}}"],
    )

    @field_validator("tables")
    @classmethod
    def _masks_have_a_key(cls, value: dict[str, Table], info: ValidationInfo) -> dict[str, Table]:
        source = info.data.get("source")
        masked = next((name for name, table in value.items() if table.columns.needs_key), None)
        if masked and source and source.mask_connection is None:
            raise PydanticCustomError(
                "no_mask_key",
                "Input masks columns of {table} with hmac, which needs a key: name an Airflow "
                "connection whose password it is in source.mask_connection",
                {"table": masked},
            )
        return value

    @property
    def gold_pipeline(self) -> str:
        """The name of the pipeline that makes gold on Databricks, without a prefix."""
        return self.databricks.gold_pipeline or f"tidemark_{self.name}_gold"

    def tables_named(self, names: Iterable[str]) -> tuple[Table, ...]:
        """Return the tables of these names or lake names, in the file's order; all if empty.

        Raises:
            ConfigError: A name is no table of this source.
        """
        wanted = list(names)
        by_name = {table.lake_name: table for table in self.tables.values()} | self.tables
        for name in wanted:
            if name not in by_name:
                hint, allowed = did_you_mean(name, by_name), ", ".join(self.tables)
                text = f"{self.path}: table {name!r} is unknown{hint} (allowed: {allowed})"
                raise ConfigError(text)
        chosen = {by_name[name].name for name in wanted or self.tables}
        return tuple(table for table in self.tables.values() if table.name in chosen)
