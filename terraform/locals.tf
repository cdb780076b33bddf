data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_iot_endpoint" "data" {
  endpoint_type = "iot:Data-ATS"
}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id # `name` in provider 5, `region` in provider 6: `id` in both

  tags = merge({ environment = var.environment }, var.tags)

  # Rule names take no hyphens.
  rule_prefix = replace(var.name, "-", "_")

  package_dir = coalesce(var.package_dir, "${path.module}/../dist")

  thingworx_url = "https://${regex("^https://([^/]+)", var.thingworx_url)[0]}/Thingworx"

  # Built from names: the machines start executions of themselves, and the scaler, which discovery
  # invokes, starts the other one. References would be cycles.
  discovery_state_machine_arn = "arn:${local.partition}:states:${local.region}:${local.account}:stateMachine:${var.name}-discovery"
  connector_state_machine_arn = "arn:${local.partition}:states:${local.region}:${local.account}:stateMachine:${var.name}-connector"

  # Queues of the slots are made at run time, by the scaler.
  slot_queue_name_prefix = "${var.name}-slot-"
  slot_queues_arn        = "arn:${local.partition}:sqs:${local.region}:${local.account}:${local.slot_queue_name_prefix}*.fifo"

  # Lambda takes a week at most.
  router_max_record_age_seconds = coalesce(var.router_max_record_age_seconds, min(604800, (var.kinesis_retention_hours - 2) * 3600))
}
