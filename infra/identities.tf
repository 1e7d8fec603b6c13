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

# What runs what the bundle deploys: the jobs as `silver`, the pipelines as `gold`.
resource "azuread_application" "run" {
  for_each     = toset(["silver", "gold"])
  display_name = "${local.stem}-${each.key}"
}

resource "azuread_service_principal" "run" {
  for_each  = azuread_application.run
  client_id = each.value.client_id
}

resource "databricks_service_principal" "run" {
  for_each       = azuread_application.run
  application_id = each.value.client_id
  display_name   = each.value.display_name
  # The jobs bring clusters of their own; gold's pipeline is serverless.
  allow_cluster_create = each.key == "silver"
}

# Airflow's workers start the jobs and the pipelines.
resource "databricks_service_principal" "ingest" {
  application_id = azurerm_user_assigned_identity.ingest.client_id
  display_name   = azurerm_user_assigned_identity.ingest.name
}
