"""A small job that does once what silver and gold do: so that Java has seen it all before.

It writes a Delta table, reads it as a stream, and merges each batch, in a folder of its own.
"""

from __future__ import annotations

import tempfile
from functools import partial

from delta.tables import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from tidemark.spark.session import build_session


def main() -> None:
    """Do it."""
    with tempfile.TemporaryDirectory() as scratch:
        first, second = f"{scratch}/first", f"{scratch}/second"
        session = build_session("tidemark small job")
        parquet = f"{scratch}/parquet"
        session.range(5).withColumn("name", sf.col("id").cast("string")).write.parquet(parquet)
        rows = session.read.parquet(parquet)
        for path in (first, second):
            rows.write.format("delta").save(path)
        stream = session.readStream.format("delta").load(first).writeStream
        stream = stream.option("checkpointLocation", f"{scratch}/checkpoint")
        merge = partial(_merge, path=second)
        stream.trigger(availableNow=True).foreachBatch(merge).start().awaitTermination()


def _merge(rows: DataFrame, _number: int, *, path: str) -> None:
    rows = rows.persist()
    rows.agg(sf.count("*"), sf.max("name")).collect()
    target = DeltaTable.forPath(rows.sparkSession, path).alias("old")
    merge = target.merge(rows.alias("new"), "new.id = old.id")
    merge.whenMatchedUpdateAll("new.name <> old.name").whenNotMatchedInsertAll().execute()
    rows.write.format("delta").mode("append").save(path)
    rows.unpersist()


if __name__ == "__main__":
    main()
