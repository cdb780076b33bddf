locals {
  telemetry_topics = { for topic in var.telemetry_topics : topic.filter => topic.thing }

  # Jsonencoded as a setting of the router: it sees topics, not rules.
  telemetry_time_paths = { for topic in var.telemetry_topics : topic.filter => topic.time_path if topic.time_path != null }

  # Only then does anyone ask who is connected.
  takes_presence = var.delivery == "alwayson" && var.bind == "presence"

  telemetry_levels = { for filter in keys(local.telemetry_topics) : filter => [for level in split("/", filter) : level if level != "#"] }

  # Two filters match a common topic when their levels agree as far as both go, and the shorter one ends in #.
  overlapping_filters = flatten([
    for i, a in keys(local.telemetry_topics) : [
      for j, b in keys(local.telemetry_topics) : "${a} and ${b}"
      if i < j
      && alltrue([
        for level in range(min(length(local.telemetry_levels[a]), length(local.telemetry_levels[b]))) :
        contains([local.telemetry_levels[a][level], local.telemetry_levels[b][level]], "+")
        || local.telemetry_levels[a][level] == local.telemetry_levels[b][level]
      ])
      && (
        length(local.telemetry_levels[a]) == length(local.telemetry_levels[b])
        || endswith(length(local.telemetry_levels[a]) < length(local.telemetry_levels[b]) ? a : b, "#")
      )
    ]
  ])
}

resource "aws_kinesis_stream" "ingest" {
  name             = "${var.name}-ingest"
  shard_count      = var.kinesis_shard_count
  retention_period = var.kinesis_retention_hours
  encryption_type  = "KMS"
  kms_key_id       = aws_kms_key.this.arn
  tags             = local.tags

  stream_mode_details {
    stream_mode = var.kinesis_shard_count == null ? "ON_DEMAND" : "PROVISIONED"
  }
}

# SQL functions only: payloads that aren't JSON pass too, and no field of a payload can forge one of
# ours. The partition key repeats the expression, since AWS IoT evaluates templates on the original
# message, where aliases don't exist.
resource "aws_iot_topic_rule" "telemetry" {
  for_each = local.telemetry_topics

  name        = "${local.rule_prefix}_telemetry_${substr(sha256(each.key), 0, 8)}"
  description = "Telemetry on ${each.key}"
  enabled     = true
  sql_version = "2016-03-23"
  sql         = "SELECT encode(*, 'base64') AS d, ${each.value} AS n, clientid() AS c, timestamp() AS t, topic() AS s FROM '${each.key}'"
  tags        = local.tags

  kinesis {
    role_arn      = aws_iam_role.rules.arn
    stream_name   = aws_kinesis_stream.ingest.name
    partition_key = "$${${each.value}}"
  }

  error_action {
    sqs {
      role_arn   = aws_iam_role.rules.arn
      queue_url  = aws_sqs_queue.ingest_errors.url
      use_base64 = false
    }
  }

  depends_on = [aws_iam_role_policy.rules, aws_lambda_invocation.close]

  lifecycle {
    precondition {
      condition     = length(local.overlapping_filters) == 0
      error_message = "These filters match a common topic, whose messages would be delivered twice: ${join("; ", local.overlapping_filters)}. Narrow one of each pair."
    }
  }
}

# Who connects and disconnects, with the client id as partition key: a client's events stay in order. The
# filter takes client ids with slashes too.
resource "aws_iot_topic_rule" "presence" {
  count = local.takes_presence ? 1 : 0

  name        = "${local.rule_prefix}_presence"
  description = "Lifecycle events of MQTT clients"
  enabled     = true
  sql_version = "2016-03-23"
  sql         = "SELECT * FROM '$aws/events/presence/#'"
  tags        = local.tags

  kinesis {
    role_arn      = aws_iam_role.rules.arn
    stream_name   = aws_kinesis_stream.ingest.name
    partition_key = "$${clientId}"
  }

  error_action {
    sqs {
      role_arn   = aws_iam_role.rules.arn
      queue_url  = aws_sqs_queue.ingest_errors.url
      use_base64 = false
    }
  }

  depends_on = [aws_iam_role_policy.rules, aws_lambda_invocation.close]
}

# Nothing is given up by a number of retries: what can't be passed on waits in the stream, and goes
# whole to the failure bucket when it is older than router_max_record_age_seconds. One invocation a
# shard at a time keeps each Thing's order.
resource "aws_lambda_event_source_mapping" "router" {
  event_source_arn                   = aws_kinesis_stream.ingest.arn
  function_name                      = aws_lambda_function.this["router"].arn
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = var.router_batch_size
  maximum_batching_window_in_seconds = var.router_batch_window_seconds
  parallelization_factor             = 1
  maximum_retry_attempts             = -1
  maximum_record_age_in_seconds      = local.router_max_record_age_seconds
  bisect_batch_on_function_error     = true
  function_response_types            = ["ReportBatchItemFailures"]
  tags                               = local.tags

  destination_config {
    on_failure {
      destination_arn = aws_s3_bucket.this["failures"].arn
    }
  }

  depends_on = [aws_lambda_invocation.close]
}
