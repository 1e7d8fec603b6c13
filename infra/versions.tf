terraform {
  required_version = ">= 1.6"
  required_providers {
    azuread    = { source = "hashicorp/azuread", version = "~> 3.0" }
    azurerm    = { source = "hashicorp/azurerm", version = "~> 4.0" }
    databricks = { source = "databricks/databricks", version = "~> 1.80" }
  }
  # The state names every resource, and holds no secret of this configuration. Keep it in a storage
  # account of its own: terraform init -backend-config=backend.hcl
  backend "azurerm" {
    use_azuread_auth = true
  }
}

provider "azurerm" {
  features {}
  subscription_id     = var.subscription_id
  storage_use_azuread = true
}

provider "azuread" {
  tenant_id = var.tenant_id
}

# By `az login` or the pipeline's federated token: there is no token of Databricks' own.
provider "databricks" {
  host = var.workspace_url
}
