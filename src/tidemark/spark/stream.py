"""A stream run to its end, batch by batch; what a batch writes is written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession

_TRANSACTION = "spark.databricks.delta.write.txn"
# The first function for a stream's batches has pyspark listen for calls from Java; a second thread
# would start its stream before Java knows where.
_listening = Lock()


def drain(rows: DataFrame, checkpoint: str, apply: Callable[[DataFrame, int], None]) -> None:
    """Hand everything that is new in a stream to a function, and end.

    Args:
        rows: The stream.
        checkpoint: URL of the folder that remembers what has been read.
        apply: Takes a batch and its number; a batch whose function raised comes again.

    Raises:
        Exception: What the function raised, or what Spark found wrong with the stream.
    """
    raised: list[Exception] = []

    def on_batch(batch: DataFrame, number: int) -> None:
        try:
            apply(batch, number)
        except Exception as error:
            raised.append(error)
            raise

    writer = rows.writeStream.option("checkpointLocation", checkpoint)
    with _listening:
        writer = writer.trigger(availableNow=True).foreachBatch(on_batch)
    query = writer.start()
    try:
        query.awaitTermination()
    except StreamingQueryException as error:
        # Spark wraps the function's error in its text alone.
        raise (raised[0] if raised else error) from None


def stream_id(batch: DataFrame) -> str:
    """Give the id of the stream that a batch comes from; a new checkpoint begins a new one."""
    return str(batch.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId"))


@contextmanager
def once(session: SparkSession, stream: str, number: int, target: str) -> Iterator[None]:
    """Let Delta pass over what is written inside if the batch has written it before.

    Args:
        session: The batch's own; set on the stream's, it does not cover a MERGE.
        stream: From `stream_id`.
        number: The batch's.
        target: Tells the writes of one batch apart; no URL, as a lake may be moved in between.
    """
    settings = {"AppId": f"{stream}:{target}", "Version": str(number)}
    for name, value in settings.items():
        session.conf.set(_TRANSACTION + name, value)
    try:
        yield
    finally:
        for name in settings:
            session.conf.unset(_TRANSACTION + name)
