"""Why a login to Databricks was refused before the workspace itself was asked.

A service principal, or a machine's identity, first gets a token: from the workspace's own token
endpoint, from Microsoft Entra, or from the machine's metadata service. What these refuse comes out
of the provider's hook as whatever their libraries raise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import requests
from azure.core.exceptions import ClientAuthenticationError

_TOKENS = "/oidc/v1/token"
_LONGEST = 400
_REFUSED = (400, 401, 403)
# What `azure-identity` says where nothing answers, and also where an identity is not known.
_NO_IDENTITY = ("Identity not found", "has not been assigned", "invalid_request")
_MACHINE = "Azure Metadata Service"
_NO_TENANT = "Unable to get authority configuration"  # MSAL's, a ValueError


@dataclass(frozen=True)
class Refusal:
    """Why there is no token.

    Attributes:
        said: In the words of who gives it out.
        remedy: What to do.
        is_final: Whether another try would be refused as well.
    """

    said: str
    remedy: str
    is_final: bool = True


_PRINCIPAL = (
    "make a new secret for the service principal and put it into the connection as its password; "
    "its login is the application id, and for Entra `azure_tenant_id` is the id of its tenant"
)
_IDENTITY = (
    "assign a managed identity to the machine that Airflow runs on, and name a user-assigned one "
    "by `azure_managed_identity_client_id` in the connection's extra"
)
_NOT_AZURE = (
    "a managed identity is to be had on a machine of Azure only: elsewhere give the connection a "
    "service principal"
)


def refusal(error: BaseException) -> Refusal | None:
    """Read an error of the provider's hook; None if it is not of a login."""
    for each in _chain(error):
        if isinstance(each, ClientAuthenticationError):
            return _by_azure(str(each.message))
        if isinstance(each, ValueError) and _NO_TENANT in str(each):
            return Refusal(_short(str(each).partition(". ")[0]), _PRINCIPAL)
        if isinstance(each, ConnectionError) and _MACHINE in str(each):
            return Refusal(_short(str(each)), _NOT_AZURE, is_final=False)
        found = _by_workspace(each)
        if found is not None:
            return found
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def _by_azure(message: str) -> Refusal:
    """Tell Entra's refusal of a secret from a machine that has no identity, or does not answer."""
    said = _short(message)
    if "ManagedIdentityCredential" not in message:
        return Refusal(said, _PRINCIPAL)
    return Refusal(said, _IDENTITY, is_final=any(words in message for words in _NO_IDENTITY))


def _by_workspace(error: BaseException) -> Refusal | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status, url = error.response.status_code, str(error.response.url)
    elif isinstance(error, aiohttp.ClientResponseError):
        status, url = error.status, str(error.request_info.url)
    else:
        return None
    if _TOKENS not in url or status not in _REFUSED:
        return None
    return Refusal(f"the workspace's token endpoint answers {status}", _PRINCIPAL)


def _short(text: str) -> str:
    return " ".join(text.partition("\nContent:")[0].split())[:_LONGEST]
