"""An AUTO CDC flow, as it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ChangeFlow:
    """A declared AUTO CDC flow; the fields are `tidemark.spark.declare.create_auto_cdc_flow`'s.

    Expressions stay SQL text until there is a batch to evaluate them on.
    """

    target: str
    source: str
    keys: tuple[str, ...]
    sequence_by: str
    apply_as_deletes: str | None = None
    except_columns: tuple[str, ...] = ()
    scd_type: Literal[1, 2] = 1
    track: tuple[str, ...] = ()
