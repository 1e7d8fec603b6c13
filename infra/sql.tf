# The source, where it is to be made: logins of Entra only. Who may read it is said in source_login.sql.
resource "azurerm_mssql_server" "source" {
  count               = var.sql_server == null ? 0 : 1
  name                = "${local.stem}-sql"
  resource_group_name = var.resource_group
  location            = var.location
  version             = "12.0"
  minimum_tls_version = "1.2"

  azuread_administrator {
    azuread_authentication_only = true
    login_username              = var.admin_group.name
    object_id                   = var.admin_group.object_id
    tenant_id                   = var.tenant_id
  }
}

resource "azurerm_mssql_database" "source" {
  count     = var.sql_server == null ? 0 : 1
  name      = var.sql_server.database
  server_id = azurerm_mssql_server.source[0].id
  sku_name  = var.sql_server.sku
}

resource "azurerm_mssql_virtual_network_rule" "source" {
  for_each  = var.sql_server == null ? {} : { for index, id in var.allowed_subnets : index => id }
  name      = "tidemark-${each.key}"
  server_id = azurerm_mssql_server.source[0].id
  subnet_id = each.value
}
