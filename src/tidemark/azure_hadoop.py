"""What Hadoop's driver for Azure (ABFS) is told, so that Spark opens the lake.

The settings hold secrets: they go into a session from inside of its process, never onto a command
line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from tidemark.azure_url import Place, parse
from tidemark.lake_access import LakeAccess
from tidemark.layout import LAYERS, located

_OAUTH = "org.apache.hadoop.fs.azurebfs.oauth2"
_LOGIN = "https://login.microsoftonline.com"
# Two minutes; Hadoop's own 30 take ten until an account that is not there is called so.
_RETRIES = "10"
# Spark shows its settings on a page and in its event log; its own pattern knows no account's key.
REDACTED = "(?i)secret|password|token|access[.]?key|account[.]key|[.]sas[.]"


def azure_conf(
    lake_root: str, access: LakeAccess, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give the settings for a lake in Azure.

    Args:
        lake_root: The lake's root.
        access: What opens it.
        environ: Where the identity of a workload is described; this process's own without it.
    """
    env = os.environ if environ is None else environ
    conf = {"spark.redaction.regex": REDACTED}
    for place in {parse(located(lake_root, layer)[0]) for layer in LAYERS}:
        conf |= {f"spark.hadoop.{key}": value for key, value in _of(place, access, env).items()}
    return conf


def _of(place: Place, access: LakeAccess, env: Mapping[str, str]) -> dict[str, str]:
    host = place.host
    conf = {} if place.secure else _emulator(access)
    conf["fs.azure.io.retry.max.retries"] = _RETRIES
    if access.account_key:
        return conf | {f"fs.azure.account.key.{host}": access.account_key}
    if access.sas_token:
        return conf | {
            f"fs.azure.account.auth.type.{host}": "SAS",
            f"fs.azure.sas.fixed.token.{host}": access.sas_token,
        }
    conf[f"fs.azure.account.auth.type.{host}"] = "OAuth"
    provider, settings = _identity(access, env)
    conf[f"fs.azure.account.oauth.provider.type.{host}"] = f"{_OAUTH}.{provider}"
    given = {f"fs.azure.account.oauth2.{name}.{host}": value for name, value in settings.items()}
    return conf | {name: value for name, value in given.items() if value}


def _identity(access: LakeAccess, env: Mapping[str, str]) -> tuple[str, dict[str, str | None]]:
    """Choose as `DefaultAzureCredential` does, among what the driver knows."""
    tenant = access.tenant_id or env.get("AZURE_TENANT_ID")
    client = access.client_id or env.get("AZURE_CLIENT_ID")
    secret = access.client_secret or (None if access.client_id else env.get("AZURE_CLIENT_SECRET"))
    if tenant and client and secret:
        endpoint = f"{env.get('AZURE_AUTHORITY_HOST', _LOGIN).rstrip('/')}/{tenant}/oauth2/token"
        return "ClientCredsTokenProvider", {
            "client.id": client,
            "client.secret": secret,
            "client.endpoint": endpoint,
        }
    if env.get("AZURE_FEDERATED_TOKEN_FILE"):
        return "WorkloadIdentityTokenProvider", {
            "msi.tenant": tenant,
            "client.id": client,
            "token.file": env["AZURE_FEDERATED_TOKEN_FILE"],
        }
    return "MsiTokenProvider", {"msi.tenant": tenant, "client.id": client}


def _emulator(access: LakeAccess) -> dict[str, str]:
    """Speak the Blob API, by HTTP, to an address: an emulator has no other, and no domain."""
    address = urlsplit(access.endpoint or "http://127.0.0.1:10000").netloc
    return {
        "fs.azure.abfs.endpoint": address,
        "fs.azure.account.hns.enabled": "false",
        "fs.azure.always.use.https": "false",
        "fs.azure.fns.account.service.type": "BLOB",
        # Hadoop's other one makes no connection without a TLS factory.
        "fs.azure.networking.library": "JDK_HTTP_URL_CONNECTION",
    }
