"""Mend keys that differ: their rows read again, now, into one ordinary bronze file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC

import pyarrow as pa
import pyarrow.compute as pc

from tidemark.bronze import ParquetFile, ReadStamp, bronze_schema
from tidemark.digest import DIGEST_TYPE, row_digests
from tidemark.extract.by_key import read_by_keys
from tidemark.extract.source import OpenSource, SourceTable
from tidemark.ingest import remove_leftovers
from tidemark.landing import TableJob, dated, deletes, deletion_moment, publish, upserts
from tidemark.reconcile.model import Repair
from tidemark.watermark import load_state, reserve

_KEYS_AT_ONCE = 10_000


def repair(
    job: TableJob, source: OpenSource, described: SourceTable, keys: Iterable[pa.Table]
) -> Repair:
    """Re-extract keys: a row that is there becomes an upsert, one that is not a delete.

    A read like any other, with a sequence of its own, taken before the rows are read; the
    watermark stays, and silver merges the file at its next run.

    Args:
        job: The table.
        source: The open source.
        described: The table as the database describes it.
        keys: The keys, of the source's types.

    Raises:
        ReadOvertaken: A later read of the table has begun; nothing is published.
        LakeError: The lake refuses.
    """
    name = job.table.lake_name
    sequence = reserve(job.store, job.lake, name)
    remove_leftovers(job, load_state(job.store, job.lake, name), sequence)
    temporary = job.lake.temporary_file(name, sequence)
    file = job.bronze_file(sequence)
    about = {"run_id": job.run_id, "window": "the keys that reconcile found to differ"}
    deleted = 0
    with ParquetFile(
        job.store.local_path(temporary), bronze_schema(described.columns), about
    ) as bronze:
        for rows, is_gone in _rows(job, source, described, keys, ReadStamp(sequence, job.run_id)):
            bronze.write(rows)
            deleted += rows.num_rows if is_gone else 0
    publish(job, sequence, temporary, file)
    return Repair(bronze.rows, deleted, file, sequence.astimezone(UTC).isoformat())


def _rows(
    job: TableJob,
    source: OpenSource,
    described: SourceTable,
    keys: Iterable[pa.Table],
    read: ReadStamp,
) -> Iterator[tuple[pa.RecordBatch, bool]]:
    names = described.columns.names
    moment = deletion_moment(job.table, source, described.columns)
    for batch in (b for table in keys for b in table.combine_chunks().to_batches(_KEYS_AT_ONCE)):
        found = [pa.array([], DIGEST_TYPE)]
        for rows in read_by_keys(source, described, job.table, pa.Table.from_batches([batch])):
            found.append(row_digests(rows, job.table.key))
            yield upserts(rows, row_digests(rows, names), read), False
        there = pc.is_in(row_digests(batch, job.table.key), value_set=pa.concat_arrays(found))
        gone = batch.filter(pc.invert(there))
        if gone.num_rows:
            rows = deletes(gone, described.columns, read)
            yield dated(job.table, moment, rows, pa.repeat(pa.scalar(True), gone.num_rows)), True
