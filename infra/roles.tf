# Who may do what in Azure: the table in docs/azure-setup.md, line by line (a test compares them).
locals {
  roles = {
    ingest_bronze = { who = "ingest", where = "bronze", role = "Storage Blob Data Contributor", below = "" }
    ingest_silver = { who = "ingest", where = "silver", role = "Storage Blob Data Reader", below = "" }
    ingest_notes  = { who = "ingest", where = "silver", role = "Storage Blob Data Contributor", below = "_tidemark/" }
    ingest_vault  = { who = "ingest", where = "vault", role = "Key Vault Secrets User", below = "" }
    lake_bronze   = { who = "lake", where = "bronze", role = "Storage Blob Data Reader", below = "" }
    lake_silver   = { who = "lake", where = "silver", role = "Storage Blob Data Contributor", below = "" }
    lake_gold     = { who = "lake", where = "gold", role = "Storage Blob Data Contributor", below = "" }
    files_bronze  = { who = "files", where = "bronze", role = "Storage Blob Data Reader", below = "" }
    files_silver  = { who = "files", where = "silver", role = "Storage Blob Data Reader", below = "" }
    files_notes   = { who = "files", where = "silver", role = "Storage Blob Data Contributor", below = "_tidemark/" }
    admins_vault  = { who = "admins", where = "vault", role = "Key Vault Secrets Officer", below = "" }
  }
  principals = {
    ingest = azurerm_user_assigned_identity.ingest.principal_id
    lake   = azurerm_databricks_access_connector.this["lake"].identity[0].principal_id
    files  = azurerm_databricks_access_connector.this["files"].identity[0].principal_id
    admins = var.admin_group.object_id
  }
  scopes = merge(
    { for layer, container in azurerm_storage_container.layer : layer => container.id },
    { vault = azurerm_key_vault.connections.id },
  )
  blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
}

resource "azurerm_role_assignment" "this" {
  for_each             = local.roles
  principal_id         = local.principals[each.value.who]
  scope                = local.scopes[each.value.where]
  role_definition_name = each.value.role

  # The role's writing actions count below one folder only; its reading ones are another line's.
  condition_version = each.value.below == "" ? null : "2.0"
  condition = each.value.below == "" ? null : join(" ", [
    "((!(ActionMatches{'${local.blobs}/read'}) AND !(ActionMatches{'${local.blobs}/write'})",
    "AND !(ActionMatches{'${local.blobs}/add/action'}) AND !(ActionMatches{'${local.blobs}/delete'})",
    "AND !(ActionMatches{'${local.blobs}/move/action'}))",
    "OR (@Resource[${local.blobs}:path] StringStartsWith '${each.value.below}'))",
  ])
}
