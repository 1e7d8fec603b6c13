output "lake" {
  description = "TIDEMARK_LAKE_BRONZE, _SILVER and _GOLD."
  value       = local.urls
}

output "ingest_identity" {
  description = "The identity to run Airflow's workers as, and its name in the source database."
  value = {
    name      = azurerm_user_assigned_identity.ingest.name
    client_id = azurerm_user_assigned_identity.ingest.client_id
  }
}

output "bundle_variables" {
  description = "For `databricks bundle deploy`: BUNDLE_VAR_<name>."
  value = {
    silver_principal   = azuread_application.run["silver"].client_id
    gold_principal     = azuread_application.run["gold"].client_id
    airflow            = azurerm_user_assigned_identity.ingest.client_id
    service_credential = databricks_credential.files.name
    lake               = join(";", [for layer in ["bronze", "silver", "gold"] : "${layer}=${local.urls[layer]}"])
  }
}

output "vault_url" {
  description = "For AIRFLOW__SECRETS__BACKEND_KWARGS."
  value       = azurerm_key_vault.connections.vault_uri
}
