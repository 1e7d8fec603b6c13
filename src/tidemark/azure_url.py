"""URLs of a lake in Azure Storage, and where the Blob endpoint behind them is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidemark.errors import ConfigError

SCHEMES = ("abfss", "abfs", "wasbs", "wasb")
_URL = re.compile(
    rf"(?P<scheme>{'|'.join(SCHEMES)})://(?P<container>[^@/]+)@(?P<host>[^/:@]+)(?:/(?P<path>.*))?$"
)


@dataclass(frozen=True)
class Place:
    """A folder of a container.

    Attributes:
        secure: Whether it is spoken to by HTTPS; only an emulator is not.
        container: The container.
        host: The account's host, of the form ``account.dfs.core.windows.net``.
        path: The folder, without slashes around it; empty: the container itself.
    """

    secure: bool
    container: str
    host: str
    path: str = ""

    @property
    def account(self) -> str:
        """The storage account."""
        return self.host.partition(".")[0]

    @property
    def endpoint(self) -> str:
        """The account's public Blob endpoint."""
        return f"https://{self.host.replace('.dfs.', '.blob.', 1)}"

    @property
    def url(self) -> str:
        """The folder's URL, as Spark takes it."""
        root = f"{'abfss' if self.secure else 'abfs'}://{self.container}@{self.host}"
        return f"{root}/{self.path}" if self.path else root


def is_azure(url: str) -> bool:
    """Tell whether a lake's root, or one for each layer, is in Azure Storage."""
    return url.removeprefix("bronze=").partition("://")[0] in SCHEMES


def parse(url: str) -> Place:
    """Read a URL; ``wasbs://…blob…``, the old name of the same place, counts as ``abfss://…dfs…``.

    Raises:
        ConfigError: It is none; says what one looks like. A SAS or key in it is not shown.
    """
    found = _URL.match(url)
    if found is None or "?" in url:
        shown = url.partition("?")[0]
        message = (
            f"lake {shown!r}: not of the form abfss://container@account.dfs.core.windows.net/path; "
            "correct TIDEMARK_LAKE, and keep a key or SAS in the Airflow connection that "
            "TIDEMARK_LAKE_CONNECTION names"
        )
        raise ConfigError(message)
    host = found["host"]
    # An emulator's account has no domain of its own.
    host = host.replace(".blob.", ".dfs.", 1) if "." in host else f"{host}.dfs.core.windows.net"
    secure = found["scheme"] in {"abfss", "wasbs"}
    return Place(secure, found["container"], host, (found["path"] or "").strip("/"))
