"""What Azure Storage refuses, in words that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from tidemark.azure_url import Place
from tidemark.errors import LakeError, LakeUnavailable
from tidemark.lake_access import CONNECTION, LakeAccess, forget_access

_LEASED = {
    "LeaseIdMissing",
    "LeaseAlreadyPresent",
    "LeaseIdMismatchWithBlobOperation",
    "LeaseLost",
}
_NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}
_NO_RIGHT = {401, 403}
_PASSING = {408, 429}
_SERVER = 500
_KEY = (
    "was it rotated, or has it run out? Put the new one into the Airflow connection that "
    f"{CONNECTION} names, and run again"
)
_ROLE = (
    "give the identity the role 'Storage Blob Data Contributor' on the container (it takes some "
    "minutes to count), and run again"
)
_REMEDIES = {
    "AuthenticationFailed": _KEY,
    "InvalidAuthenticationInfo": _KEY,
    "AuthorizationPermissionMismatch": f"it may not do that: {_ROLE}; a SAS needs the permissions "
    "read, add, create, write, delete and list",
    "InsufficientAccountPermissions": _ROLE,
    "AuthorizationFailure": "the account's firewall may keep this machine out: allow its network, "
    f"or use a private endpoint; or the right is missing: {_ROLE}",
    "AuthorizationProtocolMismatch": "a SAS for HTTPS only was used over HTTP: use abfss://",
    "AuthorizationSourceIPMismatch": "the SAS is not valid for this machine's address",
    "AuthorizationResourceTypeMismatch": "the SAS must be valid for containers and objects",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: use an identity, without "
    f"{CONNECTION} or with a connection that holds none",
    "PublicAccessNotPermitted": f"no identity was sent: set {CONNECTION}, or run with an identity",
}


@contextlib.contextmanager
def explained(path: str, place: Place, access: LakeAccess) -> Iterator[None]:
    """Turn what Azure answers into an error that names path, fact and remedy.

    Raises:
        LakeError: It refuses for good.
        LakeUnavailable: It does not answer, or not now.
    """
    try:
        yield
    except AzureError as error:
        raise _explanation(path, place, access, error) from error


def _explanation(path: str, place: Place, access: LakeAccess, error: AzureError) -> LakeError:
    head = f"{path} (container {place.container!r} of account {place.account!r})"
    if isinstance(error, HttpResponseError) and error.status_code:
        status, code = error.status_code, error_code(error)
        fact = f"{head}: refused with {code or 'no code'} (HTTP {status})"
        return _refusal(fact, status, code, place, access)
    if isinstance(error, ClientAuthenticationError):
        return LakeError(_no_identity(head, access))
    unreached = isinstance(error, ServiceRequestError | ServiceResponseError)
    kind = LakeUnavailable if unreached else LakeError
    return kind(
        f"{head}: Azure Storage can't be reached ({type(error).__name__}); check the account's "
        "name, the network and its DNS, then run again: nothing is lost"
    )


def error_code(error: HttpResponseError) -> str:
    """Give the code that Azure Storage gave its answer; empty without one."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _refusal(fact: str, status: int, code: str, place: Place, access: LakeAccess) -> LakeError:
    if status in _PASSING or status >= _SERVER:
        return LakeUnavailable(
            f"{fact}, also after several tries with pauses: Azure throttles or is disturbed; "
            "nothing is lost: the retry is a new read"
        )
    remedy = "mend it and run again; nothing is lost"
    if code in _LEASED:
        remedy = (
            "somebody holds a lease on it; end it (`az storage blob lease break`), and run again"
        )
    elif code in _NO_CONTAINER:
        remedy = (
            "the container is not there; make it (`az storage container create --name "
            f"{place.container} --account-name {place.account}`), or correct TIDEMARK_LAKE"
        )
    elif status in _NO_RIGHT:
        forget_access()
        fact = f"{fact}, with {access.kind}"
        remedy = _REMEDIES.get(code, _ROLE)
        if code == "AuthorizationFailure" and (access.account_key or access.sas_token):
            remedy = f"{_KEY}; or {remedy}"
    return LakeError(f"{fact}: {remedy}")


def _no_identity(head: str, access: LakeAccess) -> str:
    return (
        f"{head}: no token could be had for {access.kind}; give the machine a managed identity, or "
        f"the pod a workload identity, or set {CONNECTION} to an Airflow connection (type wasb or "
        "adls) with a service principal, key, SAS or connection string"
    )
