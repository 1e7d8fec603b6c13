"""A home whose lake is in Azure's emulator, and what may not be seen of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from azurite import ACCOUNT, Azurite
from home_harness import Home

from tidemark.layout import Lake
from tidemark.storage_azure import AzureStore

CONNECTION = "my_lake"


@dataclass
class AzureHome(Home):
    """As `Home`; everything that reads the lake goes by the emulator."""

    azurite: Azurite = field(kw_only=True)
    root: str = field(kw_only=True)

    @property
    def store(self) -> AzureStore:
        return AzureStore(self.root, self.azurite.access)

    def rows(self, relative: str) -> list[dict[str, Any]]:
        url, options = self.store.delta(relative)
        return pl.read_delta(url, storage_options=options).to_dicts()

    def names(self, table: str) -> list[str]:
        return self.store.names(Lake(self.root).bronze_folder(table))


def make_home(folder: Path, azurite: Azurite, variables: dict[str, str], root: str) -> AzureHome:
    """Make a home that finds its lake by an Airflow connection that holds a signature."""
    connection = azurite.connection_by_signature
    own = {"TIDEMARK_LAKE_CONNECTION": CONNECTION, "AIRFLOW_CONN_MY_LAKE": connection}
    return AzureHome(folder, own | variables, own_spark=True, azurite=azurite, root=root)


def layers(azurite: Azurite) -> dict[str, str]:
    """Make a container for each layer, as ADF's lakes have them."""
    found = {}
    for layer in ("bronze", "silver", "gold"):
        name = azurite.container().container_name
        url = f"abfs://{name}@{ACCOUNT}.dfs.core.windows.net"
        found[f"TIDEMARK_LAKE_{layer.upper()}"] = url
    return found


@contextlib.contextmanager
def watched_command_lines(secret: str) -> Iterator[set[str]]:
    """Watch, as anybody on the machine can, which command lines show a secret."""
    found: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if secret.encode() in (line := file.read_bytes()):
                        found.add(line[:300].decode(errors="replace"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
