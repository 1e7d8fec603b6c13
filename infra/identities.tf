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

# Airflow's workers start the jobs and the pipelines.
resource "databricks_service_principal" "ingest" {
  application_id = azurerm_user_assigned_identity.ingest.client_id
  display_name   = azurerm_user_assigned_identity.ingest.name
}
