# One page that shows how the stack is doing, in the order in which readings pass through it.
locals {
  console_host = lookup({
    aws-cn     = "console.amazonaws.cn"
    aws-us-gov = "console.amazonaws-us-gov.com"
  }, local.partition, "console.aws.amazon.com")

  # Search takes a name without quotes as the words in it: queues of slots are made at run time, and nothing
  # can name them here. Of a stack whose name has these words and more it would show the queues too.
  slot_search = { for metric, stat in {
    ApproximateAgeOfOldestMessage         = "Maximum"
    ApproximateNumberOfMessagesVisible    = "Maximum"
    ApproximateNumberOfMessagesNotVisible = "Maximum"
    NumberOfMessagesSent                  = "Sum"
    NumberOfMessagesDeleted               = "Sum"
  } : metric => "SEARCH('{AWS/SQS,QueueName} MetricName=\"${metric}\" QueueName=${trimsuffix(local.slot_queue_name_prefix, "-")}', '${stat}', 60)" }

  # A line of a graph that counts readings: stage, counter.
  counted = { for line in [
    ["router", "readings_in"], ["router", "routed"], ["router", "held_unrouted"], ["router", "held_rejected"],
    ["router", "dropped_unregistered"], ["router", "dropped_held_full"], ["router", "registry_unavailable"],
    ["connector", "taken"], ["connector", "delivered"], ["connector", "late"], ["connector", "held_parked"],
    ["connector", "held_rejected"], ["connector", "dropped_held_full"], ["connector", "replayed_dropped_held_full"],
    ["connector", "handovers"], ["assigner", "removals_withheld"],
  ] : "${line[0]}.${line[1]}" => ["ThingWorxConnector", line[1], "stack", var.name, "stage", line[0], { stat = "Sum", label = "${line[0]}: ${line[1]}" }] }

  stack_lines = { for name in ["slots_active", "slots_unserved", "oldest_message_seconds", "things_with_backlog"] :
    name => ["ThingWorxConnector", name, "stack", var.name, { stat = "Maximum", label = name }]
  }

  graphs = [
    { title = "Lag of the router (ms)", lines = [
      ["AWS/Lambda", "IteratorAge", "FunctionName", "${var.name}-router", { stat = "Maximum", label = "age of what it takes" }],
    ] },
    { title = "Oldest message in the slots' queues (s)", lines = [local.stack_lines.oldest_message_seconds] },
    { title = "Slots and their connectors", lines = [local.stack_lines.slots_active, local.stack_lines.slots_unserved] },

    { title = "Readings a minute: in and out", lines = [local.counted["router.readings_in"], local.counted["router.routed"], local.counted["connector.taken"], local.counted["connector.delivered"], local.counted["connector.late"]] },
    { title = "Conservation: routed less taken, summed up (what is under way, or missing)", lines = [
      [{ expression = "RUNNING_SUM(FILL(routed, 0) - FILL(taken, 0))", label = "routed - taken" }],
      ["ThingWorxConnector", "routed", "stack", var.name, "stage", "router", { stat = "Sum", id = "routed", visible = false }],
      ["ThingWorxConnector", "taken", "stack", var.name, "stage", "connector", { stat = "Sum", id = "taken", visible = false }],
    ] },
    { title = "Hand-overs", lines = [
      local.counted["connector.handovers"],
      ["AWS/Lambda", "Errors", "FunctionName", "${var.name}-connector", { stat = "Sum", label = "connector: errors" }],
      ["AWS/Lambda", "Throttles", "FunctionName", "${var.name}-connector", { stat = "Sum", label = "connector: throttles" }],
    ] },

    { title = "Held readings a minute, by state", lines = [
      local.counted["router.held_unrouted"], local.counted["router.held_rejected"], local.counted["connector.held_rejected"], local.counted["connector.held_parked"],
    ] },
    { title = "Dropped readings a minute", lines = [
      local.counted["router.dropped_unregistered"], local.counted["router.dropped_held_full"], local.counted["connector.dropped_held_full"], local.counted["connector.replayed_dropped_held_full"],
    ] },
    { title = "Things that wait for ThingWorx", lines = [local.stack_lines.things_with_backlog] },

    { title = "Discovery runs", lines = [
      for metric in ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed"] :
      ["AWS/States", metric, "StateMachineArn", local.discovery_state_machine_arn, { stat = "Sum", label = metric }]
    ] },
    { title = "Length of discovery runs (ms), removals withheld", lines = [
      ["AWS/States", "ExecutionTime", "StateMachineArn", local.discovery_state_machine_arn, { stat = "Maximum", label = "longest run" }],
      local.counted["assigner.removals_withheld"],
    ] },
    { title = "Set aside before the router", lines = concat(
      [
        ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", aws_sqs_queue.ingest_errors.name, { stat = "Maximum", label = "ingest errors" }],
        ["AWS/Kinesis", "WriteProvisionedThroughputExceeded", "StreamName", aws_kinesis_stream.ingest.name, { stat = "Sum", label = "refused by the stream" }],
      ],
      # Whose dimensions beside the rule's name AWS chooses.
      [for rule in [for topic in aws_iot_topic_rule.telemetry : topic.name] :
        [{ expression = "SEARCH('{AWS/IoT,ActionType,RuleName} MetricName=\"ErrorActionFailure\" RuleName=\"${rule}\"', 'Sum', 60)", label = "lost by ${rule}" }]
      ],
    ) },

    { title = "Each slot: oldest message (s)", lines = [[{ expression = local.slot_search.ApproximateAgeOfOldestMessage, label = "" }]] },
    { title = "Each slot: messages waiting and in flight", lines = [
      [{ expression = local.slot_search.ApproximateNumberOfMessagesVisible, label = "" }],
      [{ expression = local.slot_search.ApproximateNumberOfMessagesNotVisible, label = "" }],
    ] },
    { title = "Each slot: messages in and out", lines = [
      [{ expression = local.slot_search.NumberOfMessagesSent, label = "" }],
      [{ expression = local.slot_search.NumberOfMessagesDeleted, label = "" }],
    ] },

    { title = "Errors of the functions", lines = [
      for part in sort(keys(local.functions)) : ["AWS/Lambda", "Errors", "FunctionName", "${var.name}-${part}", { stat = "Sum", label = part }]
    ] },
    { title = "Tables: throttled calls", lines = [
      for pair in setproduct(["control", "held"], ["ReadThrottleEvents", "WriteThrottleEvents"]) :
      ["AWS/DynamoDB", pair[1], "TableName", "${var.name}-${pair[0]}", { stat = "Sum", label = "${pair[0]}: ${pair[1]}" }]
    ] },
    { title = "Redis: memory used (%), batches not looked up", lines = concat(
      local.make_redis ? [for node in range(var.multi_az ? 2 : 1) :
        ["AWS/ElastiCache", "DatabaseMemoryUsagePercentage", "CacheClusterId", sort(aws_elasticache_replication_group.redis[0].member_clusters)[node], { stat = "Maximum", label = "node ${node + 1}" }]
      ] : [],
      [local.counted["router.registry_unavailable"]],
    ) },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = "${var.name}-${local.region}" # all regions of an account share the names

  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type = "alarm", x = 0, y = 0, width = 24, height = 4
        properties = {
          title  = "Alarms"
          alarms = [for alarm in sort(keys(local.alarms)) : "${trimsuffix(local.alarm_arns, "*")}${alarm}"]
        }
      }],
      [for number, graph in local.graphs : {
        type = "metric", x = number % 3 * 8, y = 4 + floor(number / 3) * 6, width = 8, height = 6
        properties = {
          title   = graph.title
          region  = local.region
          view    = "timeSeries"
          period  = 60
          metrics = graph.lines
        }
      }],
    )
  })
}
