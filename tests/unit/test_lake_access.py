"""What opens a lake in Azure: read from a connection, handed to Spark and Delta, never shown."""

from __future__ import annotations

import json

import pytest

from tidemark.airflow.lake_access import access_of
from tidemark.azure_delta import storage_options
from tidemark.azure_hadoop import REDACTED, azure_conf
from tidemark.azure_url import Place, parse
from tidemark.errors import ConfigError
from tidemark.lake_access import HANDED_ON, LakeAccess, from_connection_string, load_access
from tidemark.layout import Lake, joined_roots
from tidemark.settings import load_settings

HOST = "account1.dfs.core.windows.net"
ROOT = f"abfss://lake@{HOST}/team"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (ROOT, Place(True, "lake", HOST, "team")),
        (f"{ROOT}/", Place(True, "lake", HOST, "team")),
        (f"abfss://lake@{HOST}", Place(True, "lake", HOST)),
        ("wasbs://lake@account1.blob.core.windows.net/a/b", Place(True, "lake", HOST, "a/b")),
        (f"abfs://lake@{HOST}/x", Place(False, "lake", HOST, "x")),
        (
            "wasb://lake@devstoreaccount1/x",
            Place(False, "lake", "devstoreaccount1.dfs.core.windows.net", "x"),
        ),
    ],
)
def test_each_form_of_a_url_is_read(url: str, place: Place) -> None:
    assert parse(url) == place
    assert parse(place.url) == place
    assert place.endpoint == f"https://{place.account}.blob.core.windows.net"


@pytest.mark.parametrize("url", ["abfss://lake/x", "abfss://lake@", f"{ROOT}?sig=s3cret"])
def test_what_is_no_url_is_named_without_its_secret(url: str) -> None:
    with pytest.raises(ConfigError, match="abfss://container@account") as caught:
        parse(url)
    assert "s3cret" not in str(caught.value)


def test_layers_may_have_urls_of_their_own() -> None:
    env = {"TIDEMARK_LAKE": ROOT, "TIDEMARK_LAKE_BRONZE": f"wasbs://bronze@{HOST}/"}
    lake = load_settings(env).lake
    assert lake.url(lake.state_file("T")) == f"abfss://bronze@{HOST}/T_cdc/cdc.json"
    assert lake.url(lake.silver("T")) == f"{ROOT}/silver/T"
    assert lake.url(lake.marker("silver", "T")) == f"{ROOT}/silver/_tidemark/markers/silver/T.json"
    # As `tidemark env` hands it on.
    assert load_settings({"TIDEMARK_LAKE": lake.root}).lake == lake
    assert load_settings(env | {"TIDEMARK_LAKE": lake.root}).lake == lake


def test_a_layer_beside_a_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^TIDEMARK_LAKE_SILVER is '/.*must all be URLs"):
        load_settings({"TIDEMARK_LAKE": "/lake", "TIDEMARK_LAKE_BRONZE": ROOT})


@pytest.mark.parametrize(
    ("fields", "access"),
    [
        ((None, "account1", "key", {}), LakeAccess(account="account1", account_key="key")),
        (
            ("https://account1.blob.core.windows.net/", None, "key", {}),
            LakeAccess(account="account1", account_key="key"),
        ),
        (
            ("http://azurite:10000/dev", "dev", "key", {}),
            LakeAccess("http://azurite:10000/dev", "dev", "key"),
        ),
        (
            (None, "account1", None, {"sas_token": "?sv=1&sig=s"}),
            LakeAccess(account="account1", sas_token="sv=1&sig=s"),  # noqa: S106
        ),
        (
            (None, None, None, {"sas_token": "https://account1.blob.core.windows.net/?sig=s"}),
            LakeAccess(account="account1", sas_token="sig=s"),  # noqa: S106
        ),
        (
            (None, "client", "secret", {"tenant_id": "t"}),
            LakeAccess(tenant_id="t", client_id="client", client_secret="secret"),  # noqa: S106
        ),
        (
            ("account1", None, None, {"managed_identity_client_id": "c"}),
            LakeAccess(client_id="c"),
        ),
        ((None, None, None, {}), LakeAccess()),
        (
            (None, None, None, {"connection_string": "AccountName=a;AccountKey=a+b/c==;X=y"}),
            LakeAccess(account="a", account_key="a+b/c=="),
        ),
    ],
)
def test_each_kind_of_connection_is_read(
    fields: tuple[str | None, str | None, str | None, dict[str, str]], access: LakeAccess
) -> None:
    found = access_of(*fields)
    assert found == access
    assert not any(
        secret in repr(found) for secret in found.secrets if secret not in {"s", "secret"}
    )
    assert load_access({HANDED_ON: found.to_json()}) == found
    assert None not in json.loads(found.to_json()).values()


def test_a_connection_string_without_a_secret_is_refused_unseen() -> None:
    with pytest.raises(ConfigError, match="neither an AccountKey nor") as caught:
        from_connection_string("AccountName=a;AccountKeyy=hidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("access", "environ", "kind", "provider"),
    [
        (LakeAccess(account_key="k"), {}, None, None),
        (LakeAccess(sas_token="s"), {}, "SAS", None),  # noqa: S106
        (
            LakeAccess(None, None, None, None, "t", "c", "s"),
            {},
            "OAuth",
            "ClientCredsTokenProvider",
        ),
        (
            LakeAccess(),
            {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"},
            "OAuth",
            "ClientCredsTokenProvider",
        ),
        (
            LakeAccess(),
            {"AZURE_FEDERATED_TOKEN_FILE": "/f", "AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t"},
            "OAuth",
            "WorkloadIdentityTokenProvider",
        ),
        (LakeAccess(client_id="c"), {}, "OAuth", "MsiTokenProvider"),
    ],
)
def test_hadoops_driver_is_told_of_each_identity(
    access: LakeAccess, environ: dict[str, str], kind: str | None, provider: str | None
) -> None:
    conf = azure_conf(ROOT, access, environ)
    own = {k.removeprefix("spark.hadoop.fs.azure."): v for k, v in conf.items()}
    assert own.get(f"account.auth.type.{HOST}") == kind
    assert own.get(f"account.oauth.provider.type.{HOST}", "None").rpartition(".")[2] == str(
        provider
    )
    if access.account_key:
        assert own[f"account.key.{HOST}"] == "k"
    assert conf["spark.redaction.regex"] == REDACTED


def test_each_account_of_a_lake_is_told_of() -> None:
    root = joined_roots(*(f"abfss://x@{name}.dfs.core.windows.net" for name in "abc"))
    conf = azure_conf(root, LakeAccess(account_key="k"), {})
    assert sum(".account.key." in name for name in conf) == 3


def test_delta_is_told_of_a_key_or_a_sas() -> None:
    place = parse(ROOT)
    assert storage_options(place, LakeAccess(account_key="k")) == {
        "azure_storage_account_name": "account1",
        "azure_storage_account_key": "k",
    }
    found = storage_options(place, LakeAccess("http://127.0.0.1:1/a", sas_token="s"))  # noqa: S106
    assert found["azure_storage_sas_token"] == "s"  # noqa: S105
    assert found["azure_storage_endpoint"] == "http://127.0.0.1:1/a"


def test_a_lake_in_a_folder_has_no_layers() -> None:
    assert Lake("/lake").url("bronze/T") == "/lake/bronze/T"
