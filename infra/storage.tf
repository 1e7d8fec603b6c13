# The lake: three containers of an account with hierarchical namespace, opened by identities alone.
locals {
  stem   = "${var.name}${var.environment}"
  layers = toset(["bronze", "silver", "gold"])
  urls   = { for layer in local.layers : layer => "abfss://${layer}@${azurerm_storage_account.lake.name}.dfs.core.windows.net" }
}

resource "azurerm_storage_account" "lake" {
  name                            = "${local.stem}lake"
  resource_group_name             = var.resource_group
  location                        = var.location
  account_tier                    = "Standard"
  account_replication_type        = "ZRS"
  account_kind                    = "StorageV2"
  is_hns_enabled                  = true
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  shared_access_key_enabled       = false
  allow_nested_items_to_be_public = false
  default_to_oauth_authentication = true

  # Bronze is what everything can be built from anew.
  blob_properties {
    delete_retention_policy {
      days = 14
    }
    container_delete_retention_policy {
      days = 14
    }
  }

  network_rules {
    default_action             = "Deny"
    bypass                     = ["AzureServices"]
    virtual_network_subnet_ids = concat(var.allowed_subnets, var.serverless_subnets)
    # Unity Catalog's own way in, by the connectors' identities.
    dynamic "private_link_access" {
      for_each = azurerm_databricks_access_connector.this
      content {
        endpoint_resource_id = private_link_access.value.id
        endpoint_tenant_id   = var.tenant_id
      }
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_storage_container" "layer" {
  for_each              = local.layers
  name                  = each.key
  storage_account_id    = azurerm_storage_account.lake.id
  container_access_type = "private"
}
