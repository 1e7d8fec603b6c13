"""The models of the metadata: frozen, strict (``"5"`` is no number), closed (no unknown field).

Their descriptions and examples are what ``docs/config.md`` is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tidemark.errors import ConfigError
from tidemark.metadata_errors import FILLED
from tidemark.metadata_types import (
    Addresses,
    ConnectionId,
    Duration,
    Events,
    FolderName,
    Future,
    Key,
    Lookback,
    Schedule,
    Strategy,
    Text,
    Texts,
    Timeout,
    TimeZone,
    is_folder_name,
)
from tidemark.suggestions import did_you_mean

_CLOSED = ConfigDict(
    frozen=True, strict=True, extra="forbid", validate_by_name=True, validate_by_alias=True
)


def snake_case(name: str) -> str:
    """Return a table's name as gold and the rules write it: ``DimUser`` is ``dim_user``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Endpoint(BaseModel):
    """Where the tables are read from."""

    model_config = _CLOSED
    connection: ConnectionId = Field(
        description="Airflow connection of the source database. It holds host, login and password; "
        "none of them belongs in this file.",
        examples=["spotify_sql"],
    )
    schema_: Text = Field(
        "dbo",
        validation_alias="schema",
        description="Schema of every table that does not name its own.",
        examples=["dbo"],
    )


class Alerts(BaseModel):
    """Who gets a mail, and when."""

    model_config = _CLOSED
    to: Addresses = Field(
        (), description="Recipients; nobody gets a mail if empty.", examples=["[data@example.com]"]
    )
    events: Events = Field(
        ("failure", "recovery"),
        description="When to mail, once per run. `recovery` is the first success after a failure; "
        "`completion` is the end of any run.",
        examples=["[failure, recovery, success]"],
    )
    connection: ConnectionId = Field(
        "smtp_default",
        description="Airflow connection of the mail server. Without it a run logs a warning and "
        "does not fail.",
        examples=["smtp_default"],
    )


class TaskPolicy(BaseModel):
    """How Airflow runs the tasks."""

    model_config = _CLOSED
    retries: int = Field(
        3,
        ge=0,
        description="Further attempts of a task that failed for a transient reason. What can't "
        "succeed again is not retried.",
        examples=["3"],
    )
    retry_delay: Duration = Field(
        timedelta(minutes=1),
        description="Wait before the first retry; it grows from one retry to the next.",
        examples=["1m"],
    )
    timeout: Timeout = Field(
        timedelta(hours=2), description="Longest time of one step.", examples=["2h"]
    )
    pool: Text = Field(
        "default_pool",
        description="Airflow pool that limits how many reads run at once. It must exist.",
        examples=["default_pool"],
    )


