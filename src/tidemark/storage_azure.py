"""A lake in Azure Storage (ADLS Gen2 or Blob), by the Blob API.

Every write is whole or absent here too: a blob appears when its last block is committed. A
condition on the ETag decides between two writers, and a published file is created only where there
is none. Large files are made on this machine's disk first, and then uploaded in blocks.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobClient, BlobPrefix, BlobServiceClient, ExponentialRetry

from tidemark.azure_errors import error_code, explained
from tidemark.azure_url import Place, parse
from tidemark.errors import LakeError, ReadOvertaken
from tidemark.lake_access import LakeAccess, given_credential
from tidemark.layout import located
from tidemark.storage import Content

# Pauses of 1, 3, 5, 9, 17 and 33 seconds: throttling passes, and a task must not hang for ever.
RETRIES: dict[str, Any] = {
    "initial_backoff": 1,
    "increment_base": 2,
    "random_jitter_range": 1,
    "retry_total": 6,
    "retry_connect": 4,
    "retry_read": 4,
    "retry_status": 6,
}
SCOPE = "https://storage.azure.com/.default"
_BLOCK = 8 * 2**20
_READ_AHEAD = 256 * 2**10
# Whose upload it was: an answer that got lost is told from another writer's success.
_UPLOAD = "tidemark_upload"
_FOLDER = "hdi_isfolder"  # how Hadoop's drivers mark an empty blob that stands for a folder

# It tells of every request.
logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)


@dataclass(frozen=True)
class AzureStore:
    """A folder of a container, or one for each layer.

    Attributes:
        root: The lake's root.
        access: What opens it.
    """

    root: str
    access: LakeAccess

    def read(self, path: str) -> Content | None:
        """Read a whole small file; None if there is none."""
        blob, place = self._blob(path)
        with explained(path, place, self.access):
            try:
                stream = blob.download_blob()
                return Content(stream.readall(), stream.properties.etag)
            except ResourceNotFoundError as error:
                if error_code(error) != "BlobNotFound":
                    raise
                return None

    def write_if(self, path: str, data: bytes, version: str | None) -> str:
        """Replace a small file if it still has `version` (None: if there is none)."""
        condition: dict[str, Any] = {"match_condition": MatchConditions.IfMissing}
        if version is not None:
            condition = {"etag": version, "match_condition": MatchConditions.IfNotModified}
        etag = self._upload(path, io.BytesIO(data), condition)
        if etag is None:
            message = f"{path}: written by another read meanwhile; retry as a new read"
            raise ReadOvertaken(message)
        return etag

    def write(self, path: str, data: bytes) -> None:
        """Write a small file whole, whatever was there."""
        self._upload(path, io.BytesIO(data), {})

    def names(self, folder: str) -> list[str]:
        """List the file names directly in a folder, sorted; empty if there is no folder.

        Among them are large files that were begun on this machine's disk, and not uploaded.
        """
        blobs = [blob for blob in self._listed(folder) if not isinstance(blob, BlobPrefix)]
        files = (b for b in blobs if not _is_folder(b))
        found = {str(blob.name).rpartition("/")[2] for blob in files}
        scratch = self._scratch(folder)
        begun = {f.name for f in scratch.iterdir() if f.is_file()} if scratch.is_dir() else set()
        return sorted(found - {""} | begun)

    def names_below(self, folder: str) -> list[str]:
        """List the files in a folder and in the folders directly in it, by their paths from it.

        One listing for all folders. What was begun on this machine's disk is not among them.
        """
        place, prefix = self._prefix(folder)
        with explained(folder, place, self.access):
            container = _service(place, self.access).get_container_client(place.container)
            blobs = container.list_blobs(name_starts_with=prefix, include=["metadata"])
            found = [str(b.name).removeprefix(prefix or "") for b in blobs if not _is_folder(b)]
        return sorted(path for path in found if path and path.count("/") <= 1)

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders directly in a folder, sorted."""
        found = [str(b.name) for b in self._listed(folder) if isinstance(b, BlobPrefix)]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def local_path(self, path: str) -> Path:
        """Give a place on this machine's disk to write a large file to, its folder made."""
        target = self._scratch(path)
        try:
            _own_scratch().mkdir(mode=0o700, exist_ok=True)
            if _own_scratch().stat().st_uid != os.getuid():
                message = f"{_own_scratch()}: belongs to another user; remove it, or set TMPDIR"
                raise LakeError(message)
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{target.parent}: {error.strerror or error}; mend the disk, or set TMPDIR"
            raise LakeError(message) from error
        return target

    def upload(self, path: str) -> None:
        """Make a large file durable that was written to its `local_path`."""
        source = self._scratch(path)
        with source.open("rb") as file:
            self._upload(path, file, {})
        source.unlink()

    def publish(self, temporary: str, final: str) -> None:
        """Make a finished file visible under its final name, whole, never overwriting."""
        source = self._scratch(temporary)
        try:
            with source.open("rb") as file:
                etag = self._upload(final, file, {"match_condition": MatchConditions.IfMissing})
        except FileNotFoundError:
            # A later read of the table has begun, and cleared away what this one wrote.
            message = f"{final}: overtaken by a later read; retry as a new read"
            raise ReadOvertaken(message) from None
        if etag is None:
            message = f"{final}: already published; retry as a new read"
            raise ReadOvertaken(message)
        source.unlink(missing_ok=True)

    def readable(self, path: str) -> BinaryIO:
        """Open a large file for reading in any order.

        Raises:
            FileNotFoundError: It is not there.
        """
        blob, place = self._blob(path)
        with explained(path, place, self.access):
            try:
                size = blob.get_blob_properties().size
            except ResourceNotFoundError:
                # A HEAD has no body, and so no code that would tell the container apart.
                raise FileNotFoundError(path) from None
        return io.BufferedReader(_BlobFile(path, self, size), _READ_AHEAD)

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""
        self._scratch(path).unlink(missing_ok=True)
        blob, place = self._blob(path)
        with explained(path, place, self.access):
            try:
                blob.delete_blob()
            except ResourceNotFoundError as error:
                if error_code(error) != "BlobNotFound":
                    raise

    def delta(self, path: str) -> tuple[str, dict[str, str]]:
        """Give a Delta table's URL, and what deltalake and polars need to open it."""
        from tidemark.azure_delta import storage_options  # noqa: PLC0415  # few need it

        root, below = located(self.root, path)
        place = parse(root)
        name = "/".join(filter(None, (place.path, below)))
        with explained(path, place, self.access):
            return f"az://{place.container}/{name}", storage_options(place, self.access)

    def part(self, path: str, offset: int, length: int) -> bytes:
        """Read a part of a file."""
        blob, place = self._blob(path)
        with explained(path, place, self.access):
            return bytes(blob.download_blob(offset=offset, length=length).readall())

    def _upload(self, path: str, data: BinaryIO, condition: dict[str, Any]) -> str | None:
        """Upload whole or not at all; give the ETag, or None where the condition did not hold."""
        blob, place = self._blob(path)
        mark = uuid.uuid4().hex
        with explained(path, place, self.access):
            try:
                done = blob.upload_blob(
                    data,
                    length=data.seek(0, io.SEEK_END) - data.seek(0),
                    overwrite=True,
                    metadata={_UPLOAD: mark},
                    **condition,
                )
                return str(done["etag"])
            except (ResourceExistsError, ResourceModifiedError) as error:
                if not condition or error_code(error) not in _CONDITIONS:
                    raise
                return _etag_of(blob, mark)

    def _listed(self, folder: str) -> list[Any]:
        place, prefix = self._prefix(folder)
        with explained(folder, place, self.access):
            container = _service(place, self.access).get_container_client(place.container)
            return list(container.walk_blobs(name_starts_with=prefix, include=["metadata"]))

    def _prefix(self, folder: str) -> tuple[Place, str | None]:
        root, below = located(self.root, folder)
        place = parse(root)
        prefix = "/".join(filter(None, (place.path, below)))
        return place, f"{prefix}/" if prefix else None

    def _blob(self, path: str) -> tuple[BlobClient, Place]:
        root, below = located(self.root, path)
        place = parse(root)
        name = "/".join(filter(None, (place.path, below)))
        with explained(path, place, self.access):
            return _service(place, self.access).get_blob_client(place.container, name), place

    def _scratch(self, path: str) -> Path:
        return _own_scratch() / hashlib.sha256(self.root.encode()).hexdigest()[:16] / path


