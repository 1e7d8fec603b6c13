"""What a batch is judged by, noted before its first write: a batch that was begun ends by the same.

A batch writes several tables, each once, whatever comes of it. Were it killed between two of them
and judged anew by other rules, a row could end in both gold and quarantine, or in neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tidemark.layout import Lake
from tidemark.spark.expectations import Expectations
from tidemark.storage import open_store


@dataclass(frozen=True)
class Judgement:
    """What the rows of a flow must fulfil, and where those go that are dropped.

    Attributes:
        expectations: By kind.
        quarantine: The Delta table, as a path in the lake; None: what is dropped is not kept.
    """

    expectations: Expectations = field(default_factory=Expectations)
    quarantine: str | None = None


@dataclass(frozen=True)
class Batch:
    """A batch of a flow's stream.

    Attributes:
        lake: The lake.
        name: The flow's target.
        stream: The streaming query's id; a new checkpoint begins a new one.
        number: The batch's number in the stream, from 0.
    """

    lake: Lake
    name: str
    stream: str
    number: int


def judgement_of(batch: Batch, declared: Judgement) -> Judgement:
    """Give what a batch was begun with, or what is declared now if nothing of it was written."""
    found = open_store(batch.lake.root).read(batch.lake.begun_batch(batch.name))
    noted: Mapping[str, Any] = json.loads(found.data) if found else {}
    if (noted.get("stream"), noted.get("batch")) != (batch.stream, batch.number):
        return declared
    return Judgement(Expectations(**noted["expectations"]), noted["quarantine"])


def begin(batch: Batch, judgement: Judgement) -> None:
    """Note what a batch is judged by; from now on it is."""
    value = {"stream": batch.stream, "batch": batch.number} | asdict(judgement)
    store = open_store(batch.lake.root)
    store.write(batch.lake.begun_batch(batch.name), json.dumps(value, indent=1).encode())
