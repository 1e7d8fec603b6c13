"""Set-up: let Java keep the classes that every job loads in an archive, read in half the time.

A small job does once what silver and gold do: write a Delta table, read it as a stream, merge each
batch. Java writes down the classes at its exit (class data sharing, JEP 350).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from tidemark.jars import class_archive, spark_submit, submit_environment
from tidemark.spark.session import build_session
from tidemark.spark_conf import LOCAL_JAVA_OPTIONS, conf_for


def write_archive() -> str | None:
    """Run the small job in a Java that writes `class_archive` at its end.

    Returns:
        Why there is none, in the job's last words. Jobs run without it, some seconds slower.
    """
    archive = class_archive()
    archive.unlink(missing_ok=True)
    java = f"{LOCAL_JAVA_OPTIONS} -XX:ArchiveClassesAtExit={archive} -Xlog:disable"
    conf = conf_for("local[*]") | {"spark.driver.extraJavaOptions": java}
    options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    run = subprocess.run(
        [spark_submit(), "--master", "local[*]", *options, __file__, "job"],
        capture_output=True, text=True, env=submit_environment(), check=False,
    )  # fmt: skip
    return None if archive.exists() else (run.stdout + run.stderr)[-1500:]


def _job() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        first, second = f"{scratch}/first", f"{scratch}/second"
        session = build_session("tidemark set-up")
        parquet = f"{scratch}/parquet"
        session.range(5).withColumn("name", sf.col("id").cast("string")).write.parquet(parquet)
        rows = session.read.parquet(parquet)
        for path in (first, second):
            rows.write.format("delta").save(path)
        stream = session.readStream.format("delta").load(first).writeStream
        stream = stream.option("checkpointLocation", f"{scratch}/checkpoint")
        merge = partial(_merge, path=second)
        stream.trigger(availableNow=True).foreachBatch(merge).start().awaitTermination()
        session.stop()


def _merge(rows: DataFrame, _number: int, *, path: str) -> None:
    rows = rows.persist()
    rows.agg(sf.count("*"), sf.max("name")).collect()
    target = DeltaTable.forPath(rows.sparkSession, path).alias("old")
    merge = target.merge(rows.alias("new"), "new.id = old.id")
    merge.whenMatchedUpdateAll("new.name <> old.name").whenNotMatchedInsertAll().execute()
    rows.write.format("delta").mode("append").save(path)


if __name__ == "__main__":
    if sys.argv[1:]:
        _job()
    elif reason := write_archive():
        sys.stdout.write(f"set-up: no archive of Java classes; jobs start slower:\n{reason}\n")
    else:
        size = Path(class_archive()).stat().st_size // 2**20
        sys.stdout.write(f"set-up: {size} MiB of Java classes in {class_archive()}\n")
