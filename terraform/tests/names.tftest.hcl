# What a plan contains, without an account.

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
}

variables {
  package_dir                  = "tests/package"
  thingworx_url                = "https://thingworx.example.com/Thingworx"
  thingworx_app_key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-key-AbCdEf"
  redis_url                    = "rediss://redis.example.com:6379"
}

run "defaults" {
  command = plan

  assert {
    condition     = aws_iot_topic_rule.telemetry["/sample/topic"].sql == "SELECT encode(*, 'base64') AS d, clientid() AS n, clientid() AS c, timestamp() AS t, topic() AS s FROM '/sample/topic'"
    error_message = "The envelope's SQL changed: docs/reference/data-formats.md describes it."
  }
  assert {
    condition     = one(aws_iot_topic_rule.telemetry["/sample/topic"].kinesis).partition_key == "$${clientid()}"
    error_message = "The partition key must be the expression itself: an alias is empty there."
  }
  assert {
    condition     = aws_kinesis_stream.ingest.shard_count == 1 && one(aws_kinesis_stream.ingest.stream_mode_details).stream_mode == "PROVISIONED"
    error_message = "One shard by default: see docs/adr/0013-one-shard.md."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.router.maximum_retry_attempts == -1 && aws_lambda_event_source_mapping.router.maximum_record_age_in_seconds == 165600
    error_message = "No number of retries may discard records, and they go to the failure bucket two hours before the stream forgets them."
  }
  assert {
    condition     = !can(aws_lambda_function.this["router"].environment[0].variables.REDIS_AUTH_SECRET_ARN)
    error_message = "A Redis without password must not get a secret."
  }
  assert {
    condition     = length(aws_lambda_function.this["router"].vpc_config) == 0
    error_message = "No function runs in a VPC unless one is named."
  }
  assert {
    condition     = aws_s3_bucket.this["failures"].bucket == "thingworx-connector-123456789012-eu-west-1-failures"
    error_message = "Bucket names carry stack, account and region."
  }
  assert {
    condition     = aws_lambda_function.this["connector"].handler == "lambdas.connector.handler.handle" && aws_lambda_function.this["connector"].timeout == 900
    error_message = "The connector's handler or lifetime changed."
  }
}

run "a_name_with_hyphens_makes_rule_names_without" {
  command = plan

  variables {
    name             = "plant-one"
    telemetry_topics = [{ filter = "dt/+/data", thing = "topic(2)" }]
  }

  assert {
    condition     = startswith(aws_iot_topic_rule.telemetry["dt/+/data"].name, "plant_one_telemetry_")
    error_message = "AWS IoT refuses hyphens in rule names."
  }
  assert {
    condition     = one(aws_iot_topic_rule.telemetry["dt/+/data"].kinesis).partition_key == "$${topic(2)}"
    error_message = "The partition key must be the Thing's expression."
  }
  assert {
    condition     = alltrue([for name in output.function_names : startswith(name, "plant-one-")])
    error_message = "Every name begins with the stack's."
  }
}

run "the_websocket_form_of_the_url_is_normalised" {
  command = plan

  variables {
    thingworx_url = "https://thingworx.example.com:8443/Thingworx/WS"
  }

  assert {
    condition     = aws_lambda_function.this["connector"].environment[0].variables.THINGWORX_URL == "https://thingworx.example.com:8443/Thingworx"
    error_message = "Functions get https://host[:port]/Thingworx whatever form was given."
  }
}

run "only_what_talks_to_redis_enters_the_vpc" {
  command = plan

  variables {
    vpc = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
  }

  assert {
    condition     = toset([for part, function in aws_lambda_function.this : part if length(function.vpc_config) > 0]) == toset(["assigner", "router"])
    error_message = "Only router and assigner belong in the VPC."
  }
}

run "no_log_line_of_metrics_is_filtered_out" {
  command = plan

  variables {
    log_level = "ERROR"
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : function.logging_config[0].application_log_level == "INFO"])
    error_message = "Lambda drops metric records above INFO."
  }
}

run "an_authority_and_a_client_certificate_of_ones_own" {
  command = plan

  variables {
    thingworx_ca_secret_arn                 = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ca-AbCdEf"
    thingworx_client_certificate_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:client-AbCdEf"
    alwayson_timeouts                       = { ping = 15 }
  }

  assert {
    condition     = alltrue([for part in ["connector", "fetcher"] : endswith(aws_lambda_function.this[part].environment[0].variables.THINGWORX_CA_SECRET_ARN, "ca-AbCdEf") && endswith(aws_lambda_function.this[part].environment[0].variables.THINGWORX_CLIENT_CERTIFICATE_SECRET_ARN, "client-AbCdEf")])
    error_message = "What talks to ThingWorx is told of both secrets."
  }
  assert {
    condition     = alltrue([for secret in ["app-key", "ca-AbCdEf", "client-AbCdEf"] : anytrue([for statement in local.secret_statements.thingworx : strcontains(statement.Resource, "secret:${secret}")])])
    error_message = "What talks to ThingWorx may read both secrets."
  }
  assert {
    condition     = !can(aws_lambda_function.this["router"].environment[0].variables.THINGWORX_CA_SECRET_ARN)
    error_message = "Nothing else does."
  }
  assert {
    condition     = aws_lambda_function.this["connector"].environment[0].variables.ALWAYSON_TIMEOUTS == "{\"ping\":15}"
    error_message = "The connector gets the time-outs that were named."
  }
}

