"""A whole table compared with what was known of it, in hash buckets, within bounded memory.

The rows are never taken in the source's order: both sides are spread over buckets by the hash of
their key, on this machine's disk, and then compared bucket by bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from tidemark.buckets import DIGEST, KEY, load, rows_of, scratch, spread
from tidemark.digest import DIGEST_TYPE, row_digests


@dataclass(frozen=True)
class Bucket:
    """What the comparison of one bucket found.

    Attributes:
        new: The rows that are there now, with `_key` and `_digest`; to be read once, in batches.
        is_new: Of each, whether its key was not known.
        is_changed: Of each, whether it differs from what was known, or nothing is known of it but
            its key.
        vanished: The keys that were known and are not there; the key's columns.
        twice: The keys that are there more than once; the key's columns.
    """

    new: Iterator[pa.RecordBatch]
    is_new: pa.Array
    is_changed: pa.Array
    vanished: pa.Table
    twice: pa.Table


def known_keys(
    rows: pa.RecordBatch, key: Sequence[str], digests: pa.Array | None
) -> pa.RecordBatch:
    """Give what is known of some rows: their keys, and their digests if these may be trusted."""
    size = rows.num_rows
    columns = [rows.column(name) for name in key]
    known = pa.nulls(size, DIGEST_TYPE) if digests is None else digests.cast(DIGEST_TYPE)
    fields = [rows.schema.field(name) for name in key]
    schema = pa.schema([*fields, pa.field(KEY, DIGEST_TYPE), pa.field(DIGEST, DIGEST_TYPE)])
    return pa.RecordBatch.from_arrays([*columns, row_digests(rows, key), known], schema=schema)


def compare(
    now: Iterable[pa.RecordBatch],
    known: Iterable[pa.RecordBatch],
    key: Sequence[str],
    buckets: int,
) -> Iterator[Bucket]:
    """Compare the rows of a table with what was known of it.

    Args:
        now: Its rows, from `with_key`, with their `_digest`.
        known: From `known_keys`. A key may come several times: its digest counts only if it comes
            with each.
        key: The key's columns.
        buckets: From `bucket_count`.

    Raises:
        LakeError: This machine's disk refuses.
    """
    with scratch("nothing was published") as folder:
        ours = spread(now, folder / "now", buckets)
        theirs = spread(known, folder / "known", buckets)
        for number in range(buckets):
            new, old = ours.get(number), theirs.get(number)
            if new is not None or old is not None:
                yield _compared(new, old, key)


def _compared(new: Path | None, old: Path | None, key: Sequence[str]) -> Bucket:
    here, before = _hashes(new), _once(_hashes(old))
    joined = here.join(before, on=KEY, how="left", suffix="_known", maintain_order="left")
    unknown = joined["place_known"].is_null()
    same = (joined[DIGEST] == joined[f"{DIGEST}_known"]).fill_null(value=False)
    gone = before.join(here, on=KEY, how="anti", maintain_order="left")["place"]
    twice = here.filter(pl.col(KEY).is_duplicated()).unique(KEY, maintain_order=True)["place"]
    return Bucket(
        new=rows_of(new),
        is_new=unknown.to_arrow(),
        is_changed=(~same).to_arrow(),
        vanished=_keys_at(old, gone, key),
        twice=_keys_at(new, twice, key),
    )


def _hashes(side: Path | None) -> pl.DataFrame:
    hashes = load(side)
    if hashes is None:
        return pl.DataFrame(schema={KEY: pl.Binary, DIGEST: pl.Binary, "place": pl.UInt32})
    columns = {name: pl.Series(hashes[name].cast(pa.binary())) for name in (KEY, DIGEST)}
    return pl.DataFrame(columns).with_row_index("place").select(KEY, DIGEST, "place")


def _once(known: pl.DataFrame) -> pl.DataFrame:
    trusted = pl.col(DIGEST).is_not_null().all() & (pl.col(DIGEST).n_unique() == 1)
    return known.group_by(KEY, maintain_order=True).agg(
        pl.when(trusted).then(pl.col(DIGEST).first()).alias(DIGEST), pl.col("place").first()
    )


def _keys_at(side: Path | None, places: pl.Series, key: Sequence[str]) -> pa.Table:
    rows = load(side) if len(places) else None
    return pa.table({}) if rows is None else rows.select(list(key)).take(places.to_arrow())
