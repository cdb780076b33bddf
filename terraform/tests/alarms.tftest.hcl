# Alarms arrive, say what to do, and are this stack's alone.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { id = "eu-west-1" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b"] }
  }
  mock_data "aws_secretsmanager_random_password" {
    defaults = { random_password = "0123456789abcdef0123456789abcdef" }
  }
  mock_resource "aws_sns_topic" {
    defaults        = { arn = "arn:aws:sns:eu-west-1:123456789012:thingworx-connector-alarms" }
    override_during = plan
  }
  mock_resource "aws_kms_key" {
    defaults        = { arn = "arn:aws:kms:eu-west-1:123456789012:key/1" }
    override_during = plan
  }
  mock_resource "aws_elasticache_replication_group" {
    defaults        = { member_clusters = ["plant-redis-001", "plant-redis-002"] }
    override_during = plan
  }
}

variables {
  package_dir                  = "tests/package"
  thingworx_url                = "https://thingworx.example.com/Thingworx"
  thingworx_app_key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-key-AbCdEf"
  redis_url                    = "rediss://redis.example.com:6379"
}

run "each_alarm_arrives_and_says_what_to_do" {
  command = plan

  variables {
    alarm_emails     = ["operations@example.com", "night@example.com"]
    alarm_topic_arns = ["arn:aws:sns:eu-west-1:123456789012:pager"]
  }

  assert {
    condition = alltrue([for alarm in aws_cloudwatch_metric_alarm.this :
      toset(alarm.alarm_actions) == toset(["arn:aws:sns:eu-west-1:123456789012:thingworx-connector-alarms", "arn:aws:sns:eu-west-1:123456789012:pager"])
      && alarm.ok_actions == alarm.alarm_actions
      && alarm.actions_enabled != false
    ])
    error_message = "Each alarm goes to the stack's topic and to those named, and so does its end."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(alarm.alarm_description) <= 1024 && can(regex("\\. First: .+\\. See docs/operations\\.md#[a-z-]+$", alarm.alarm_description))])
    error_message = "Each description says what is wrong, what becomes of the data, what to do first and where to read on; CloudWatch takes 1024 characters."
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : contains(["breaching", "notBreaching", "ignore"], alarm.treat_missing_data)])
    error_message = "What silence means is said for each alarm."
  }
  assert {
    condition     = toset([for name, alarm in aws_cloudwatch_metric_alarm.this : name if alarm.treat_missing_data == "breaching"]) == toset(["slots-unserved", "router-stopped"])
    error_message = "Silence is bad news of those alone who speak every minute."
  }
  assert {
    condition     = toset([for subscription in aws_sns_topic_subscription.alarm_email : subscription.endpoint]) == toset(["operations@example.com", "night@example.com"])
    error_message = "Each address is subscribed."
  }
  assert {
    condition     = aws_sns_topic.alarms.kms_master_key_id == "arn:aws:kms:eu-west-1:123456789012:key/1"
    error_message = "The topic is encrypted with the stack's key."
  }
  assert {
    condition = alltrue([for policy in [aws_sns_topic_policy.alarms.policy, aws_kms_key.this.policy] : length([
      for statement in jsondecode(policy).Statement : statement
      if statement.Principal == { Service = "cloudwatch.amazonaws.com" }
      && try(statement.Condition, null) == { ArnLike = { "aws:SourceArn" = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:thingworx-connector-*" }, StringEquals = { "aws:SourceAccount" = "123456789012" } }
    ]) == 1])
    error_message = "CloudWatch may publish to the topic and use its key, for alarms of this stack only."
  }
  assert {
    condition     = output.alarm_topic_arn == aws_sns_topic.alarms.arn && output.dashboard_url == "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#dashboards/dashboard/thingworx-connector-eu-west-1"
    error_message = "The outputs lead to both."
  }
}

run "without_inputs_nobody_is_subscribed" {
  command = plan

  assert {
    condition     = length(aws_sns_topic_subscription.alarm_email) == 0 && alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(alarm.alarm_actions) == 1])
    error_message = "The topic is there for whoever subscribes to it."
  }
  assert {
    condition     = length([for name in keys(aws_cloudwatch_metric_alarm.this) : name if startswith(name, "redis-")]) == 0
    error_message = "A Redis of one's own is watched where it runs."
  }
}

