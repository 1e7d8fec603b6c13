# Who works: Airflow's workers, and Databricks on our behalf. None has a password.
resource "azurerm_user_assigned_identity" "ingest" {
  name                = "${local.stem}-ingest"
  resource_group_name = var.resource_group
  location            = var.location
}

# `lake` opens the tables (storage credential), `files` the small files beside them (service credential).
resource "azurerm_databricks_access_connector" "this" {
  for_each            = toset(["lake", "files"])
  name                = "${local.stem}-${each.key}"
  resource_group_name = var.resource_group
  location            = var.location

  identity {
    type = "SystemAssigned"
  }
}

# What jobs and pipelines run as: `run_as` of the bundle.
resource "azuread_application" "run" {
  display_name = "${local.stem}-run"
}

resource "azuread_service_principal" "run" {
  client_id = azuread_application.run.client_id
}

resource "databricks_service_principal" "run" {
  application_id = azuread_application.run.client_id
  display_name   = azuread_application.run.display_name
}

# Rights go to groups, so that silver and gold can run as two principals without another grant.
resource "databricks_group" "role" {
  for_each     = toset(["silver", "gold"])
  display_name = "${local.stem}_${each.key}"
}

resource "databricks_group_member" "run" {
  for_each  = databricks_group.role
  group_id  = each.value.id
  member_id = databricks_service_principal.run.id
}
