variable "subscription_id" {
  description = "The subscription that everything lies in."
  type        = string
}

variable "tenant_id" {
  description = "The Entra tenant."
  type        = string
}

variable "resource_group" {
  description = "An existing resource group."
  type        = string
}

variable "location" {
  description = "The region; the workspace's own."
  type        = string
}

variable "name" {
  description = "Begins every name: 3 to 12 small letters and digits, unique in Azure with the environment behind it."
  type        = string
  default     = "tidemark"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{2,11}$", var.name))
    error_message = "3 to 12 small letters and digits, a letter first."
  }
}

variable "environment" {
  description = "dev, qa or prod; each has storage, identities and a catalog of its own."
  type        = string

  validation {
    condition     = contains(["dev", "qa", "prod"], var.environment)
    error_message = "dev, qa or prod."
  }
}

variable "workspace_url" {
  description = "The Databricks workspace, which has Unity Catalog: https://adb-….azuredatabricks.net"
  type        = string
}

variable "catalog" {
  description = "The catalog, as databricks.yml names it for this target: tidemark_dev, tidemark_qa, tidemark."
  type        = string
}

variable "silver_group" {
  description = "The account's group of what builds silver. A workspace's own group gets no right in Unity Catalog."
  type        = string
}

variable "gold_group" {
  description = "The account's group of what builds gold."
  type        = string
}

variable "bi_group" {
  description = "The account's group of those who read gold."
  type        = string
}

variable "admin_group" {
  description = "The Entra group that administers the vault's secrets and the SQL server."
  type        = object({ name = string, object_id = string })
}

variable "allowed_subnets" {
  description = "Ids of the subnets of Airflow's workers and of the workspace; the storage account lets nobody else in."
  type        = list(string)
}

variable "serverless_subnets" {
  description = "Ids of the subnets that the workspace's network connectivity configuration names: serverless pipelines come from there."
  type        = list(string)
  default     = []
}

variable "admin_addresses" {
  description = "Public addresses, or ranges of them, from which people set the vault's secrets."
  type        = list(string)
  default     = []
}

variable "sql_server" {
  description = "Make the source's SQL server and database too; null where it is there already."
  type        = object({ database = string, sku = string })
  default     = null
}