run "thresholds_are_in_the_words_too" {
  command = plan

  variables {
    alarm_thresholds = { router_late_seconds = 120, held_per_hour = 7 }
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["router-late"].threshold == 120000 && strcontains(aws_cloudwatch_metric_alarm.this["router-late"].alarm_description, "more than 120 s")
    error_message = "Lambda tells ages in milliseconds, people in seconds."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["readings-held"].threshold == 7 && aws_cloudwatch_metric_alarm.this["messages-old"].threshold == 3600
    error_message = "Those that aren't given keep their defaults."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["router-very-late"].threshold == 165600 * 750
    error_message = "Three quarters of the age at which records go to the failure bucket, in milliseconds."
  }
}

run "two_stacks_of_an_account_share_nothing" {
  command = plan

  variables {
    name = "plant"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : startswith(alarm.alarm_name, "plant-")]) && aws_sns_topic.alarms.name == "plant-alarms" && aws_cloudwatch_dashboard.this.dashboard_name == "plant-eu-west-1"
    error_message = "Every name begins with the stack's; dashboards of all regions share their names."
  }
  assert {
    condition     = alltrue(flatten([for a in keys(local.alarms) : [for b in keys(local.alarms) : !endswith(a, "-${b}")]]))
    error_message = "A key that ends like another one: stack `plant` and stack `plant-WORDS` would have an alarm of the same name."
  }
  assert {
    condition = alltrue(flatten([for alarm in local.alarms : [for metric in alarm.metrics :
      metric.namespace == "ThingWorxConnector" ? metric.dimensions.stack == "plant" : alltrue([for value in values(metric.dimensions) : value == "AllStorageTypes" || strcontains(value, "plant-")])
    ]]))
    error_message = "No alarm looks at another stack's metrics."
  }
  assert {
    condition     = !strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "thingworx-connector")
    error_message = "The dashboard shows this stack."
  }
}

run "each_node_of_redis_is_watched" {
  command = plan

  variables {
    name      = "plant"
    redis_url = null
    multi_az  = true
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["redis-memory-1"].dimensions == tomap({ CacheClusterId = "plant-redis-001" }) && aws_cloudwatch_metric_alarm.this["redis-memory-2"].dimensions == tomap({ CacheClusterId = "plant-redis-002" })
    error_message = "One alarm a node, by the node's own name."
  }
}

run "no_mail_address" {
  command = plan

  variables {
    alarm_emails = ["operations"]
  }

  expect_failures = [var.alarm_emails]
}

run "a_topic_by_name" {
  command = plan

  variables {
    alarm_topic_arns = ["pager"]
  }

  expect_failures = [var.alarm_topic_arns]
}

run "more_topics_than_an_alarm_has_actions" {
  command = plan

  variables {
    alarm_topic_arns = [for number in range(5) : "arn:aws:sns:eu-west-1:123456789012:pager-${number}"]
  }

  expect_failures = [var.alarm_topic_arns]
}

run "a_lag_that_leaves_no_time" {
  command = plan

  variables {
    alarm_thresholds = { router_late_seconds = 172800 }
  }

  expect_failures = [var.alarm_thresholds]
}

run "a_message_age_that_leaves_no_time" {
  command = plan

  variables {
    alarm_thresholds = { message_age_seconds = 1209600 }
  }

  expect_failures = [var.alarm_thresholds]
}

run "less_than_no_held_reading" {
  command = plan

  variables {
    alarm_thresholds = { held_per_hour = -1 }
  }

  expect_failures = [var.alarm_thresholds]
}
