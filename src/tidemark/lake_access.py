"""How to get at a lake in Azure Storage: by a key, a SAS, or an identity; never shown.

Without an Airflow connection (``TIDEMARK_LAKE_CONNECTION``) it is the identity of the machine or
the workload, or what the engine gives instead (`open_with`). The core imports no Airflow: inside of
Airflow `tidemark.airflow` says how a connection is looked up (`look_up_with`); the command line
asks a child process; and a Spark job is handed what its task has looked up, in its environment,
which no other user of the machine sees.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from tidemark.azure_url import is_azure
from tidemark.errors import ConfigError

CONNECTION = "TIDEMARK_LAKE_CONNECTION"
# What a task hands to its Spark job; not for people: a secret does not belong into a profile.
HANDED_ON = "TIDEMARK_LAKE_ACCESS"


@dataclass(frozen=True)
class LakeAccess:
    """What opens the lake. Without a key, SAS or secret: ``DefaultAzureCredential``.

    Attributes:
        endpoint: The Blob endpoint, where it is not the account's public one (an emulator).
        account: The account that the key or SAS belongs to, where that is known.
        account_key: The account's key.
        sas_token: A shared access signature.
        tenant_id: The tenant of `client_id`.
        client_id: A service principal; without a secret: a user-assigned identity.
        client_secret: The service principal's.
    """

    endpoint: str | None = None
    account: str | None = None
    account_key: str | None = field(default=None, repr=False)
    sas_token: str | None = field(default=None, repr=False)
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """What it is, in words that may be shown."""
        if self.account_key:
            return "an account key"
        if self.sas_token:
            return "a SAS"
        return "a service principal" if self.client_secret else "DefaultAzureCredential"

    @property
    def secrets(self) -> list[str]:
        """What no log may show."""
        found = (self.account_key, self.sas_token, self.client_secret)
        return [secret for secret in found if secret]

    def to_json(self) -> str:
        """Write it down, secrets and all: for the environment of a job, and a pipe."""
        return json.dumps({name: value for name, value in asdict(self).items() if value})


LookUp = Callable[[str], LakeAccess]


def from_connection_string(text: str) -> LakeAccess:
    """Read a storage account's connection string.

    Raises:
        ConfigError: It holds neither a key nor a SAS.
    """
    pairs = (part.partition("=")[::2] for part in text.split(";") if part.strip())
    parts = {name.strip().lower(): value.strip() for name, value in pairs}
    access = LakeAccess(
        endpoint=parts.get("blobendpoint", "").rstrip("/") or None,
        account=parts.get("accountname"),
        account_key=parts.get("accountkey"),
        sas_token=parts.get("sharedaccesssignature", "").removeprefix("?") or None,
    )
    if not access.secrets:
        message = (
            "the lake's connection string holds neither an AccountKey nor a "
            "SharedAccessSignature; copy it anew from the storage account's page in the portal"
        )
        raise ConfigError(message)
    return access


def load_access(environ: Mapping[str, str] | None = None) -> LakeAccess:
    """Give this process's access to the lake.

    Raises:
        ConfigError: The Airflow connection is missing or incomplete.
    """
    env = os.environ if environ is None else environ
    if env.get(HANDED_ON):
        return LakeAccess(**json.loads(env[HANDED_ON]))
    name = env.get(CONNECTION)
    return _looked_up(name) if name else LakeAccess()


def access_variables(lake_root: str) -> dict[str, str]:
    """Give the variables with which a Spark job opens a lake; none where its own identity does."""
    if not is_azure(lake_root) or not os.environ.get(CONNECTION):
        return {}
    return {HANDED_ON: load_access().to_json()}


def forget_access() -> None:
    """Look the connection up anew the next time: its key may have been rotated."""
    _looked_up.cache_clear()


def look_up_with(look_up: LookUp) -> None:
    """Say how a connection is looked up in this process, by its id."""
    _how[:] = [look_up]
    forget_access()


def open_with(credential: Callable[[], Any]) -> None:
    """Say what gives this process its token credential, where it has no identity of its own.

    Args:
        credential: Gives one of azure-core's, such as Databricks' service credential.
    """
    _given[:] = [credential]


def given_credential() -> Any | None:
    """Give the token credential that was named by `open_with`; None if none was."""
    return _given[-1]() if _given else None


@lru_cache
def _looked_up(name: str) -> LakeAccess:
    return _how[-1](name)


def _asked(name: str) -> LakeAccess:
    """Ask Airflow, in a process of its own."""
    from tidemark.connection import airflow_variables  # noqa: PLC0415  # the command line alone
    from tidemark.settings import load_settings  # noqa: PLC0415

    done = subprocess.run(
        [sys.executable, "-m", "tidemark.airflow.lake_access", name],
        env=dict(airflow_variables(load_settings())),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 and done.stdout:
        return LakeAccess(**json.loads(done.stdout))
    # Airflow's own words may hold what it was given: only ours, which never do, are shown.
    lines = done.stderr.strip().splitlines()
    reason = next((line[9:] for line in lines if line.startswith("tidemark:")), None)
    message = reason or (
        f"the Airflow connection {name!r} ({CONNECTION}) can't be read; try "
        f"`airflow connections get {name}`"
    )
    raise ConfigError(message)


_how: list[LookUp] = [_asked]
_given: list[Callable[[], Any]] = []
