# Airflow's connections (docs/secrets.md). The secrets themselves are set by people, not by this code.
resource "azurerm_key_vault" "connections" {
  name                       = "${local.stem}-kv"
  resource_group_name        = var.resource_group
  location                   = var.location
  tenant_id                  = var.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
  purge_protection_enabled   = true
  soft_delete_retention_days = 90

  network_acls {
    default_action             = "Deny"
    bypass                     = "AzureServices"
    virtual_network_subnet_ids = var.allowed_subnets
    ip_rules                   = var.admin_addresses
  }
}