run "certificates_of_any_form" {
  command = plan

  variables {
    tls_strict = false
  }

  assert {
    condition     = toset([for part, function in aws_lambda_function.this : part if try(function.environment[0].variables.THINGWORX_TLS_STRICT, "") == "false"]) == toset(["connector", "fetcher"])
    error_message = "All that talks to ThingWorx is told, and nothing else."
  }
}

run "the_watch_function_is_called_every_minute_and_waits_as_told" {
  command = plan

  variables {
    watch_timings = { retire_after_seconds = 60 }
  }

  assert {
    condition     = aws_scheduler_schedule.watch.schedule_expression == "rate(1 minute)" && aws_lambda_function.this["watch"].timeout < 60
    error_message = "One look is over before the next begins."
  }
  assert {
    condition     = aws_lambda_function.this["watch"].environment[0].variables.RETIRE_AFTER_SECONDS == "60" && aws_lambda_function.this["watch"].environment[0].variables.RETIRE_DRAIN_SECONDS == "900"
    error_message = "Times that aren't given keep their defaults."
  }
  assert {
    condition     = aws_lambda_function.this["watch"].environment[0].variables.FAILURES_BUCKET == aws_s3_bucket.this["failures"].bucket
    error_message = "The watch function counts batches where the router's event source mapping puts them."
  }
}

run "every_resource_says_what_it_is_for" {
  command = plan

  variables {
    environment = "TEST"
    tags        = { team = "plant" }
  }

  assert {
    condition     = aws_lambda_function.this["router"].tags == tomap({ environment = "TEST", team = "plant" }) && aws_kinesis_stream.ingest.tags == tomap({ environment = "TEST", team = "plant" })
    error_message = "Tags and environment belong on every resource."
  }
}

run "presence_in_a_property" {
  command = plan

  variables {
    presence_property        = "online"
    presence_silence_seconds = 900
  }

  assert {
    condition     = aws_lambda_function.this["connector"].environment[0].variables.PRESENCE_PROPERTY == "online" && aws_lambda_function.this["connector"].environment[0].variables.PRESENCE_SILENCE_SECONDS == "900"
    error_message = "The connector reads both from its environment."
  }
}

run "delivery_by_rest" {
  command = plan

  variables {
    delivery         = "rest"
    honour_push_type = false
  }

  assert {
    condition     = aws_lambda_function.this["connector"].environment[0].variables.DELIVERY == "rest" && aws_lambda_function.this["connector"].environment[0].variables.HONOUR_PUSH_TYPE == "false"
    error_message = "The connector reads both as words."
  }
}

run "a_stream_on_demand" {
  command = plan

  variables {
    kinesis_shard_count = null
  }

  assert {
    condition     = one(aws_kinesis_stream.ingest.stream_mode_details).stream_mode == "ON_DEMAND"
    error_message = "Without a shard count the stream is on demand."
  }
}

run "presence_is_taken_by_client" {
  command = plan

  assert {
    condition     = one(aws_iot_topic_rule.presence).sql == "SELECT * FROM '$aws/events/presence/#'"
    error_message = "Lifecycle events must come whole, of clients with slashes in their names too."
  }
  assert {
    condition     = one(one(aws_iot_topic_rule.presence).kinesis).partition_key == "$${clientId}"
    error_message = "A client's events must share a shard, or they lose their order."
  }
  assert {
    condition     = one(one(one(aws_iot_topic_rule.presence).error_action).sqs).use_base64 == false
    error_message = "What the rule can't pass on must reach the queue of ingest errors."
  }
  assert {
    condition     = aws_lambda_function.this["router"].environment[0].variables.TELEMETRY_TIME_PATHS == "{}"
    error_message = "Readings have the broker's time unless a topic says otherwise."
  }
}

run "nobody_asks_for_presence_where_all_things_are_bound" {
  command = plan

  variables {
    bind = "always"
  }

  assert {
    condition     = length(aws_iot_topic_rule.presence) == 0
    error_message = "Events that nobody uses must not be paid for."
  }
}

run "nobody_asks_for_presence_over_rest" {
  command = plan

  variables {
    delivery = "rest"
  }

  assert {
    condition     = length(aws_iot_topic_rule.presence) == 0
    error_message = "REST can't show who is connected."
  }
}

run "the_router_learns_where_payloads_tell_their_time" {
  command = plan

  variables {
    telemetry_topics        = [{ filter = "a/+", time_path = "header.ts" }, { filter = "b/#" }]
    max_clock_ahead_seconds = 5
  }

  assert {
    condition     = aws_lambda_function.this["router"].environment[0].variables.TELEMETRY_TIME_PATHS == "{\"a/+\":\"header.ts\"}"
    error_message = "Topic filter to path, and only where there is one."
  }
  assert {
    condition     = aws_lambda_function.this["router"].environment[0].variables.MAX_CLOCK_AHEAD_SECONDS == "5"
    error_message = "The limit must reach the router."
  }
}

run "topics_side_by_side_are_accepted" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/+/data" }, { filter = "a/+/state" }, { filter = "b/#" }, { filter = "a/x" }]
  }

  assert {
    condition     = length(aws_iot_topic_rule.telemetry) == 4
    error_message = "One rule a filter."
  }
}

run "filters_that_match_a_common_topic_are_refused" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/+/data" }, { filter = "a/x/#" }]
  }

  expect_failures = [aws_iot_topic_rule.telemetry]
}

run "a_filter_for_everything_overlaps_with_any_other" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "#" }, { filter = "a/x" }]
  }

  expect_failures = [aws_iot_topic_rule.telemetry]
}
