"""From an Airflow connection to what opens the lake.

In Airflow's own processes a look-up; run as a program (`tidemark.lake_access` does, for the command
line) it tells what it found to its parent's pipe and nowhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tidemark.errors import ConfigError, TidemarkError
from tidemark.lake_access import CONNECTION, LakeAccess, from_connection_string

# A connection of Azure Blob Storage, and one of Azure Data Lake Storage Gen2.
TYPES = ("wasb", "adls")
_PUBLIC = ".core.windows.net"


def look_up(name: str) -> LakeAccess:
    """Read the Airflow connection of the lake; its secrets are masked in logs from then on.

    Raises:
        ConfigError: It is missing, or of another type.
    """
    from airflow.sdk import Connection  # noqa: PLC0415  # this is imported wherever Dags are parsed
    from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415
    from airflow.sdk.log import mask_secret  # noqa: PLC0415

    try:
        connection = Connection.get(name)
    except AirflowNotFoundException as error:
        message = (
            f"{CONNECTION}: {name!r} is no Airflow connection; add it with `airflow connections "
            f"add {name} --conn-type wasb …` (docs/azure-lake.md), or unset {CONNECTION} to use "
            "the identity of this machine"
        )
        raise ConfigError(message) from error
    if connection.conn_type not in TYPES:
        message = (
            f"{CONNECTION}: the Airflow connection {name!r} is of type {connection.conn_type!r}; "
            f"a lake needs one of: {', '.join(TYPES)}"
        )
        raise ConfigError(message)
    access = access_of(
        connection.host, connection.login, connection.password, connection.extra_dejson
    )
    for secret in access.secrets:
        mask_secret(secret)
    return access


def access_of(
    host: str | None, login: str | None, password: str | None, extra: Mapping[str, Any]
) -> LakeAccess:
    """Read a connection's fields as Airflow's own hooks do.

    Raises:
        ConfigError: Its connection string can't be read.
    """

    def own(name: str) -> str | None:
        value = (
            extra.get(name)
            or extra.get(f"extra__wasb__{name}")
            or extra.get(f"extra__adls__{name}")
        )
        return str(value) if value else None

    if text := own("connection_string"):
        return from_connection_string(text)
    endpoint, account = _endpoint(host), _account(host) or login
    if tenant := own("tenant_id"):
        return LakeAccess(endpoint, None, None, None, tenant, login, password)
    if sas := own("sas_token"):
        url, _, query = sas.rpartition("?")
        return LakeAccess(_endpoint(url) or endpoint, _account(url) or account, sas_token=query)
    if key := own("shared_access_key") or password or own("account_key"):
        return LakeAccess(endpoint, account, key)
    return LakeAccess(
        endpoint,
        tenant_id=own("workload_identity_tenant_id"),
        client_id=own("managed_identity_client_id"),
    )


def _endpoint(host: str | None) -> str | None:
    """Give an endpoint that is not the account's public one: an emulator's, or a cloud's own."""
    if not host or "://" not in host or _PUBLIC in host:
        return None
    return host.rstrip("/")


def _account(host: str | None) -> str | None:
    """Read the account from a host, with or without its domain; an emulator's is in its path."""
    if not host:
        return None
    url = urlsplit(host if "://" in host else f"https://{host}")
    if _endpoint(host):
        return url.path.strip("/") or None
    return (url.hostname or "").partition(".")[0] or None


def main() -> int:
    """Resolve the connection that is named."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Airflow's words are not the answer
    # Connections of Airflow's own database too, as its server sees them.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        access = look_up(sys.argv[1])
    except TidemarkError as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"tidemark:{message}\n")
        return 1
    with pipe:
        pipe.write(access.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
