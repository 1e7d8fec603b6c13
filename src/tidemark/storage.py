"""The few operations that Tidemark asks of a lake's storage, and a local folder that offers them.

Every write is whole or absent: readers never see half a file, and two writers can't both win.
`tidemark.storage_azure` offers the same by ETags and conditional creation.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from tidemark.azure_url import is_azure
from tidemark.errors import ConfigError, LakeError, ReadOvertaken
from tidemark.lake_access import load_access

T = TypeVar("T")
# Of several writers one wins each time: so many tries do for as many writers.
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.01
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}$")


@dataclass(frozen=True)
class Content:
    """A file's bytes and the version (an ETag) that a conditional write compares with."""

    data: bytes
    version: str


class Store(Protocol):
    """A lake's storage; every path is relative to the lake's root."""

    def read(self, path: str) -> Content | None:
        """Read a whole small file; None if there is none."""

    def write_if(self, path: str, data: bytes, version: str | None) -> str:
        """Replace a small file if it still has `version` (None: if there is none).

        A file is written either by this or by `write`, never by both at once.

        Raises:
            ReadOvertaken: Somebody else has written it since.
        """

    def write(self, path: str, data: bytes) -> None:
        """Write a small file whole, whatever was there."""

    def names(self, folder: str) -> list[str]:
        """List the file names directly in a folder, sorted; empty if there is no folder."""

    def names_below(self, folder: str) -> list[str]:
        """List the files in a folder and in the folders directly in it, by their paths from it.

        Sorted; empty if there is no folder.
        """

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly in a folder, sorted; empty if there is none."""

    def local_path(self, path: str) -> Path:
        """Give a place on this machine's disk to write a large file to, its folder made."""

    def upload(self, path: str) -> None:
        """Bring a large file that was written to its `local_path` into the lake, as it is named."""

    def readable(self, path: str) -> Path | BinaryIO:
        """Give what a Parquet reader opens a large file by.

        Raises:
            FileNotFoundError: It is not there, which may also show when it is opened.
        """

    def delta(self, path: str) -> tuple[str, dict[str, str]]:
        """Give a Delta table's URL, and the storage options (secrets!) to open it with."""

    def publish(self, temporary: str, final: str) -> None:
        """Make a finished file visible under its final name, whole, never overwriting.

        Raises:
            ReadOvertaken: The final name is taken, or a later read removed the file.
        """

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""


def open_store(root: str) -> Store:
    """Open a lake's storage by its root.

    Raises:
        LakeError: The root is a URL of a kind that this version can't open.
        ConfigError: It is one of Azure, and can't be read, or what opens it is not there.
    """
    if is_azure(root):
        try:
            from tidemark.storage_azure import AzureStore  # noqa: PLC0415  # needs Azure's SDK
        except ImportError as error:
            message = f"lake {root!r}: {error.name} is not installed; install `tidemark[azure]`"
            raise ConfigError(message) from error
        return AzureStore(root, load_access())
    if "://" in root and not root.startswith("file://"):
        scheme = root.split("://", 1)[0]
        message = (
            f"lake {root!r}: storage of kind {scheme!r} is not supported; set TIDEMARK_LAKE to a "
            "local folder, or to a URL such as abfss://container@account.dfs.core.windows.net/path"
        )
        raise LakeError(message)
    return LocalStore(Path(root.removeprefix("file://")))


def again(attempt: Callable[[], T], path: str) -> T:
    """Do what reads a small file and writes it by its version; anew when another one was faster.

    Args:
        attempt: Reads, and calls `Store.write_if`.
        path: The file, for the message.

    Raises:
        ReadOvertaken: Other writers kept getting in between.
    """
    for number in range(_ATTEMPTS):
        try:
            return attempt()
        except ReadOvertaken:
            time.sleep(number * _PAUSE_SECONDS)
    message = f"{path}: {_ATTEMPTS} other writers got in between; nothing was written, run again"
    raise ReadOvertaken(message)


