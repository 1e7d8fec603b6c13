"""How the Delta tables of a table are kept tidy: what lies together, and what is thrown away."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from tidemark.metadata.durations import parse_duration
from tidemark.metadata.types import CLOSED, Texts

NEVER = "never"
# Delta's own default. A reader, or a stream that lags, has that long for what it has begun.
LEAST = timedelta(days=7)
_MOST_CLUSTERED = 4


def _vacuum(value: object) -> timedelta | None:
    if value is None or value == NEVER:
        return None
    retention = parse_duration(value)
    if retention < LEAST:
        raise ValueError(
            "which is less than 7d: readers that have begun, and streams that lag, would lose files"
        )
    return retention


Vacuum = Annotated[timedelta | None, BeforeValidator(_vacuum)]


class Maintenance(BaseModel):
    """What ``tidemark maintain`` and the maintenance job do with a table."""

    model_config = CLOSED
    z_order: Texts = Field(
        default=(),
        description="Columns by which rows are put together (Z-order), in the current state and in "
        "gold: those that readers look for. Each maintenance after a change writes the files anew.",
        examples=["[user_id]"],
    )
    cluster_by: Texts = Field(
        default=(),
        description="The same by liquid clustering, which writes only what is not clustered yet: "
        "for large tables. One to four columns; not together with `z_order`.",
        examples=["[track_id, user_id]"],
    )
    vacuum: Vacuum = Field(
        default=LEAST,
        description="How long files that no longer count are kept, for time travel and for readers "
        "that have begun; at least `7d`. `never` keeps them for ever.",
        examples=["30d", "never"],
        json_schema_extra={"type": "duration or `never`"},
    )

    @field_validator("cluster_by")
    @classmethod
    def _one_way(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("z_order"):
            raise ValueError("and z_order too, which exclude each other; leave one of them out")
        if len(value) > _MOST_CLUSTERED:
            raise ValueError(
                f"which are more than {_MOST_CLUSTERED}, Delta's limit; leave some out"
            )
        return value
