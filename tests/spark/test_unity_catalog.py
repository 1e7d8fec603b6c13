"""What is asked of Unity Catalog: SQL that Databricks' grammar takes, and one documented call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from tidemark import lake_access, storage_azure
from tidemark.errors import ConfigError
from tidemark.lake_access import LakeAccess
from tidemark.layout import joined_roots
from tidemark.metadata import Source, load_source
from tidemark.spark import registration, unity_catalog
from tidemark.spark.silver import TableResult
from tidemark.spark.unity_catalog import register_tables, statement, use_service_credential
from tidemark.storage import LocalStore

CONFIG = """
source: {connection: c}
tables:
  DimUser: {key: user_id}
  OrderLine: {key: id, schema: sales, lake_name: SalesOrderLine}
"""
ACCOUNT = "account.dfs.core.windows.net"
ROOT = joined_roots(*(f"abfss://{layer}@{ACCOUNT}/o'dd" for layer in ("bronze", "silver", "gold")))


class Session:
    """A session that keeps what it is asked, and takes nothing that the grammar refuses."""

    def __init__(self) -> None:
        self.created: list[exp.Create] = []

    def sql(self, text: str) -> None:
        (parsed,) = sqlglot.parse(text, dialect="databricks")
        assert isinstance(parsed, exp.Create), text
        self.created.append(parsed)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "shop.yaml"
    path.write_text(CONFIG)
    return load_source(path)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """Be on Databricks, where the first table's silver is there and the other's is not."""
    store = LocalStore(tmp_path / "lake")
    for name in ("DimUser", "DimUser_changes"):
        store.write(f"silver/{name}/_delta_log/{0:020}.json", b"{}")
    monkeypatch.setattr(unity_catalog, "open_store", lambda _root: store)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    monkeypatch.setenv("TIDEMARK_CATALOG", "tide`mark")
    return store


@pytest.mark.usefixtures("there")
def test_what_is_there_is_registered_as_external_tables(source: Source) -> None:
    session = Session()
    names = register_tables(session, ROOT, source, ["DimUser", "SalesOrderLine"])  # type: ignore[arg-type]
    assert names == ["`tide``mark`.`silver`.`DimUser`", "`tide``mark`.`silver`.`DimUser_changes`"]
    for create, folder in zip(session.created, ("DimUser", "DimUser_changes"), strict=True):
        assert create.args["exists"]
        assert create.kind == "TABLE"
        table = create.this
        assert (table.catalog, table.db, table.name) == ("tide`mark", "silver", folder)
        properties = {type(p): p.this for p in create.args["properties"].expressions}
        assert properties[exp.FileFormatProperty].name.upper() == "DELTA"
        url = f"abfss://silver@{ACCOUNT}/o'dd/{folder}"
        assert properties[exp.LocationProperty].this == url
        assert "dbo.DimUser of shop" in properties[exp.SchemaCommentProperty].this


def test_a_text_keeps_its_quotes_and_backslashes() -> None:
    (parsed,) = sqlglot.parse(statement("`a`", "abfss://x/it's", "a\\b'"), dialect="databricks")
    assert parsed is not None
    found = [literal.this for literal in parsed.find_all(exp.Literal)]
    assert set(found) >= {"abfss://x/it's", "a\\b'"}


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("missing", ["DATABRICKS_RUNTIME_VERSION", "TIDEMARK_CATALOG"])
def test_nothing_is_registered_elsewhere(
    source: Source, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    session = Session()
    assert register_tables(session, ROOT, source, ["DimUser"]) == []  # type: ignore[arg-type]
    assert session.created == []


@pytest.mark.usefixtures("there")
def test_without_a_table_that_is_done_nothing_is_registered(source: Source) -> None:
    session = Session()
    assert register_tables(session, ROOT, source, []) == []  # type: ignore[arg-type]
    assert session.created == []


def test_a_table_that_the_catalog_refuses_has_failed_and_stays_pending(
    source: Source, there: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "open_store", lambda _root: there)
    for name in ("DimUser", "SalesOrderLine"):
        there.write(f"_tidemark/markers/silver/{name}.json", b"{}")

    class Refusing(Session):
        def sql(self, text: str) -> None:
            raise PermissionError(text)

    before = {
        "DimUser": TableResult(rows=3),
        "SalesOrderLine": TableResult(rows=1),  # it has no folder yet, so nothing to register
        "Other": TableResult(status="failed", error="Other: its own reason"),
    }
    session: Any = Refusing()
    after = registration.registered(session, ROOT, source, before)
    assert after == before | {"DimUser": after["DimUser"]}
    assert (after["DimUser"].status, after["DimUser"].rows) == ("failed", 3)
    assert "not in the catalog: DimUser: PermissionError: CREATE TABLE" in str(
        after["DimUser"].error
    )
    assert there.names("_tidemark/markers/silver") == ["SalesOrderLine.json"]
    session = Session()
    assert registration.registered(session, ROOT, source, before) == before
    assert len(session.created) == 2


# --- the credential


class Credentials:
    """`dbutils.credentials`, with the one documented call that is used."""

    def __init__(self, known: str) -> None:
        self.known = known

    def getServiceCredentialsProvider(self, credentialName: str) -> str:  # noqa: N802, N803
        if credentialName != self.known:
            raise ValueError(f"no service credential {credentialName}")
        return f"the token of {credentialName}"


@pytest.fixture
def on_databricks(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    runtime: Any = ModuleType("databricks.sdk.runtime")
    runtime.dbutils = ModuleType("dbutils")
    runtime.dbutils.credentials = Credentials("tidemark_lake")
    for name in ("databricks.sdk", "databricks.sdk.runtime"):
        monkeypatch.setitem(sys.modules, name, runtime)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    monkeypatch.setenv("TIDEMARK_SERVICE_CREDENTIAL", "tidemark_lake")
    storage_azure.identity.cache_clear()
    yield monkeypatch
    lake_access._given.clear()
    storage_azure.identity.cache_clear()


@pytest.mark.usefixtures("on_databricks")
def test_the_lakes_store_takes_the_service_credential() -> None:
    use_service_credential()
    assert storage_azure.identity(LakeAccess()) == "the token of tidemark_lake"
    secret = LakeAccess(tenant_id="t", client_id="c", client_secret="s")  # noqa: S106  not one
    assert type(storage_azure.identity(secret)).__name__ == "ClientSecretCredential"


def test_a_credential_that_is_not_granted_says_what_to_grant(
    on_databricks: pytest.MonkeyPatch,
) -> None:
    on_databricks.setenv("TIDEMARK_SERVICE_CREDENTIAL", "other")
    use_service_credential()
    with pytest.raises(ConfigError, match="GRANT ACCESS ON SERVICE CREDENTIAL `other`"):
        storage_azure.identity(LakeAccess())


@pytest.mark.parametrize("missing", ["DATABRICKS_RUNTIME_VERSION", "TIDEMARK_SERVICE_CREDENTIAL"])
def test_elsewhere_it_is_the_machines_identity(
    on_databricks: pytest.MonkeyPatch, missing: str
) -> None:
    on_databricks.delenv(missing)
    use_service_credential()
    assert lake_access.given_credential() is None
    assert type(storage_azure.identity(LakeAccess())).__name__ == "DefaultAzureCredential"
