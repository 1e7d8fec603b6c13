"""Expectations: what a row must fulfil, and which rows fail which, told in one column.

The three kinds and their names are Databricks'
(https://docs.databricks.com/aws/en/ldp/expectations): a row that fails is kept and counted
(*warn*), left out and counted (*drop*), or nothing of its batch is applied (*fail*). What the page
leaves open is decided here: a predicate that is NULL is not true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as sf

from tidemark.errors import PipelineError
from tidemark.spark.rules import column

FAILED = "__FAILED_EXPECTATIONS"
Kind = Literal["warn", "drop", "fail"]


@dataclass(frozen=True)
class Expectations:
    """What the rows of a query must fulfil: by kind, a name and a SQL predicate each."""

    warn: Mapping[str, str] = field(default_factory=dict)
    drop: Mapping[str, str] = field(default_factory=dict)
    fail: Mapping[str, str] = field(default_factory=dict)

    @property
    def every(self) -> dict[str, str]:
        """All of them; a name stands in one kind only."""
        return {**self.warn, **self.drop, **self.fail}

    def with_more(self, kind: Kind, more: Mapping[str, str]) -> Expectations:
        """Add some of a kind."""
        known: Mapping[str, str] = getattr(self, kind)
        return replace(self, **{kind: {**known, **more}})


@dataclass(frozen=True)
class Violations:
    """How many rows failed each expectation of a query; one that fails two counts for both.

    Attributes:
        warned: Of those that keep such rows.
        dropped: Of those that leave them out.
    """

    warned: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


def judged(rows: DataFrame, expectations: Mapping[str, str]) -> DataFrame:
    """Add `FAILED`, the names of the expectations that a row fails: those that are not true."""
    names = [
        sf.when(~sf.coalesce(sf.expr(predicate), sf.lit(False)), sf.lit(name))
        for name, predicate in expectations.items()
    ]
    return rows.withColumn(FAILED, sf.array_compact(sf.array(sf.lit(None).cast("string"), *names)))


def passed(dropping: Collection[str]) -> Column:
    """Tell whether a judged row fails none of the expectations that drop it."""
    if not dropping:
        return sf.lit(True)
    return ~sf.arrays_overlap(FAILED, sf.array(*map(sf.lit, dropping)))


def failing(name: str) -> Column:
    """Tell whether a judged row fails an expectation."""
    return sf.array_contains(FAILED, name)


def findings(expectations: Expectations, example: Sequence[str]) -> list[Column]:
    """Give the aggregates over judged rows that `violations` and `refuse` read.

    Args:
        expectations: What the rows were judged by.
        example: The columns by which a row that fails is named.
    """
    shown = sf.to_json(sf.struct(*map(column, example)), {"ignoreNullFields": "false"})
    return [
        *(sf.count_if(failing(name)).alias(f"failed {name}") for name in expectations.every),
        *(sf.min(sf.when(failing(n), shown)).alias(f"example {n}") for n in expectations.fail),
    ]


def violations(facts: Row, expectations: Expectations) -> Violations:
    """Read the counts out of what `findings` found."""
    return Violations(
        warned={name: facts[f"failed {name}"] for name in expectations.warn},
        dropped={name: facts[f"failed {name}"] for name in expectations.drop},
    )


def refuse(name: str, facts: Row, expectations: Expectations) -> None:
    """Let nothing be applied if a row fails what none may fail.

    Raises:
        PipelineError: It names the table or view, each such expectation, how many rows fail it and
            one of them.
    """
    broken = [
        f"expectation {each!r} ({predicate}) is not met by {facts[f'failed {each}']} rows, "
        f"such as {facts[f'example {each}']}"
        for each, predicate in expectations.fail.items()
        if facts[f"failed {each}"]
    ]
    if broken:
        message = (
            f"{name}: {'; '.join(broken)}; nothing of this batch was applied. Correct the "
            "predicate, or name it under expect_or_drop to go on without such rows"
        )
        raise PipelineError(message)


def total(every: Sequence[Violations], expectations: Expectations) -> Violations:
    """Add up what was found in several batches, of which one may have been begun by older rules."""
    warned = Counter(dict.fromkeys(expectations.warn, 0))
    dropped = Counter(dict.fromkeys(expectations.drop, 0))
    for each in every:
        warned.update(each.warned)
        dropped.update(each.dropped)
    return Violations(dict(warned), dict(dropped))


def quarantined(rows: DataFrame, dropping: Mapping[str, str]) -> DataFrame:
    """Keep the rows that expectations drop, each with the names of those it fails in `FAILED`."""
    return judged(rows, dropping).where(sf.size(FAILED) > 0)
