"""The union of files' columns, whatever the files and their order: no type loses what it held."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.types import (
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from tidemark.errors import PipelineError
from tidemark.spark.bronze_stream import merged, wider

BITS = {ByteType: 8, ShortType: 16, IntegerType: 32, LongType: 64, FloatType: 132, DoubleType: 164}
PLAIN = [*BITS, BooleanType, DateType, StringType, TimestampType]
DECIMALS = st.integers(1, 38).flatmap(
    lambda digits: st.integers(0, digits).map(lambda scale: DecimalType(digits, scale))
)
TYPES = st.one_of(st.sampled_from(PLAIN).map(lambda kind: kind()), DECIMALS)
FILES = st.lists(st.dictionaries(st.sampled_from("abC"), TYPES, min_size=1), min_size=1, max_size=5)


def schema(columns: dict[str, DataType]) -> StructType:
    return StructType([StructField(name, kind) for name, kind in columns.items()])


def union(files: Sequence[dict[str, DataType]]) -> dict[str, DataType] | None:
    columns = StructType([])
    try:
        for number, file in enumerate(files):
            columns = merged(columns, schema(file), StructType([]), "T", f"f{number}")
    except PipelineError:
        return None
    return {field.name.lower(): field.dataType for field in columns}


def holds(wide: DataType, narrow: DataType) -> bool:
    if isinstance(wide, DecimalType) and isinstance(narrow, DecimalType):
        whole = wide.precision - wide.scale >= narrow.precision - narrow.scale
        return whole and wide.scale >= narrow.scale and wide.precision <= 38
    if type(wide) in BITS and type(narrow) in BITS:
        same_kind = (BITS[type(wide)] > 100) is (BITS[type(narrow)] > 100)
        return same_kind and BITS[type(wide)] >= BITS[type(narrow)]
    return wide == narrow


@given(TYPES, TYPES)
def test_the_wider_of_two_types_holds_both(one: DataType, other: DataType) -> None:
    wide = wider(one, other)
    assert wide == wider(other, one)
    if wide is None:
        assert not holds(one, other)
        assert not holds(other, one)
    else:
        assert holds(wide, one)
        assert holds(wide, other)
        assert wider(wide, one) == wide


@given(FILES, st.randoms())
def test_the_order_of_files_does_not_matter(
    files: list[dict[str, DataType]], chance: object
) -> None:
    shuffled = list(files)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert union(shuffled) == union(files)


@given(FILES, FILES)
def test_what_silver_was_written_with_stays(
    before: list[dict[str, DataType]], later: list[dict[str, DataType]]
) -> None:
    found = union(before)
    if found is None:
        return
    kept = columns = schema(found)
    for number, file in enumerate(later):
        try:
            columns = merged(columns, schema(file), kept, "T", f"f{number}")
        except PipelineError:
            assert any(
                not holds(field.dataType, file[name])
                for field in columns
                for name in file
                if name.lower() == field.name.lower()
            )
    types = {field.name.lower(): field.dataType for field in columns}
    assert {name: types[name] for name in found} == found
