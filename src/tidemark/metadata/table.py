"""The models of one table: frozen, strict (``"5"`` is no number), closed (no unknown field).

The descriptions and examples of all models are what ``docs/config.md`` is made of.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tidemark.metadata.columns import Columns, named_in, varying_in
from tidemark.metadata.maintenance import Maintenance
from tidemark.metadata.problems import FILLED
from tidemark.metadata.types import (
    CLOSED,
    BronzeLayout,
    Duration,
    FolderName,
    Future,
    Key,
    Lookback,
    NullCursor,
    Processing,
    Ranges,
    ScdType,
    Strategy,
    Text,
    Texts,
    TimeZone,
    is_folder_name,
)


def snake_case(name: str) -> str:
    """Return a table's name as gold and the rules write it: ``DimUser`` is ``dim_user``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Gold(BaseModel):
    """How a table appears in gold."""

    model_config = CLOSED
    scd: ScdType = Field(
        description="1 keeps the current rows; 2 keeps a row for each version, with `__START_AT` "
        "and `__END_AT`.",
        examples=["2"],
    )
    name: FolderName = Field(
        description="Name of the gold table; unique within the lake, and no other table's of the "
        "file with `_changes`, nor of the lake with `_quarantine` behind it.",
        examples=["dim_user"],
        json_schema_extra={"default": "`lake_name` in snake_case"},
    )
    expect: dict[Text, Text] = Field(
        default_factory=dict,
        description="Expectations: a name and a SQL predicate each; NULL is not true. A row for "
        "which one is not true is counted in the run's report, and kept. Deletes are never judged. "
        "A name stands once in the three fields ([gold.md](gold.md)).",
        examples=["{known_country: country IS NOT NULL}"],
    )
    expect_or_drop: dict[Text, Text] = Field(
        default_factory=dict,
        description="The same, but the row does not reach the table: it is dropped, counted, and "
        "kept in `gold/<name>_quarantine` with the names of the expectations it fails.",
        examples=["{valid_id: user_id IS NOT NULL}"],
    )
    expect_or_fail: dict[Text, Text] = Field(
        default_factory=dict,
        description="The same, but a single such row fails the table's flow: nothing of its batch "
        "is applied, and the other tables go on.",
        examples=["{sane_duration: duration_sec < 86400}"],
    )
    track: Texts = Field(
        default=(),
        description="With `scd: 2`: the columns whose change makes a new version; all if empty.",
        examples=["[country, subscription_type]"],
    )
    sequence_by: Text | None = Field(
        default=None,
        description="Column whose order makes the history, for history in business time. By "
        "default the order in which the versions were read (`_sequence`).",
        examples=["updated_at"],
    )

    @field_validator("expect_or_drop", "expect_or_fail")
    @classmethod
    def _one_kind_a_name(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for other in ("expect", "expect_or_drop"):
            twice = next((name for name in value if name in info.data.get(other, {})), None)
            if twice is not None and other != info.field_name:
                raise ValueError(f"but {other!r} has a {twice!r} too; give one another name")
        return value

    @field_validator("expect_or_drop")
    @classmethod
    def _judged_alike_each_time(cls, value: dict[str, str]) -> dict[str, str]:
        for name, predicate in value.items():
            if varying := varying_in(predicate):
                raise ValueError(
                    f"but {varying!r} in {name!r} may say otherwise when the row is judged again, "
                    "for its quarantine; compare columns, such as '_sequence'"
                )
        return value

    @property
    def columns_named(self) -> dict[str, tuple[str, ...]]:
        """The columns that gold needs, as far as they can be told, by what names them."""
        named = {"gold.track": self.track}
        for kind in ("expect", "expect_or_drop", "expect_or_fail"):
            for name, predicate in getattr(self, kind).items():
                named[f"gold.{kind}.{name}"] = tuple(sorted(named_in(predicate)))
        return named

    @field_validator("track")
    @classmethod
    def _track_needs_history(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("scd") == 1:
            raise ValueError("which needs history; write scd: 2, or leave 'track' out")
        return value


class Table(BaseModel):
    """One table of the source, with what `defaults` gives it already filled in."""

    model_config = CLOSED
    name: str = Field(validation_alias=f"{FILLED}name", description="The table's name.")
    schema_: Text = Field(
        default="dbo",
        validation_alias="schema",
        description="Schema of the table in the source.",
        examples=["sales"],
        json_schema_extra={"default": "`source.schema`"},
    )
    lake_name: FolderName = Field(
        default="",  # never stays so: _fill_names
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
    strategy: Strategy | None = Field(
        default=None,
        description="How changes are found: `watermark` by the cursor, `snapshot` by comparing the "
        "whole table with what was read before, and on SQL Server `rowversion`, "
        "`change_tracking` and `cdc` by what the database records. `tidemark plan` shows the "
        "choice, and what it cannot see.",
        examples=["snapshot"],
        json_schema_extra={
            "default": "the best that the table offers: `cdc`, `change_tracking` or `rowversion` "
            "where the database has it, else `watermark` with a `cursor`, else `snapshot`"
        },
    )
    cursor: Text | None = Field(
        default=None,
        validate_default=True,
        description="Column that moves forward with each change. Strategy `watermark` reads the "
        "rows from the stored highest value, less the `lookback`, up to the highest value there is "
        "now, both included, and keeps those that changed. The other strategies need none; with "
        "one, a span of time can be read again, and `cdc.json` holds how far it came.",
        examples=["updated_at"],
        json_schema_extra={
            "default": "**required** with strategy `watermark`, here or in `defaults`"
        },
    )
    cursor_timezone: TimeZone = Field(
        default="UTC",
        description="IANA time zone of a cursor that carries none itself. Data intervals are "
        "mapped with it.",
        examples=["Europe/Berlin"],
    )
    lookback: Lookback = Field(
        default=timedelta(hours=1),
        description="How far below the stored watermark each read begins, for rows that were "
        "committed late. For an integer cursor a whole number, in the cursor's own units. Rows "
        "that did not change are dropped again, so that a long lookback costs only the reading.",
        examples=["2d", "1000"],
        json_schema_extra={"type": "duration or whole number"},
    )
    clock_lag: Duration = Field(
        default=timedelta(0),
        description="How far behind the source's clock a read ends: longer than the longest "
        "transaction that sets the cursor before it commits.",
        examples=["5m"],
    )
    future: Future = Field(
        default="hold",
        description="What to do with a row whose cursor lies in the future. `hold` counts and "
        "names it and leaves it until its time comes; `take` reads it, for a cursor that is no "
        "change time, such as a calendar's date.",
        examples=["take"],
    )
    null_cursor: NullCursor = Field(
        default="include",
        description="What strategy `watermark` does with rows that have no cursor. `include` "
        "reads them each time and keeps those that changed; `exclude` leaves them, counted and "
        "named; `raise` fails the table.",
        examples=["exclude"],
    )
    initial_ranges: Ranges | None = Field(
        default=None,
        description="Into how many ranges of the key the initial load is split, 2 to 100, by the "
        "first column of the key. They are read side by side, as many at a time as the pool has "
        "slots; each becomes a file of its own, and a load that failed goes on with the ranges "
        "that are missing. Later reads are never split, nor is strategy `snapshot`.",
        examples=["8"],
        json_schema_extra={"type": "whole number", "default": "the load is one read"},
    )
    rule: Text | None = Field(
        default=None,
        description="Function in `spark_jobs/rules/<source>.py` that cleans the rows for silver.",
        examples=["dim_user"],
        json_schema_extra={
            "default": "`lake_name` in snake_case if there is such a function, "
            "else the rows pass through"
        },
    )
    gold: Gold | None = Field(
        default=None,
        description="How the table appears in gold; without it the table stops at silver.",
        examples=["{scd: 2}"],
    )
    bronze_layout: BronzeLayout = Field(
        default="flat",
        description="Where a read's file lies in `bronze/<Table>/`: `flat`, directly in it, as "
        "Azure Data Factory's do; `dated`, in a folder for the day of the read in UTC, "
        "`date=YYYY-MM-DD/`, for tables that are to live for years. Both are read, whatever it "
        "says: it may change at any time, and the files that are there stay where they are.",
        examples=["dated"],
    )
    maintenance: Maintenance = Field(
        default=Maintenance(),
        description="How `tidemark maintain` keeps the table's silver and gold: small files are "
        "put together, and those that no longer count removed.",
        examples=["{z_order: [user_id], vacuum: 30d}"],
    )
    processing: Processing = Field(
        default="triggered",
        description="When silver takes new bronze files: `triggered`, with each run of the Dag; "
        "`continuous`, within seconds, by a stream that keeps running (`tidemark stream`, or the "
        "job `silver_stream` on Databricks). While no stream runs, the Dag's runs take them, in a "
        "lake on this machine's disk; in Azure they wait for it. Gold is brought up to date by the "
        "Dag's runs alone.",
        examples=["continuous"],
    )
    columns: Columns = Field(
        default=Columns(),
        description="Which columns reach the lake, and in which form; all as they are, without it.",
        examples=["{exclude: [internal_note], mask: {email: redact}}"],
    )

    @field_validator("columns")
    @classmethod
    def _needed_columns_stay(cls, value: Columns, info: ValidationInfo) -> Columns:
        gold = info.data.get("gold")
        needed = {
            "key": info.data.get("key") or (),
            "cursor": filter(None, [info.data.get("cursor")]),
            "gold.sequence_by": filter(None, [gold and gold.sequence_by]),
        }
        for what, names in needed.items():
            if hidden := value.hidden(names):
                raise ValueError(
                    f"but {hidden!r} is its {what}, by which rows are told apart or ordered: it "
                    "can be neither excluded nor masked"
                )
        # A masked column still changes where its value does; one that is not read never does.
        for what, names in gold.columns_named.items() if gold else ():
            if left_out := value.first_excluded(names):
                raise ValueError(f"but {what} names {left_out!r}, which must then be read")
        return value

    @field_validator("initial_ranges")
    @classmethod
    def _a_snapshot_is_one_read(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("strategy") == "snapshot":
            raise ValueError("but strategy snapshot reads the whole table in one; leave it out")
        return value

    @field_validator("cursor")
    @classmethod
    def _watermark_needs_a_cursor(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("strategy") == "watermark":
            raise PydanticCustomError("missing", "the field is required")
        return value

    @property
    def chosen_strategy(self) -> Strategy:
        """The strategy as far as the metadata alone decides it."""
        return self.strategy or ("watermark" if self.cursor else "snapshot")

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

    model_config = CLOSED
    schema_: Text | None = Field(default=None, validation_alias="schema")
    cursor: Text | None = None
    strategy: Strategy | None = None
    cursor_timezone: TimeZone | None = None
    lookback: Lookback | None = None
    clock_lag: Duration | None = None
    future: Future | None = None
    null_cursor: NullCursor | None = None
    bronze_layout: BronzeLayout | None = None
    maintenance: Maintenance | None = None
    processing: Processing | None = None
