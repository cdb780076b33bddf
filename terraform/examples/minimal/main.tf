# The smallest stack: two required inputs of ThingWorx, and a Redis that functions can reach.
# Run `make build` at the top of the repository first.

terraform {
  required_version = ">= 1.9.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  description = "Region of the stack: the one your devices connect to."
  type        = string
  default     = "eu-west-1"
}

variable "thingworx_url" {
  description = "Address of the platform, https://host/Thingworx."
  type        = string
}

variable "thingworx_app_key_secret_arn" {
  description = "Secret that holds the application key."
  type        = string
}

variable "redis_url" {
  description = "Redis or Valkey of the registry, rediss://host:port."
  type        = string
}

variable "redis_auth_secret_arn" {
  description = "Secret that holds the Redis password."
  type        = string
  default     = null
}

module "connector" {
  source = "../.."

  thingworx_url                = var.thingworx_url
  thingworx_app_key_secret_arn = var.thingworx_app_key_secret_arn
  redis_url                    = var.redis_url
  redis_auth_secret_arn        = var.redis_auth_secret_arn

  telemetry_topics = [
    { filter = "dt/+/telemetry", thing = "topic(2)" },
  ]
}

output "first_discovery_command" {
  description = "Starts the first discovery run."
  value       = module.connector.first_discovery_command
}
