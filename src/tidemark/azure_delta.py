"""What deltalake and polars are told to open a Delta table in Azure Storage."""

from __future__ import annotations

from tidemark.azure_url import Place
from tidemark.lake_access import LakeAccess


def storage_options(place: Place, access: LakeAccess) -> dict[str, str]:
    """Give the options of the `object_store` that both are built on; they hold secrets."""
    options = {"azure_storage_account_name": place.account}
    if access.endpoint is not None:
        options |= {"azure_storage_endpoint": access.endpoint, "azure_allow_http": "true"}
    if access.account_key:
        return options | {"azure_storage_account_key": access.account_key}
    if access.sas_token:
        return options | {"azure_storage_sas_token": access.sas_token}
    from tidemark.storage_azure import SCOPE, identity  # noqa: PLC0415  # which imports this

    # One way for all identities, and the same one as the files': its token is good for an hour.
    return options | {"azure_storage_token": identity(access).get_token(SCOPE).token}
