"""Decide which keys differ, and how: pure functions over the two sides of one hash bucket.

A side is a frame with `_key`, `_digest`, `__order` (the place of the row's cursor on a line) and
``place``, the row's number in the table that the frame was made of.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from tidemark.buckets import DIGEST, KEY

ORDER, SEQUENCE, DELETED = "__order", "_sequence", "__deleted"  # none of a source's columns
VERDICT = "verdict"
EMPTY = pl.DataFrame(
    schema={KEY: pl.Binary, DIGEST: pl.Binary, ORDER: pl.Int64, "place": pl.UInt32}
)
_HASHES = (KEY, DIGEST)


def side(rows: pa.Table | None, *more: str) -> pl.DataFrame:
    """Make a frame of a bucket's rows; `more` names further columns to keep."""
    if rows is None or not rows.num_rows:
        return EMPTY.with_columns(pl.lit(None).alias(name) for name in more)
    names = [name for name in (*_HASHES, ORDER, *more) if name in rows.column_names]
    columns = {
        name: pl.Series(rows[name].cast(pa.binary()) if name in _HASHES else rows[name])
        for name in names
    }
    frame = pl.DataFrame(columns).with_row_index("place")
    return frame if ORDER in names else frame.with_columns(pl.lit(None, pl.Int64).alias(ORDER))


def newest(bronze: pl.DataFrame) -> pl.DataFrame:
    """Keep each key's newest bronze row: by the read, then by the cursor."""
    by_age = bronze.sort(SEQUENCE, ORDER, nulls_last=False, maintain_order=True)
    return by_age.unique(KEY, keep="last", maintain_order=True)


def resolved(silver: pl.DataFrame, bronze: pl.DataFrame, *, deep: bool) -> pl.DataFrame:
    """Give silver's rows the digests that their newest bronze rows have anew.

    Args:
        silver: Its rows, with the digests that they carry; NULL: one that may not be trusted.
        bronze: The newest row of each key, of the files that were digested anew.
        deep: Those are all files: where silver carries a digest, both must agree, and NULL says
            that they do not. Otherwise a row that carries one stands in a later file than these.
    """
    anew = bronze.filter(~pl.col(DELETED)).select(KEY, pl.col(DIGEST).alias("anew"))
    both = silver.join(anew, on=KEY, how="left", maintain_order="left")
    carried, fresh = pl.col(DIGEST), pl.col("anew")
    agreed = (
        pl.when(pl.lit(value=not deep))
        .then(pl.coalesce(carried, fresh))
        .when(carried.is_null())
        .then(fresh)
        .when(fresh.is_null() | (fresh == carried))
        .then(carried)
    )
    return both.with_columns(agreed.alias(DIGEST)).drop("anew")


def suspects(now: pl.DataFrame, lake: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Find the keys that seem to differ.

    Returns:
        The places in `now` of the keys that are there, and in `lake` of those that are only there.
    """
    known = lake.group_by(KEY).agg(pl.col(DIGEST).first().alias("known"), pl.len().alias("times"))
    both = now.join(known, on=KEY, how="left", maintain_order="left")
    same = (pl.col(DIGEST) == pl.col("known")) & (pl.col("times") == 1)
    odd = both.filter(~same.fill_null(value=False) | pl.col(KEY).is_duplicated())
    only = lake.join(now, on=KEY, how="anti", maintain_order="left")
    places = (frame.unique(KEY, maintain_order=True)["place"] for frame in (odd, only))
    first, second = places
    return first, second


def judge(  # noqa: PLR0917  the sides, in the order in which they are read
    asked: pl.DataFrame,
    now: pl.DataFrame,
    lake: pl.DataFrame,
    waiting: pl.DataFrame,
    unread: pl.DataFrame,
    bound: int | None,
    *,
    clock: int | None = None,
    has_baseline: bool,
) -> pl.DataFrame:
    """Judge suspect keys by what was read of them again.

    Args:
        asked: The keys.
        now: Their rows at the source; one each.
        lake: Their rows in the lake.
        waiting: Keys in bronze files that were not merged when the comparison began.
        unread: Keys that the next read will judge; with a digest: as the last read left them.
        bound: How far the last read came, on the cursor's line; None: not known.
        clock: How far the next one may come: not to a row dated in the future. None: to any.
        has_baseline: Whether `unread` tells how the last read left each key of the table.

    Returns:
        `asked` with ``verdict``: a class, a reason to leave the key out, or ``settled``.
    """
    known = lake.group_by(KEY).agg(
        pl.col(DIGEST).first(), pl.col(ORDER).max(), pl.len().alias("times")
    )
    facts = asked.select(KEY, "place")
    facts = facts.join(_renamed(now, "now"), on=KEY, how="left", maintain_order="left")
    facts = facts.join(_renamed(known, "lake", "times"), on=KEY, how="left", maintain_order="left")
    left = unread.group_by(KEY).agg(pl.col(DIGEST).first())
    facts = facts.join(_renamed(left, "left"), on=KEY, how="left", maintain_order="left")
    return facts.with_columns(_verdict(waiting[KEY], bound, clock, has_baseline=has_baseline))


def _verdict(
    waiting: pl.Series, bound: int | None, clock: int | None, *, has_baseline: bool
) -> pl.Expr:
    here, there = pl.col("now_here").is_not_null(), pl.col("lake_here").is_not_null()
    same = (pl.col("now_digest") == pl.col("lake_digest")).fill_null(value=False)
    once = pl.col("times").fill_null(1) == 1
    beyond = pl.lit(value=False) if bound is None else (pl.col("now_order") > bound)
    if clock is not None:
        beyond &= pl.col("now_order") <= clock
    newer = pl.col("now_order") > pl.col("lake_order")
    return (
        pl.when(~here & ~there)
        .then(pl.lit("settled"))
        .when(here & there & same & once)
        .then(pl.lit("settled"))
        .when(pl.col(KEY).is_in(waiting.implode()))
        .then(pl.lit("waiting"))
        .when(beyond.fill_null(value=False))
        .then(pl.lit("newer"))
        .when(_is_unread(has_baseline=has_baseline))
        .then(pl.lit("unread"))
        .when(~there)
        .then(pl.lit("missing"))
        .when(~here)
        .then(pl.lit("extra"))
        .when(newer.fill_null(value=False) & ~same)
        .then(pl.lit("stale"))
        .otherwise(pl.lit("different"))
        .alias(VERDICT)
    )


def _is_unread(*, has_baseline: bool) -> pl.Expr:
    touched = pl.col("left_here").is_not_null() & pl.col("left_digest").is_null()
    as_left = (
        (pl.col("left_digest") == pl.col("lake_digest")).fill_null(value=False)
        & (pl.col("times").fill_null(1) == 1)
    ) | (pl.col("left_here").is_null() & pl.col("lake_here").is_null())
    return touched | as_left if has_baseline else touched


def _renamed(frame: pl.DataFrame, prefix: str, *more: str) -> pl.DataFrame:
    shown = {DIGEST: f"{prefix}_digest", ORDER: f"{prefix}_order"}
    kept = [pl.col(old).alias(new) for old, new in shown.items() if old in frame.columns]
    return frame.select(KEY, *kept, *more, pl.lit(1).alias(f"{prefix}_here"))
