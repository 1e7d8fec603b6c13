"""Expectations of the kind *or drop*: which rows fail which, told in one column."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

FAILED = "__FAILED"


def judged(rows: DataFrame, expectations: Mapping[str, str]) -> DataFrame:
    """Add `FAILED`, the names of the expectations that a row fails: those that are not true."""
    names = [
        sf.when(~sf.coalesce(sf.expr(predicate), sf.lit(False)), sf.lit(name))
        for name, predicate in expectations.items()
    ]
    return rows.withColumn(FAILED, sf.array_compact(sf.array(sf.lit(None).cast("string"), *names)))


def passed() -> Column:
    """Tell whether a judged row fulfils everything."""
    return sf.size(FAILED) == 0


def failures(name: str) -> Column:
    """Count the judged rows that fail an expectation."""
    return sf.count_if(sf.array_contains(FAILED, name))
