output "first_discovery_command" {
  description = "Starts the first discovery run; later ones start by the schedule."
  value       = "aws stepfunctions start-execution --region ${local.region} --state-machine-arn ${aws_sfn_state_machine.this["discovery"].arn}"
}

output "discovery_state_machine_arn" {
  description = "State machine that finds Things and assigns them to slots."
  value       = aws_sfn_state_machine.this["discovery"].arn
}

output "connector_state_machine_arn" {
  description = "State machine that keeps one connector serving each slot."
  value       = aws_sfn_state_machine.this["connector"].arn
}

output "ingest_stream_name" {
  description = "Kinesis stream between the topic rules and the router."
  value       = aws_kinesis_stream.ingest.name
}

output "ingest_errors_queue_url" {
  description = "Queue of messages that a topic rule couldn't put into the stream."
  value       = aws_sqs_queue.ingest_errors.url
}

output "control_table_name" {
  description = "Table of slots, assignments and leases."
  value       = aws_dynamodb_table.control.name
}

output "held_table_name" {
  description = "Table of readings that can't go on now."
  value       = aws_dynamodb_table.held.name
}

output "failure_bucket" {
  description = "Bucket of whole batches that the router never got through."
  value       = aws_s3_bucket.this["failures"].id
}

output "staging_bucket" {
  description = "Bucket of the data of discovery runs."
  value       = aws_s3_bucket.this["staging"].id
}

output "slot_queue_name_prefix" {
  description = "How the names of the slots' queues begin; they are made at run time."
  value       = local.slot_queue_name_prefix
}

output "function_names" {
  description = "The Lambda functions, by part."
  value       = { for part, function in aws_lambda_function.this : part => function.function_name }
}

output "log_group_names" {
  description = "Log groups, by part: the functions and the two state machines."
  value = merge(
    { for part, group in aws_cloudwatch_log_group.function : part => group.name },
    { for part, group in aws_cloudwatch_log_group.state_machine : "${part}-machine" => group.name },
  )
}

output "telemetry_rule_names" {
  description = "Topic rules, by topic filter."
  value       = { for filter, rule in aws_iot_topic_rule.telemetry : filter => rule.name }
}

output "iot_endpoint" {
  description = "Host that devices publish to."
  value       = data.aws_iot_endpoint.data.endpoint_address
}

output "post_deployment_command" {
  description = "Sends a message as a device and says how far it came; the three files are those of the device's certificate."
  value       = "python -m tests.post_deployment --endpoint ${data.aws_iot_endpoint.data.endpoint_address} --ca AmazonRootCA1.pem --cert device.pem.crt --key device.private.key --thing MyTestDevice1 --topic ${replace(replace(var.telemetry_topics[0].filter, "+", "MyTestDevice1"), "#", "test")} --stack ${var.name} --thingworx-url ${local.thingworx_url}"
}

output "redis_url" {
  description = "Redis of the registry, without its password."
  value       = local.redis_url
}

output "redis_auth_secret_arn" {
  description = "Secret with the password of Redis; null when it needs none."
  value       = one(local.redis_auth_secret_arns)
}

output "kms_key_arn" {
  description = "Key of the data at rest."
  value       = aws_kms_key.this.arn
}

output "vpc_id" {
  description = "VPC that was made around Redis; null when none was."
  value       = one(aws_vpc.this[*].id)
}

output "alarm_topic_arn" {
  description = "SNS topic that the stack's alarms go to; subscribe whatever is to hear of them."
  value       = aws_sns_topic.alarms.arn
}

output "alarm_names" {
  description = "CloudWatch alarms, by what they are about; docs/operations.md has a section for each."
  value       = { for about, alarm in aws_cloudwatch_metric_alarm.this : about => alarm.alarm_name }
}

output "dashboard_url" {
  description = "CloudWatch dashboard of the stack."
  value       = "https://${local.region}.${local.console_host}/cloudwatch/home?region=${local.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}
