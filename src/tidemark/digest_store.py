"""The digests that a read leaves for the next one, as an immutable Parquet file.

The next read begins a lookback below this one's `high`. Rows of that part that did not change are
recognized by their digest and left out, so that an unchanged source starts no work downstream.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemark.bronze import ParquetFile
from tidemark.digest import DIGEST_TYPE
from tidemark.storage import Store
from tidemark.windows import ordinal

logger = logging.getLogger(__name__)

_SCHEMA = pa.schema([pa.field("digest", DIGEST_TYPE, nullable=False)])
Keep = Callable[[pa.RecordBatch, pa.Array], None]


@dataclass(frozen=True)
class SeenDigests:
    """The digests of the rows that the last read saw at its end; 16 bytes a row."""

    values: pa.Array

    def contains(self, digests: pa.Array) -> pa.Array:
        """Tell of each digest whether the last read saw it."""
        return pc.is_in(digests, value_set=self.values)


@contextlib.contextmanager
def digest_file(path: Path, cursor: str, tail: str | None) -> Iterator[Keep]:
    """Open the file of this read's digests.

    The value keeps those of the rows that the next read reads again: at or after `tail` (None:
    none is), and without a cursor.
    """
    with ParquetFile(path, _SCHEMA) as file:

        def keep(batch: pa.RecordBatch, digests: pa.Array) -> None:
            column = batch.column(cursor)
            late = pc.is_null(column)
            if tail is not None:
                again = pc.greater_equal(column, _bound(tail, column.type))
                late = pc.or_(late, pc.fill_null(again, fill_value=False))
            file.write(pa.RecordBatch.from_arrays([digests.filter(late)], schema=_SCHEMA))

        yield keep


def load_digests(store: Store, path: str) -> SeenDigests | None:
    """Load a file of digests; None where it is missing, which costs a repeated read only."""
    try:
        column = pq.read_table(store.readable(path)).column("digest")
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s: can't be read (%s); the lookback's rows are copied again", path, error)
        return None
    return SeenDigests(column.combine_chunks())


def _bound(text: str, kind: pa.DataType) -> pa.Scalar:
    if not pa.types.is_timestamp(kind):
        return pa.scalar(text).cast(kind)
    # Digits beyond Arrow's microseconds are cut: a lower bound keeps a row too many, never too few.
    since_epoch = (ordinal("timestamp", text) - ordinal("timestamp", "1970-01-01")) // 10
    return pa.scalar(since_epoch, pa.timestamp("us", kind.tz))
