"""The cloud's resources as code: they parse, hold no secret, and grant what the docs say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

PROJECT = Path(__file__).parents[2]
INFRA = PROJECT / "infra"
DOCS = (PROJECT / "docs" / "azure-setup.md").read_text()
FILES = sorted(INFRA.glob("*.tf"))


def _plain(value: Any) -> Any:
    """Take the quotes off texts, which the parser keeps to tell them from expressions."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items() if not str(k).startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


@pytest.fixture(scope="module")
def code() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for path in FILES:
        with path.open() as file:
            for kind, blocks in _plain(hcl2.load(file)).items():
                found.setdefault(kind, []).extend(blocks)
    return found


def _resources(code: dict[str, list[Any]], kind: str) -> dict[str, Any]:
    return {n: body for block in code["resource"] for n, body in block.get(kind, {}).items()}


def _local(code: dict[str, list[Any]], name: str) -> dict[str, dict[str, Any]]:
    (found,) = [block[name] for block in code["locals"] if name in block]
    return dict(found)


def _table(heading: str) -> list[list[str]]:
    text = DOCS.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


def test_every_role_of_the_docs_is_in_the_code_and_the_other_way_round(
    code: dict[str, list[Any]],
) -> None:
    roles = _local(code, "roles").values()
    written = [[r["who"], r["where"], r["role"], r["below"]] for r in roles]
    assert sorted(written) == sorted(row[:4] for row in _table("Who may do what in Azure"))
    (assignment,) = _resources(code, "azurerm_role_assignment").values()
    assert assignment["for_each"] == "${local.roles}"
    assert assignment["role_definition_name"] == "${each.value.role}"
    assert set(_local(code, "principals")) == {r["who"] for r in roles}


def test_every_grant_of_the_docs_is_in_the_code_and_the_other_way_round(
    code: dict[str, list[Any]],
) -> None:
    grants = _local(code, "grants").values()
    written = [[g["who"], g["on"], ", ".join(g["may"])] for g in grants]
    assert sorted(written) == sorted(row[:3] for row in _table("Who may do what in Unity Catalog"))
    (grant,) = _resources(code, "databricks_grant").values()
    assert grant["for_each"] == "${local.grants}"
    assert grant["privileges"] == "${each.value.may}"
    assert not _resources(code, "databricks_grants")  # which would take away all others


def test_least_privilege(code: dict[str, list[Any]]) -> None:
    grants, roles = _local(code, "grants").values(), _local(code, "roles").values()
    assert {g["on"] for g in grants if g["who"] == "bi"} == {"catalog", "schema gold"}
    bi = {right for g in grants if g["who"] == "bi" for right in g["may"]}
    assert bi == {"USE_CATALOG", "USE_SCHEMA", "SELECT"}
    written = {r["where"]: r["below"] for r in roles
               if r["who"] == "ingest" and "Contributor" in r["role"]}  # fmt: skip
    assert written == {"bronze": "", "silver": "_tidemark/"}
    bronze = {r["who"]: r["role"] for r in roles if r["where"] == "bronze"}
    assert {w for w, role in bronze.items() if "Contributor" in role} == {"ingest"}
    assert not any(word in r["role"] for r in roles for word in ("Owner", "Administrator"))
    assert not any("ALL_PRIVILEGES" in g["may"] or "MANAGE" in g["may"] for g in grants)


def test_what_builds_silver_and_what_builds_gold_are_two(code: dict[str, list[Any]]) -> None:
    for kind in (
        "azuread_application",
        "azuread_service_principal",
        "databricks_service_principal",
    ):
        assert "for_each" in _resources(code, kind)["run"]
    assert _resources(code, "azuread_application")["run"]["for_each"] == (
        '${toset(["silver", "gold"])}'
    )
    (variables,) = [b["bundle_variables"] for b in code["output"] if "bundle_variables" in b]
    declared = yaml.safe_load((PROJECT / "databricks.yml").read_text())["variables"]
    assert set(variables["value"]) <= set(declared)
    assert {"silver_principal", "gold_principal"} <= set(variables["value"])
    may = {who: {(g["on"], right) for g in _local(code, "grants").values() if g["who"] == who
                 for right in g["may"]} for who in ("silver", "gold")}  # fmt: skip
    assert not {on for on, _ in may["silver"]} & {"schema gold", "location gold"}
    assert ("location bronze", "READ_FILES") not in may["gold"]
    assert not any(on.endswith("silver") and not re.match("READ|SELECT|USE", right)
                   for on, right in may["gold"])  # fmt: skip


def test_nothing_is_opened_by_a_secret_or_to_everybody(code: dict[str, list[Any]]) -> None:
    (account,) = _resources(code, "azurerm_storage_account").values()
    assert account["is_hns_enabled"] is True
    assert account["shared_access_key_enabled"] is False
    assert account["network_rules"][0]["default_action"] == "Deny"
    (server,) = _resources(code, "azurerm_mssql_server").values()
    assert server["azuread_administrator"][0]["azuread_authentication_only"] is True
    assert "administrator_login" not in server
    text = "\n".join(re.sub("#.*", "", path.read_text()) for path in FILES)
    assert not re.search(r"password|client_secret|access_key\s*=|account_key|sas_token", text)
    assert not _resources(code, "azurerm_key_vault_secret")


def test_every_layer_has_a_container_and_a_location(code: dict[str, list[Any]]) -> None:
    (container,) = _resources(code, "azurerm_storage_container").values()
    (location,) = _resources(code, "databricks_external_location").values()
    assert container["for_each"] == location["for_each"] == "${local.layers}"
    assert '["bronze", "silver", "gold"]' in str(_local_text(code, "layers"))


def _local_text(code: dict[str, list[Any]], name: str) -> str:
    return next(str(block[name]) for block in code["locals"] if name in block)


def test_every_reference_leads_somewhere(code: dict[str, list[Any]]) -> None:
    text = "\n".join(re.sub("#.*", "", path.read_text()) for path in FILES)
    variables = {name for block in code["variable"] for name in block}
    assert set(re.findall(r"\bvar\.(\w+)", text)) == variables
    there = {name for block in code["locals"] for name in block}
    assert set(re.findall(r"\blocal\.(\w+)", text)) == there
    kinds = {(kind, name) for block in code["resource"] for kind, body in block.items()
             for name in body}  # fmt: skip
    used = set(re.findall(r"\b((?:azurerm|azuread|databricks)_\w+)\.(\w+)", text))
    assert used <= kinds


def test_the_sources_login_gets_what_the_docs_of_the_strategies_say() -> None:
    script = (INFRA / "source_login.sql").read_text()
    docs = (PROJECT / "docs" / "sqlserver.md").read_text()
    granted = set(re.findall(r"GRANT ([A-Z ]+?) (?:ON|TO)", script))
    documented = docs.partition("## What the login needs")[2].partition("```sql")[2]
    assert granted == set(re.findall(r"^GRANT ([A-Z ]+?) (?:ON|TO)", documented, re.MULTILINE))
    assert "FROM EXTERNAL PROVIDER" in script
    assert "PASSWORD" not in script.upper()


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_the_code_is_formatted() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(INFRA)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
