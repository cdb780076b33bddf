# What an operator is told without looking. Each alarm says what is wrong, what becomes of the data meanwhile
# and what to do first; docs/operations.md has a section for each. Why these: docs/adr/0060-alarms.md.
locals {
  alarm_arns = "arn:${local.partition}:cloudwatch:${local.region}:${local.account}:alarm:${var.name}-*"

  # Counters of the functions (lambdas/shared/observability.py), by the stage that counts them.
  own_metric = { for stage in ["router", "connector", "assigner"] : stage => {
    namespace  = "ThingWorxConnector"
    dimensions = { stack = var.name, stage = stage }
  } }
  stack_metric    = { namespace = "ThingWorxConnector", dimensions = { stack = var.name } }
  function_metric = { for part in keys(local.functions) : part => { namespace = "AWS/Lambda", dimensions = { FunctionName = "${var.name}-${part}" } } }
  table_metric    = { for table in ["control", "held"] : table => { namespace = "AWS/DynamoDB", dimensions = { TableName = "${var.name}-${table}" } } }

  # `metrics`: one, or several with an `expression`. `missing`: what silence means. Unless said otherwise, an
  # alarm needs one period above the threshold. No key may be another one with words before it: the stacks
  # `a` and `a-b` would share a name.
  alarms = merge({
    router-late = {
      section = "readings-are-late", period = 300, missing = "notBreaching" # no traffic, no age; a batch that fails is tried again within that time
      metrics = { age = merge(local.function_metric.router, { name = "IteratorAge", stat = "Maximum" }) }
      above   = var.alarm_thresholds.router_late_seconds * 1000
      says    = "Within 5 minutes the router took readings that had waited in the stream for more than ${var.alarm_thresholds.router_late_seconds} s."
      data    = "Nothing is lost: the stream keeps them for ${var.kinesis_retention_hours} h; ThingWorx gets them late."
      do      = "Look for 'batch cut' in the router's log: it names the cause. Without one, the stream needs more shards."
    }
    router-very-late = {
      section = "readings-are-late", period = 300, missing = "ignore"
      metrics = { age = merge(local.function_metric.router, { name = "IteratorAge", stat = "Maximum" }) }
      above   = local.router_max_record_age_seconds * 750
      says    = "The router is behind by more than three quarters of the age at which records are set aside."
      data    = "Records older than ${local.router_max_record_age_seconds} s go whole to the failure bucket and wait there for python -m ops reingest."
      do      = "Put right what the router's log names as the cause now; or raise kinesis_retention_hours and apply, which takes effect at once."
    }
    router-stopped = {
      section = "nobody-reads-the-stream", period = 300, periods = 3, missing = "breaching" # Lambda asks every second, traffic or not
      metrics = { reads = merge({ namespace = "AWS/Kinesis", dimensions = { StreamName = aws_kinesis_stream.ingest.name } }, { name = "GetRecords.Success", stat = "Sum" }) }
      below   = 1
      says    = "For 15 minutes nobody has read the ingest stream."
      data    = "Nothing is lost: the stream keeps readings for ${var.kinesis_retention_hours} h. None arrives in ThingWorx."
      do      = "Look at the trigger of the router in the Lambda console: whether it is enabled, and what its last result says."
    }
    router-errors = {
      section = "the-router-fails", period = 300, periods = 3, of_them = 2, missing = "notBreaching"
      metrics = { errors = merge(local.function_metric.router, { name = "Errors", stat = "Sum" }) }
      above   = 0
      says    = "The router crashes or runs into its time-out, again and again."
      data    = "Its batches are tried again until they are ${local.router_max_record_age_seconds} s old; readings behind them in their shard wait."
      do      = "Read the errors in the router's log. A time-out asks for a smaller router_batch_size or more router_memory_mb."
    }
    registry-unavailable = {
      section = "the-router-cant-read-redis", period = 300, periods = 2, missing = "notBreaching"
      metrics = { batches = merge(local.own_metric.router, { name = "registry_unavailable", stat = "Sum" }) }
      above   = 0
      says    = "For 10 minutes the router has not been able to look up Things: Redis does not answer, or is not filled."
      data    = "Nothing is lost: the stream keeps readings for ${var.kinesis_retention_hours} h. None arrives in ThingWorx; connectors go on with what they have."
      do      = "In a new stack run the first discovery. Otherwise look at Redis in ElastiCache, and at 'batch cut' in the router's log."
    }
    failure-bucket = {
      section = "records-in-the-failure-bucket", period = 60, periods = 5, missing = "ignore" # while the bucket can't be listed
      metrics = { objects = merge(local.stack_metric, { name = "failed_batches", stat = "Maximum" }) }
      above   = 0
      says    = "The failure bucket holds batches that the router never got through."
      data    = "They are kept for ${var.failed_records_days} days and sent by nobody until then."
      do      = "Put the cause right, then run python -m ops reingest --stack ${var.name} --source failures."
    }
    lost-by-lambda = {
      section = "readings-were-lost", period = 300, missing = "notBreaching"
      metrics = { failures = merge(local.function_metric.router, { name = "DestinationDeliveryFailures", stat = "Sum" }) }
      above   = 0
      says    = "Lambda could not put a batch into the failure bucket."
      data    = "The batch is lost once the stream forgets it; until then its records can be read there by their sequence numbers."
      do      = "Look at the bucket, its policy, the key's state and the role of the router."
    }
    ingest-errors = {
      section = "messages-in-the-queue-of-ingest-errors", period = 300, missing = "notBreaching" # a queue that nobody uses is silent
      metrics = { messages = { namespace = "AWS/SQS", dimensions = { QueueName = aws_sqs_queue.ingest_errors.name }, name = "ApproximateNumberOfMessagesVisible", stat = "Maximum" } }
      above   = 0
      says    = "A topic rule could not put messages into the stream."
      data    = "They are kept for 14 days in the queue of ingest errors and sent by nobody until then."
      do      = "Read one: errorMessage says why. Too many for the shards: raise kinesis_shard_count, to at most double at a time. Then run python -m ops reingest --stack ${var.name} --source errors."
    }
    slots-unserved = {
      section = "a-slot-has-no-connector", period = 60, periods = 5, missing = "breaching" # a dead watch function says nothing
      metrics = { slots = merge(local.stack_metric, { name = "slots_unserved", stat = "Maximum" }) }
      above   = 0
      says    = "For 5 minutes a slot has been without a connector, or the watch function has been silent."
      data    = "Nothing is lost: readings of its Things wait in the slot's queue for up to 14 days. Writes from ThingWorx to its devices are refused."
      do      = "Run python -m ops status --stack ${var.name}, then read the connector's log. Silence: read the log of the watch function."
    }
    messages-old = {
      section = "readings-wait-in-the-queues", period = 60, periods = 5, missing = "ignore" # while CloudWatch can't be asked
      metrics = { oldest = merge(local.stack_metric, { name = "oldest_message_seconds", stat = "Maximum" }) }
      above   = var.alarm_thresholds.message_age_seconds
      says    = "The oldest message in a slot's queue has waited for more than ${var.alarm_thresholds.message_age_seconds} s."
      data    = "Nothing is lost: SQS keeps messages for 14 days, and connectors deliver them in order, with their times."
      do      = "See whether ThingWorx answers and what the connector's log says; python -m ops status --stack ${var.name} tells which slot it is."
    }
    messages-near-loss = {
      section = "readings-wait-in-the-queues", period = 300, missing = "ignore"
      metrics = { oldest = merge(local.stack_metric, { name = "oldest_message_seconds", stat = "Maximum" }) }
      above   = 864000
      says    = "The oldest message in a slot's queue has waited for more than 10 days."
      data    = "SQS deletes messages after 14 days without a word: in 4 days readings begin to be lost for good."
      do      = "Get ThingWorx and the slot's connector going. If that can't be done in time, copy the queue's messages elsewhere."
    }
    readings-held = {
      section    = "many-readings-are-held", period = 3600, periods = 2, missing = "notBreaching"
      expression = "SUM(FILL(METRICS(), 0))"
      metrics = {
        unrouted = merge(local.own_metric.router, { name = "held_unrouted", stat = "Sum" })
        rejected = merge(local.own_metric.router, { name = "held_rejected", stat = "Sum" })
        refused  = merge(local.own_metric.connector, { name = "held_rejected", stat = "Sum" })
        parked   = merge(local.own_metric.connector, { name = "held_parked", stat = "Sum" })
      }
      above = var.alarm_thresholds.held_per_hour
      says  = "For two hours more than ${var.alarm_thresholds.held_per_hour} readings an hour could not go on: unknown Things, malformed payloads, or Things that ThingWorx refuses."
      data  = "They are kept for ${var.held.days} days, up to ${var.held.per_thing_per_day} a day for a Thing and ${var.held.per_day} in all; more than that is dropped."
      do    = "Run python -m ops status --stack ${var.name}: it counts them by reason. Put the cause right, then replay those that don't go by themselves."
    }
    lost-by-router = {
      section = "readings-were-lost", period = 300, missing = "notBreaching"
      metrics = { readings = merge(local.own_metric.router, { name = "dropped_held_full", stat = "Sum" }) }
      above   = 0
      says    = "The router dropped readings: they were to be held, and the day's allowance of the held table is used up."
      data    = "Lost for good until the allowance begins anew at midnight UTC, or a larger one is applied."
      do      = "Find the reason in the fields dropped_held_full:REASON of the router's log and put it right; or raise the input held."
    }
    lost-by-connector = {
      section = "readings-were-lost", period = 300, missing = "notBreaching"
      metrics = { readings = merge(local.own_metric.connector, { name = "dropped_held_full", stat = "Sum" }) }
      above   = 0
      says    = "A connector dropped readings: they were to be held, and the day's allowance of the held table is used up."
      data    = "Lost for good until the allowance begins anew at midnight UTC, or a larger one is applied."
      do      = "Find the reason in the fields dropped_held_full:REASON of the connector's log and put it right; or raise the input held."
    }
    lost-in-replay = {
      section = "readings-were-lost", period = 300, missing = "notBreaching"
      metrics = { readings = merge(local.own_metric.connector, { name = "replayed_dropped_held_full", stat = "Sum" }) }
      above   = 0
      says    = "Readings that were sent again from the held table failed again, and the day's allowance to hold them is used up."
      data    = "They are lost for good."
      do      = "Replay nothing more until the reason in the fields dropped_held_full:REASON of the connector's log is put right."
    }
    conservation-drift = {
      section = "routed-and-taken-differ", period = 3600, periods = 2, missing = "notBreaching"
      # Only where the queues were as good as empty all the time does what goes in have to come out within the hour.
      expression = "IF(oldest < 60 AND routed > 1000, 100 * (routed - FILL(taken, 0)) / routed, 0)"
      metrics = {
        routed = merge(local.own_metric.router, { name = "routed", stat = "Sum" })
        taken  = merge(local.own_metric.connector, { name = "taken", stat = "Sum" })
        oldest = merge(local.stack_metric, { name = "oldest_message_seconds", stat = "Maximum" })
      }
      above = 5
      says  = "For two hours connectors have settled over 5 % fewer readings than the router sent, though nothing waits in the queues."
      data  = "Readings may be missing in ThingWorx. Connectors that were killed also lose up to 10 s of their counts, without losing readings."
      do    = "Compare routed and taken on the dashboard, and look for crashes in the connector's log."
    }
    discovery-failed = {
      section = "a-discovery-run-failed", period = 3600, missing = "notBreaching" # no run, no failure
      metrics = { runs = { namespace = "AWS/States", dimensions = { StateMachineArn = local.discovery_state_machine_arn }, name = "ExecutionsFailed", stat = "Sum" } }
      above   = 0
      says    = "A discovery run failed within the last hour."
      data    = "Things that are known are served as before; readings of new ones are held until a run succeeds."
      do      = "Open the failed execution of ${var.name}-discovery: its error says why. Start another by python -m ops discover --stack ${var.name} --watch."
    }
    removals-withheld = {
      section = "a-run-removed-nothing", period = 3600, missing = "notBreaching"
      metrics = { things = merge(local.own_metric.assigner, { name = "removals_withheld", stat = "Sum" }) }
      above   = 0
      says    = "A discovery run found more than ${var.removal_limit_percent} % of the Things gone and removed none of them."
      data    = "They are served as before. If they really are gone, their readings go to queues and are parked."
      do      = "Check thing_tag and the application key's permissions; if it is meant, python -m ops discover --stack ${var.name} --allow-removals."
    }
    connectors-failing = {
      section = "connectors-fail", period = 900, missing = "notBreaching"
      metrics = { errors = merge(local.function_metric.connector, { name = "Errors", stat = "Sum" }) }
      above   = 2
      says    = "Connectors ended with an error three times within 15 minutes: crashes, or hand-overs whose successor fails."
      data    = "Nothing is lost: readings wait in the queues; those in hand at a crash may be delivered twice, with the same time."
      do      = "Read the errors in the connector's log; a refused application key or certificate is named there."
    }
    connectors-throttled = {
      section = "connectors-find-no-concurrency", period = 300, periods = 3, of_them = 2, missing = "notBreaching"
      metrics = { throttles = merge(local.function_metric.connector, { name = "Throttles", stat = "Sum" }) }
      above   = 0
      says    = "Lambda has no concurrency left for connectors; a hand-over needs two a slot."
      data    = "Slots go without a connector until there is some; their readings wait in the queues."
      do      = "Ask for a higher quota of concurrent executions, or take the limit off with connector_reserved_concurrency = null."
    }
    watch-failing = {
      section = "the-watch-function-fails", period = 300, periods = 3, missing = "notBreaching"
      metrics = { errors = merge(local.function_metric.watch, { name = "Errors", stat = "Sum" }) }
      above   = 0
      says    = "For 15 minutes the watch function has not done all of its work."
      data    = "Readings flow. Dead connectors may not be replaced, unknown devices not be found, empty slots not retire."
      do      = "Read 'not done' in its log: each line names what and why."
    }
    tables-throttled = {
      section    = "dynamodb-throttles", period = 300, periods = 3, missing = "notBreaching"
      expression = "SUM(FILL(METRICS(), 0))"
      metrics = {
        control_reads  = merge(local.table_metric.control, { name = "ReadThrottleEvents", stat = "Sum" })
        control_writes = merge(local.table_metric.control, { name = "WriteThrottleEvents", stat = "Sum" })
        held_reads     = merge(local.table_metric.held, { name = "ReadThrottleEvents", stat = "Sum" })
        held_writes    = merge(local.table_metric.held, { name = "WriteThrottleEvents", stat = "Sum" })
      }
      above = 10
      says  = "For 15 minutes DynamoDB has refused calls to the control table or the held table for their number."
      data  = "Nothing is lost: calls are tried again. Leases that can't be renewed in time make connectors start anew, and a router that can't hold readings waits."
      do    = "Look which table it is. Held: find out why so many readings are held. Control: compare the account's DynamoDB quotas with its use."
    }
    }, local.make_redis ? { for node in range(var.multi_az ? 2 : 1) : "redis-memory-${node + 1}" => {
      section = "redis-fills-up", period = 300, periods = 3, missing = "notBreaching" # a node that is gone shows as registry-unavailable
      metrics = { used = { namespace = "AWS/ElastiCache", dimensions = { CacheClusterId = sort(aws_elasticache_replication_group.redis[0].member_clusters)[node] }, name = "DatabaseMemoryUsagePercentage", stat = "Maximum" } }
      above   = 70
      says    = "Redis uses more than 70 % of its memory."
      data    = "Nothing yet. A full Redis refuses writes: new Things are not published; those that are known are still routed."
      do      = "Apply a larger redis_node_type; readings wait in the stream while it is exchanged."
  } } : {})

  alarm_actions = concat([aws_sns_topic.alarms.arn], var.alarm_topic_arns)
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.says} ${each.value.data} First: ${each.value.do} See docs/operations.md#${each.value.section}"
  comparison_operator = can(each.value.below) ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = try(each.value.below, each.value.above)
  evaluation_periods  = try(each.value.periods, 1)
  datapoints_to_alarm = try(each.value.of_them, each.value.periods, 1)
  treat_missing_data  = each.value.missing
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
  tags                = local.tags

  # One metric is named by the alarm itself: its notifications then say which.
  namespace   = can(each.value.expression) ? null : values(each.value.metrics)[0].namespace
  metric_name = can(each.value.expression) ? null : values(each.value.metrics)[0].name
  dimensions  = can(each.value.expression) ? null : values(each.value.metrics)[0].dimensions
  statistic   = can(each.value.expression) ? null : values(each.value.metrics)[0].stat
  period      = can(each.value.expression) ? null : each.value.period

  dynamic "metric_query" {
    for_each = can(each.value.expression) ? each.value.metrics : {}
    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = each.value.period
      }
    }
  }

  dynamic "metric_query" {
    for_each = can(each.value.expression) ? [each.value.expression] : []
    content {
      id          = "result"
      expression  = metric_query.value
      label       = each.key
      return_data = true
    }
  }

  # What silence would set off is made after what breaks it, and goes before it.
  depends_on = [aws_lambda_event_source_mapping.router, aws_scheduler_schedule.watch, aws_sns_topic_policy.alarms]
}

# Where alarms go: to this topic, and to topics of one's own.
resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = aws_kms_key.this.arn
  tags              = local.tags
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsOfThisStack"
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Condition = {
        ArnLike      = { "aws:SourceArn" = local.alarm_arns }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    }]
  })
}

resource "aws_sns_topic_subscription" "alarm_email" {
  for_each = toset(var.alarm_emails)

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}