@dataclass(frozen=True)
class LocalStore:
    """A folder on this machine's disk."""

    root: Path

    def read(self, path: str) -> Content | None:
        """Read a whole small file; None if there is none."""
        with _explained(path):
            try:
                data = (self.root / path).read_bytes()
            except FileNotFoundError:
                return None
        return Content(data, _version(data))

    def write_if(self, path: str, data: bytes, version: str | None) -> str:
        """Replace a small file if it still has `version` (None: if there is none)."""
        with self._locked(path):
            current = self.read(path)
            if (current.version if current else None) != version:
                message = f"{path}: written by another read meanwhile; retry as a new read"
                raise ReadOvertaken(message)
            self._remove_unfinished(path)
            self.write(path, data)
        return _version(data)

    def write(self, path: str, data: bytes) -> None:
        """Write a small file whole, whatever was there."""
        target = self.local_path(path)
        # Not tempfile's: it would hide the file from the other users of the lake (mode 0600).
        temporary = target.with_name(f"_{target.name}.{uuid.uuid4().hex}")
        with _explained(path):
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def names(self, folder: str) -> list[str]:
        """List the file names directly in a folder, sorted; empty if there is no folder."""
        with _explained(folder):
            try:
                return sorted(e.name for e in os.scandir(self.root / folder) if e.is_file())
            except FileNotFoundError:
                return []

    def names_below(self, folder: str) -> list[str]:
        """List the files in a folder and in the folders directly in it, by their paths from it."""
        found = self.names(folder)
        for below in self.folders(folder):
            found += [f"{below}/{name}" for name in self.names(f"{folder}/{below}")]
        return sorted(found)

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly in a folder, sorted; empty if there is none."""
        with _explained(folder):
            try:
                return sorted(e.name for e in os.scandir(self.root / folder) if e.is_dir())
            except FileNotFoundError:
                return []

    def local_path(self, path: str) -> Path:
        """Give a place on this machine's disk to write a large file to, its folder made."""
        target = self.root / path
        with _explained(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def upload(self, path: str) -> None:
        """Leave a large file where it was written: that is the lake."""

    def readable(self, path: str) -> Path:
        """Give what a Parquet reader opens a large file by."""
        return self.root / path

    def delta(self, path: str) -> tuple[str, dict[str, str]]:
        """Give a Delta table's path, and no options: a folder needs none."""
        return str(self.root / path), {}

    def publish(self, temporary: str, final: str) -> None:
        """Make a finished file visible under its final name, whole, never overwriting."""
        source, target = self.root / temporary, self.root / final
        with _explained(final):
            try:
                _sync_file(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                # A link fails where the name is taken; a rename would overwrite.
                os.link(source, target)
            except FileExistsError:
                message = f"{final}: already published; retry as a new read"
                raise ReadOvertaken(message) from None
            except FileNotFoundError:
                # A later read of the table has begun, and cleared away what this one wrote.
                message = f"{final}: overtaken by a later read; retry as a new read"
                raise ReadOvertaken(message) from None
            source.unlink(missing_ok=True)
            # The file's folder, and those above: each may be new, and is durable with its own.
            for folder in Path(final).parents:
                _sync_folder(self.root / folder)

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""
        with _explained(path):
            (self.root / path).unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        """Tell whether a file or folder is there."""
        return (self.root / path).exists()

    def move(self, source: str, target: str) -> None:
        """Rename a file or folder to a name that is free, at once and durably."""
        old, new = self.root / source, self.local_path(target)
        with _explained(target):
            old.rename(new)
            _sync_folder(new.parent)
            _sync_folder(old.parent)

    def _remove_unfinished(self, path: str) -> None:
        """Remove what killed writers of a file left: whoever writes it holds the lock we hold."""
        whole = Path(path)
        for name in self.names(str(whole.parent)):
            if name.startswith(f"_{whole.name}.") and _UNFINISHED.search(name):
                self.remove(str(whole.with_name(name)))

    @contextlib.contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        lock = self.local_path(path).with_name(f"_{Path(path).name}.lock")
        with _explained(path):
            file = lock.open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free space on the lake's disk; the next run reads the same rows again",
            errno.EACCES: "let the user who runs Airflow write there",
            errno.EROFS: "mount the lake's disk for writing",
        }.get(error.errno or 0, "mend it and run again; nothing is lost")
        message = f"{path}: {error.strerror or error}; {remedy}"
        raise LakeError(message) from error
