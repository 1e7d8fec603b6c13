"""Azurite, the emulator of Azure Storage, for tests: installed by npm once, and started."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import npm
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ResourceTypes,
    generate_account_sas,
)

from tidemark.lake_access import HANDED_ON, LakeAccess

ACCOUNT = "devstoreaccount1"
# Every Azurite's own, and documented: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_START_SECONDS = 60


@dataclass(frozen=True)
class Azurite:
    """A running emulator."""

    endpoint: str

    @property
    def access(self) -> LakeAccess:
        return LakeAccess(endpoint=self.endpoint, account=ACCOUNT, account_key=KEY)

    @property
    def connection(self) -> str:
        """An Airflow connection, as JSON."""
        text = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.endpoint};"
        return json.dumps({"conn_type": "wasb", "extra": {"connection_string": text}})

    @cached_property
    def signature(self) -> str:
        """A shared access signature with the permissions that docs/azure-lake.md names."""
        return generate_account_sas(
            ACCOUNT,
            KEY,
            ResourceTypes(container=True, object=True),
            AccountSasPermissions(
                read=True, write=True, delete=True, list=True, add=True, create=True
            ),
            datetime.now(UTC) + timedelta(hours=2),
        )

    @property
    def access_by_signature(self) -> LakeAccess:
        return LakeAccess(endpoint=self.endpoint, account=ACCOUNT, sas_token=self.signature)

    @property
    def connection_by_signature(self) -> str:
        """An Airflow connection without the account's key, as JSON."""
        text = f"BlobEndpoint={self.endpoint};SharedAccessSignature={self.signature}"
        return json.dumps({"conn_type": "wasb", "extra": {"connection_string": text}})

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs that has no Airflow connection."""
        return {HANDED_ON: self.access.to_json()}

    @property
    def service(self) -> BlobServiceClient:
        return BlobServiceClient(
            self.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}
        )

    def container(self) -> ContainerClient:
        """Make a container of the test's own."""
        return self.service.create_container(f"lake-{uuid.uuid4().hex[:12]}")

    def lake(self, path: str = "team/lake") -> str:
        """Make a container, and give the URL of a lake in it."""
        name = self.container().container_name
        return f"abfs://{name}@{ACCOUNT}.dfs.core.windows.net/{path}".rstrip("/")


@contextlib.contextmanager
def server() -> Iterator[Azurite]:
    """Start Azurite on a free port; end it again."""
    script, port = installed(), _free_port()
    process = subprocess.Popen(
        [
            *(str(npm.NODE), str(script)),
            *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port)
        yield Azurite(f"http://127.0.0.1:{port}/{ACCOUNT}")
    finally:
        process.terminate()
        process.wait()


def installed() -> Path:
    """Give Azurite's program, installed once."""
    return npm.installed("azurite") / "azurite" / "dist" / "src" / "blob" / "main.js"


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + _START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"Azurite has not started: exit code {process.poll()}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
