# The smallest stack: the two required inputs, and the topics that devices publish to.
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

module "connector" {
  source = "../.."

  thingworx_url                = var.thingworx_url
  thingworx_app_key_secret_arn = var.thingworx_app_key_secret_arn

  telemetry_topics = [
    { filter = "dt/+/telemetry", thing = "topic(2)" },
  ]
}

output "first_discovery_command" {
  description = "Starts the first discovery run."
  value       = module.connector.first_discovery_command
}
