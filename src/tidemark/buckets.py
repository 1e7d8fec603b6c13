"""Rows spread over hash buckets on this machine's disk: a table is then compared part by part."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tidemark.digest import DIGEST_TYPE, row_digests
from tidemark.errors import LakeError

KEY, DIGEST = "_key", "_digest"
_BUCKET_ROWS = 200_000
_MOST_BUCKETS = 256  # as many files are open at once
_PART_ROWS, _PART_BYTES = 50_000, 32 * 2**20
_PREFIX = "tidemark-rows-"


def with_key(rows: pa.RecordBatch, key: Sequence[str]) -> pa.RecordBatch:
    """Put the hash of the key behind a batch's columns."""
    return rows.append_column(pa.field(KEY, DIGEST_TYPE), row_digests(rows, key))


def bucket_count(rows: int) -> int:
    """Say over how many buckets to spread so many rows."""
    wanted = max(1, -(-rows // _BUCKET_ROWS))
    return min(_MOST_BUCKETS, 1 << (wanted - 1).bit_length())


def spread(batches: Iterable[pa.RecordBatch], folder: Path, buckets: int) -> dict[int, Path]:
    """Spread batches over files by the first bits of the key's hash."""
    folder.mkdir()
    writers: dict[int, pa.RecordBatchFileWriter] = {}
    with contextlib.ExitStack() as files:
        for batch in batches:
            numbers = bucket_numbers(batch, buckets)
            for number in np.unique(numbers):
                if number not in writers:
                    path = str(folder / str(number))
                    writers[number] = files.enter_context(pa.ipc.new_file(path, batch.schema))
                writers[number].write_batch(batch.filter(pa.array(numbers == number)))
    return {number: folder / str(number) for number in writers}


def within(
    batches: Iterable[pa.RecordBatch], chosen: Collection[int], buckets: int
) -> Iterator[pa.RecordBatch]:
    """Keep the rows that fall into some of the buckets."""
    wanted = np.zeros(buckets, bool)
    wanted[list(chosen)] = True
    for batch in batches:
        kept = wanted[bucket_numbers(batch, buckets)]
        if kept.any():
            yield batch.filter(pa.array(kept))


def summed(
    batches: Iterable[pa.RecordBatch], sums: np.ndarray, buckets: int
) -> Iterator[pa.RecordBatch]:
    """Add rows up as they pass by: two sides of a bucket with equal sums hold the same rows.

    Args:
        batches: With `_key` and `_digest`; where this is NULL the sums meet no other.
        sums: From `no_sums`; of each bucket a checksum and the count of rows.
        buckets: How many there are.
    """
    for batch in batches:
        numbers = bucket_numbers(batch, buckets)
        key, digest = _halves(batch.column(KEY)), _halves(batch.column(DIGEST))
        np.add.at(sums[:, 0], numbers, (key[:, 0] ^ digest[:, 1]) * (digest[:, 0] | 1))
        sums[:, 1] += np.bincount(numbers, minlength=buckets).astype(np.uint64)
        yield batch


def no_sums(buckets: int) -> np.ndarray:
    """Give the sums of empty buckets."""
    return np.zeros((buckets, 2), np.uint64)


def bucket_numbers(batch: pa.RecordBatch, buckets: int) -> np.ndarray:
    """Say into which bucket each row falls."""
    first = _bytes(batch.column(KEY))[:, :2].astype(np.uint32)
    return (first[:, 0] * 256 + first[:, 1]) * buckets // 65536


def _bytes(hashes: pa.Array) -> np.ndarray:
    data = np.frombuffer(hashes.buffers()[1], np.uint8).reshape(-1, DIGEST_TYPE.byte_width)
    return data[hashes.offset : hashes.offset + len(hashes)]


def _halves(hashes: pa.Array) -> np.ndarray:
    halves = np.ascontiguousarray(_bytes(hashes)).view(np.uint64)
    valid = hashes.is_valid().to_numpy(zero_copy_only=False)
    return np.where(valid[:, None], halves, np.uint64(0))


def load(path: Path | None) -> pa.Table | None:
    """Map one bucket into memory, where a column that nobody reads takes none; None if empty."""
    if path is None:
        return None
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def rows_of(path: Path | None) -> Iterator[pa.RecordBatch]:
    """Read one bucket part by part: its rows may be of any width, and come in many small pieces."""
    if path is None:
        return
    pieces: list[pa.RecordBatch] = []
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            pieces.append(reader.get_batch(number))
            rows = sum(piece.num_rows for piece in pieces)
            if rows >= _PART_ROWS or sum(piece.nbytes for piece in pieces) >= _PART_BYTES:
                yield _joined(pieces)
                pieces = []
    if pieces:
        yield _joined(pieces)


def _joined(pieces: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(pieces).combine_chunks().to_batches()[0]


@contextlib.contextmanager
def scratch(consequence: str) -> Iterator[Path]:
    """Give a folder of this machine's disk, gone afterwards.

    Args:
        consequence: What it means that the disk refused, for the message.

    Raises:
        LakeError: The disk refuses.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    except OSError as error:
        message = (
            f"{folder}: {error.strerror or error}; free space there, or set TMPDIR to a disk with "
            f"room for the whole table, and run again: {consequence}"
        )
        raise LakeError(message) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders that killed processes left: they hold rows of the source.

    A process locks its folder before it puts anything there, and the system takes the lock away
    with the process. So a folder that holds something and is not locked belongs to nobody. Other
    users' folders can't be opened, and are left alone.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if any(folder.iterdir()):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
