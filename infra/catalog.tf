# Unity Catalog: what lies where, and who may do what (the second table in docs/azure-setup.md).
resource "databricks_storage_credential" "lake" {
  name = "${local.stem}_lake"
  azure_managed_identity {
    access_connector_id = azurerm_databricks_access_connector.this["lake"].id
  }
  depends_on = [azurerm_role_assignment.this]
}

resource "databricks_credential" "files" {
  name    = "${local.stem}_files"
  purpose = "SERVICE"
  azure_managed_identity {
    access_connector_id = azurerm_databricks_access_connector.this["files"].id
  }
}

resource "databricks_external_location" "layer" {
  for_each        = local.layers
  name            = "${local.stem}_${each.key}"
  url             = "${local.urls[each.key]}/"
  credential_name = databricks_storage_credential.lake.name
  read_only       = each.key == "bronze"
  depends_on      = [azurerm_storage_container.layer]
}

# Managed tables of the catalog are the pipeline's: they lie with gold.
resource "databricks_catalog" "this" {
  name         = var.catalog
  storage_root = "${databricks_external_location.layer["gold"].url}catalog"
}

resource "databricks_schema" "this" {
  for_each     = toset(["silver", "gold"])
  catalog_name = databricks_catalog.this.name
  name         = each.key
}

locals {
  grants = {
    silver_catalog  = { who = "silver", on = "catalog", may = ["USE_CATALOG"] }
    silver_schema   = { who = "silver", on = "schema silver", may = ["USE_SCHEMA", "CREATE_TABLE"] }
    silver_bronze   = { who = "silver", on = "location bronze", may = ["READ_FILES"] }
    silver_location = { who = "silver", on = "location silver", may = ["READ_FILES", "WRITE_FILES", "CREATE_EXTERNAL_TABLE"] }
    silver_files    = { who = "silver", on = "credential files", may = ["ACCESS"] }
    gold_catalog    = { who = "gold", on = "catalog", may = ["USE_CATALOG"] }
    gold_schema     = { who = "gold", on = "schema gold", may = ["USE_SCHEMA", "CREATE_TABLE", "CREATE_MATERIALIZED_VIEW"] }
    gold_reads      = { who = "gold", on = "schema silver", may = ["USE_SCHEMA", "SELECT"] }
    gold_location   = { who = "gold", on = "location silver", may = ["READ_FILES"] }
    bi_catalog      = { who = "bi", on = "catalog", may = ["USE_CATALOG"] }
    bi_schema       = { who = "bi", on = "schema gold", may = ["USE_SCHEMA", "SELECT"] }
  }
  groups = {
    silver = var.silver_group
    gold   = var.gold_group
    bi     = var.bi_group
  }
}

resource "databricks_grant" "this" {
  for_each   = local.grants
  principal  = local.groups[each.value.who]
  privileges = each.value.may

  catalog           = each.value.on == "catalog" ? databricks_catalog.this.name : null
  schema            = startswith(each.value.on, "schema ") ? databricks_schema.this[split(" ", each.value.on)[1]].id : null
  external_location = startswith(each.value.on, "location ") ? databricks_external_location.layer[split(" ", each.value.on)[1]].id : null
  credential        = each.value.on == "credential files" ? databricks_credential.files.id : null
}