_CONDITIONS = {"BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet"}


class _BlobFile(io.RawIOBase):
    """A blob as a file that is read from anywhere."""

    def __init__(self, path: str, store: AzureStore, size: int) -> None:
        self._path, self._store, self._size, self._place = path, store, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._place)
        if length <= 0:
            return 0
        data = self._store.part(self._path, self._place, length)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _own_scratch() -> Path:
    return Path(tempfile.gettempdir()) / f"tidemark-{os.getuid()}"


def _is_folder(blob: Any) -> bool:
    return (blob.metadata or {}).get(_FOLDER) == "true"


def _etag_of(blob: BlobClient, mark: str) -> str | None:
    """Give the ETag of what is there if this very upload wrote it, and its answer got lost."""
    there = blob.get_blob_properties()
    return str(there.etag) if (there.metadata or {}).get(_UPLOAD) == mark else None


@lru_cache
def _service(place: Place, access: LakeAccess) -> BlobServiceClient:
    if access.endpoint is None and access.account not in {None, place.account}:
        message = (
            f"lake {place.url!r}: {access.kind} of account {access.account!r} does not open "
            f"account {place.account!r}; correct TIDEMARK_LAKE or the connection"
        )
        raise LakeError(message)
    return BlobServiceClient(
        access.endpoint or place.endpoint,
        credential=_credential(place, access),
        retry_policy=ExponentialRetry(**RETRIES),
        raw_response_hook=_retry_throttled,
        max_block_size=_BLOCK,
        max_single_put_size=_BLOCK,
        connection_timeout=20,
        read_timeout=60,
    )


def _credential(place: Place, access: LakeAccess) -> Any:
    if access.account_key:
        return {"account_name": place.account, "account_key": access.account_key}
    if access.sas_token:
        from azure.core.credentials import AzureSasCredential  # noqa: PLC0415

        return AzureSasCredential(access.sas_token)
    found = identity(access)
    # Asked for here, where a machine without an identity is not asked again and again.
    found.get_token(SCOPE)
    return found


@lru_cache
def identity(access: LakeAccess) -> Any:
    """Give the token credential of a service principal, of the engine, or of this machine."""
    from azure.identity import ClientSecretCredential, DefaultAzureCredential  # noqa: PLC0415

    if access.tenant_id and access.client_id and access.client_secret:
        return ClientSecretCredential(access.tenant_id, access.client_id, access.client_secret)
    given = given_credential()
    if given is not None and not access.client_id:
        return given
    known = {
        "managed_identity_client_id": access.client_id,
        "workload_identity_client_id": access.client_id,
        "workload_identity_tenant_id": access.tenant_id,
    }
    return DefaultAzureCredential(**{name: value for name, value in known.items() if value})


def _retry_throttled(answer: Any) -> None:
    # The SDK's policy retries 408 and 5xx by itself.
    if answer.http_response.status_code == 429:  # noqa: PLR2004  # too many requests
        raise HttpResponseError(response=answer.http_response)