class Gold(BaseModel):
    """How a table appears in gold."""

    model_config = _CLOSED
    scd: Literal[1, 2] = Field(
        description="1 keeps the current rows; 2 keeps a row for each version, with `__START_AT` "
        "and `__END_AT`.",
        examples=["2"],
    )
    name: FolderName = Field(
        description="Name of the gold table; unique within the lake.",
        examples=["dim_user"],
        json_schema_extra={"default": "`lake_name` in snake_case"},
    )
    expect_or_drop: dict[Text, Text] = Field(
        default_factory=dict,
        description="Expectations: a name and a SQL predicate each. A row for which one is not "
        "true is dropped, and counted in the run's report. Deletes are never dropped.",
        examples=["{valid_id: user_id IS NOT NULL}"],
    )
    track: Texts = Field(
        (),
        description="With `scd: 2`: the columns whose change makes a new version; all if empty.",
        examples=["[country, subscription_type]"],
    )
    sequence_by: Text | None = Field(
        None,
        description="Column whose order makes the history, for history in business time. By "
        "default the order in which the versions were read (`_sequence`).",
        examples=["updated_at"],
    )

    @field_validator("track")
    @classmethod
    def _track_needs_history(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("scd") == 1:
            raise ValueError("which needs history; write scd: 2, or leave 'track' out")
        return value


class Table(BaseModel):
    """One table of the source, with what `defaults` gives it already filled in."""

    model_config = _CLOSED
    name: Text = Field(validation_alias=f"{FILLED}name", description="The table's name.")
    schema_: Text = Field(
        "dbo",
        validation_alias="schema",
        description="Schema of the table in the source.",
        examples=["sales"],
        json_schema_extra={"default": "`source.schema`"},
    )
    lake_name: FolderName = Field(
        description="Name of the table in bronze and silver; unique within the lake, whatever the "
        "case of its letters.",
        examples=["SalesOrderLine"],
        json_schema_extra={"default": "the table's name"},
    )
    key: Key = Field(
        description="Primary key: one column or a list of columns, unique in the source.",
        examples=["user_id", "[order_id, line_no]"],
        json_schema_extra={"type": "text or list of text"},
    )
    cursor: Text = Field(
        description="Column that moves forward with each change. Strategy `watermark` reads the "
        "rows above the highest value that it has stored.",
        examples=["updated_at"],
    )
    strategy: Strategy = Field(
        "watermark", description="How changes are found.", examples=["watermark"]
    )
    cursor_timezone: TimeZone = Field(
        "UTC",
        description="IANA time zone of a cursor that carries none itself. Data intervals are "
        "mapped with it.",
        examples=["Europe/Berlin"],
    )
    lookback: Lookback = Field(
        timedelta(hours=1),
        description="How far below the stored watermark each read begins, for rows that were "
        "committed late. For an integer cursor a whole number, in the cursor's own units. Rows "
        "that did not change are dropped again, so that a long lookback costs only the reading.",
        examples=["2d", "1000"],
        json_schema_extra={"type": "duration or whole number"},
    )
    clock_lag: Duration = Field(
        timedelta(0),
        description="How far behind the source's clock a read ends: longer than the longest "
        "transaction that sets the cursor before it commits.",
        examples=["5m"],
    )
    future: Future = Field(
        "hold",
        description="What to do with a row whose cursor lies in the future. `hold` counts and "
        "names it and leaves it until its time comes; `take` reads it, for a cursor that is no "
        "change time, such as a calendar's date.",
        examples=["take"],
    )
    rule: Text | None = Field(
        None,
        description="Function in `spark_jobs/rules/<source>.py` that cleans the rows for silver.",
        examples=["dim_user"],
        json_schema_extra={
            "default": "`lake_name` in snake_case if there is such a function, "
            "else the rows pass through"
        },
    )
    gold: Gold | None = Field(
        None,
        description="How the table appears in gold; without it the table stops at silver.",
        examples=["{scd: 2}"],
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_names(cls, data: object) -> object:
        """Fill in the names that derive from others: lake_name, and gold's name from it."""
        if not isinstance(data, dict):
            return data
        filled: dict[str, Any] = {"lake_name": data.get(f"{FILLED}name", data.get("name")), **data}
        lake_name, gold = filled["lake_name"], filled.get("gold")
        if isinstance(gold, dict) and "name" not in gold:
            # A bad lake_name is reported once, not as gold's name too.
            name = snake_case(lake_name) if is_folder_name(lake_name) else "unknown"
            filled["gold"] = {"name": name, **gold}
        return filled


class Defaults(BaseModel):
    """What a table gets that leaves the field out: one level, a value is taken whole or not."""

    model_config = _CLOSED
    schema_: Text | None = Field(None, validation_alias="schema")
    cursor: Text | None = None
    strategy: Strategy | None = None
    cursor_timezone: TimeZone | None = None
    lookback: Lookback | None = None
    clock_lag: Duration | None = None
    future: Future | None = None


class Source(BaseModel):
    """One file of ``config/``: a source, its tables, and how the Dag that is named like it runs."""

    model_config = _CLOSED
    name: Text = Field(validation_alias=f"{FILLED}name", description="The file's stem.")
    path: Path = Field(validation_alias=f"{FILLED}path", description="The file.")
    source: Endpoint = Field(
        description="Where the tables are read from.", examples=["{connection: spotify_sql}"]
    )
    schedule: Schedule | None = Field(
        None,
        description="When the Dag runs, in UTC: a preset or five cron fields. Without it, only "
        "when somebody triggers it.",
        examples=['"@hourly"', '"30 6 * * 1-5"'],
    )
    start_date: date = Field(
        date(2025, 1, 1),
        description="First day that a backfill may ask for, in UTC. Nothing is caught up by "
        "itself.",
        examples=["2025-01-01"],
    )
    owner: Text = Field("data-engineering", description="Owner of the Dag.", examples=["music"])
    tags: Texts = Field((), description="Tags of the Dag.", examples=["[music, sql]"])
    alerts: Alerts = Field(
        default_factory=Alerts,
        description="Who gets a mail, and when.",
        examples=["{to: [data@example.com]}"],
    )
    compute: Literal["spark"] = Field(
        "spark", description="What runs silver and gold.", examples=["spark"]
    )
    tasks: TaskPolicy = Field(
        default_factory=TaskPolicy,
        description="How Airflow runs the tasks.",
        examples=["{retries: 5}"],
    )
    defaults: Defaults = Field(
        default_factory=Defaults,
        description="What a table gets that leaves the field out.",
        examples=["{cursor: updated_at}"],
    )
    tables: dict[Text, Table] = Field(
        min_length=1,
        description="The tables to ingest: the name in the source, then the table's fields.",
        examples=["{DimUser: {key: user_id, cursor: updated_at}}"],
    )

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
                raise ConfigError(f"{self.path}: table {name!r} is unknown{hint} "
                                  f"(allowed: {allowed})")  # fmt: skip
        chosen = {by_name[name].name for name in wanted or self.tables}
        return tuple(table for table in self.tables.values() if table.name in chosen)
