"""What rows are said to take beside what Spark's own rows hold."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from tidemark.spark.row_size import bytes_of


def test_fields_texts_and_binaries_count_and_rows_left_out_do_not(spark: SparkSession) -> None:
    rows = spark.sql(
        "SELECT * FROM VALUES (1L, 'né', X'010203', true), (2L, NULL, NULL, true),"
        " (3L, repeat('x', 1000), NULL, false) AS t(id, `a ``name`, raw, kept)"
    )
    size = bytes_of(rows.schema, among=sf.col("kept"))
    texts = len("né".encode()) + 3
    assert rows.agg(size).collect()[0][0] == 2 * 4 * 8 + texts
    assert rows.where("false").agg(size).collect()[0][0] is None


def test_what_fits_into_no_word_counts_behind_it(spark: SparkSession) -> None:
    rows = spark.sql(
        "SELECT 1.5BD AS small, CAST(1 AS DECIMAL(38, 0)) AS large,"
        " named_struct('a', 1, 'b', 'xy') AS pair, array('p', 'q') AS many"
    )
    size = rows.agg(bytes_of(rows.schema, among=sf.lit(True))).collect()[0][0]
    assert size == 4 * 8 + 16 + len('{"a":1,"b":"xy"}') + len('["p","q"]')
