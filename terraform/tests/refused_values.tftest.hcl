# Every value that can't work is refused before anything is made, with a sentence that says what to write instead.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b"] }
  }
  mock_data "aws_secretsmanager_random_password" {
    defaults = { random_password = "0123456789abcdef0123456789abcdef" }
  }
}

variables {
  package_dir                  = "tests/package"
  thingworx_url                = "https://thingworx.example.com/Thingworx"
  thingworx_app_key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-key-AbCdEf"
  redis_url                    = "rediss://redis.example.com:6379"
}

run "plain_http" {
  command = plan

  variables {
    thingworx_url = "http://thingworx.example.com/Thingworx"
  }

  expect_failures = [var.thingworx_url]
}

run "another_path" {
  command = plan

  variables {
    thingworx_url = "https://thingworx.example.com/Other"
  }

  expect_failures = [var.thingworx_url]
}

run "a_secret_by_name" {
  command = plan

  variables {
    thingworx_app_key_secret_arn = "app-key"
  }

  expect_failures = [var.thingworx_app_key_secret_arn]
}

run "an_arn_without_its_suffix" {
  command = plan

  variables {
    thingworx_app_key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-key"
  }

  expect_failures = [var.thingworx_app_key_secret_arn]
}

run "a_password_in_the_redis_url" {
  command = plan

  variables {
    redis_url = "rediss://:secret@redis.example.com:6379"
  }

  expect_failures = [var.redis_url]
}

run "a_name_with_capitals" {
  command = plan

  variables {
    name = "Plant"
  }

  expect_failures = [var.name]
}

run "a_name_too_long_for_bucket_names" {
  command = plan

  variables {
    name = "a-name-that-is-far-too-long"
  }

  expect_failures = [var.name]
}

run "a_folder_without_packages" {
  command = plan

  variables {
    package_dir = "tests"
  }

  expect_failures = [var.package_dir]
}

run "a_thing_named_by_a_payload_field" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/b", thing = "deviceId" }]
  }

  expect_failures = [var.telemetry_topics]
}

run "a_quote_in_a_filter" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/'b" }]
  }

  expect_failures = [var.telemetry_topics]
}

run "a_plus_beside_other_characters" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/b+" }]
  }

  expect_failures = [var.telemetry_topics]
}

run "a_hash_before_the_end" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/#/b" }]
  }

  expect_failures = [var.telemetry_topics]
}

run "the_same_filter_twice" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/b" }, { filter = "a/b", thing = "topic(1)" }]
  }

  expect_failures = [var.telemetry_topics]
}

run "a_path_with_an_empty_key" {
  command = plan

  variables {
    telemetry_topics = [{ filter = "a/b", time_path = "header..ts" }]
  }

  expect_failures = [var.telemetry_topics]
}

run "a_fraction_of_a_second_ahead" {
  command = plan

  variables {
    max_clock_ahead_seconds = 0.5
  }

  expect_failures = [var.max_clock_ahead_seconds]
}

run "no_topic" {
  command = plan

  variables {
    telemetry_topics = []
  }

  expect_failures = [var.telemetry_topics]
}

run "a_lifetime_beyond_lambda" {
  command = plan

  variables {
    connector_timings = { lifetime_seconds = 901 }
  }

  expect_failures = [var.connector_timings]
}

run "a_handover_longer_than_the_lifetime" {
  command = plan

  variables {
    connector_timings = { lifetime_seconds = 60 }
  }

  expect_failures = [var.connector_timings]
}

run "a_heartbeat_within_two_beats" {
  command = plan

  variables {
    connector_timings = { beat_seconds = 20, heartbeat_seconds = 40 }
  }

  expect_failures = [var.connector_timings]
}

run "a_lease_too_short_to_be_renewed" {
  command = plan

  variables {
    connector_timings = { lease_seconds = 2 }
  }

  expect_failures = [var.connector_timings]
}

run "a_lease_that_outlives_its_owners_heartbeat" {
  command = plan

  variables {
    connector_timings = { lease_seconds = 46 }
  }

  expect_failures = [var.connector_timings]
}

run "a_heartbeat_longer_than_a_life" {
  command = plan

  variables {
    connector_timings = { lifetime_seconds = 300, heartbeat_seconds = 301 }
  }

  expect_failures = [var.connector_timings]
}

run "records_older_than_the_stream_keeps_them" {
  command = plan

  variables {
    kinesis_retention_hours       = 24
    router_max_record_age_seconds = 86400
  }

  expect_failures = [var.router_max_record_age_seconds]
}

run "a_back_off_of_nothing" {
  command = plan

  variables {
    connector_timings = { back_off_seconds = [0, 5] }
  }

  expect_failures = [var.connector_timings]
}

run "more_turns_than_the_history_holds" {
  command = plan

  variables {
    connector_timings = { turns_per_execution = 5000 }
  }

  expect_failures = [var.connector_timings]
}

run "a_record_age_lambda_refuses" {
  command = plan

  variables {
    router_max_record_age_seconds = 30
  }

  expect_failures = [var.router_max_record_age_seconds]
}

run "half_a_shard" {
  command = plan

  variables {
    kinesis_shard_count = 1.5
  }

  expect_failures = [var.kinesis_shard_count]
}

run "a_retention_below_a_day" {
  command = plan

  variables {
    kinesis_retention_hours = 12
  }

  expect_failures = [var.kinesis_retention_hours]
}

run "a_retention_with_half_an_hour" {
  command = plan

  variables {
    kinesis_retention_hours = 24.5
  }

  expect_failures = [var.kinesis_retention_hours]
}

run "a_word_that_is_neither_hold_nor_drop" {
  command = plan

  variables {
    unregistered = "keep"
  }

  expect_failures = [var.unregistered]
}

run "a_schedule_that_is_no_expression" {
  command = plan

  variables {
    discovery_schedule = { expression = "hourly" }
  }

  expect_failures = [var.discovery_schedule]
}

run "a_vpc_without_subnets" {
  command = plan

  variables {
    vpc = { subnet_ids = [], security_group_ids = ["sg-1"] }
  }

  expect_failures = [var.vpc]
}

run "a_concurrency_that_leaves_no_room_to_hand_over" {
  command = plan

  variables {
    connector_reserved_concurrency = 1
  }

  expect_failures = [var.connector_reserved_concurrency]
}

run "half_a_heartbeat" {
  command = plan

  variables {
    connector_timings = { heartbeat_seconds = 30.5 }
  }

  expect_failures = [var.connector_timings]
}

run "a_held_store_that_holds_nothing" {
  command = plan

  variables {
    held = { per_day = 0 }
  }

  expect_failures = [var.held]
}

run "a_redis_without_tls" {
  command = plan

  variables {
    redis_url = "redis://redis.example.com:6379"
  }

  expect_failures = [var.redis_url]
}

run "a_password_for_a_redis_made_here" {
  command = plan

  variables {
    redis_url             = null
    redis_auth_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:redis-AbCdEf"
  }

  expect_failures = [var.redis_auth_secret_arn]
}

run "a_node_type_of_ec2" {
  command = plan

  variables {
    redis_node_type = "t4g.micro"
  }

  expect_failures = [var.redis_node_type]
}

run "two_zones_for_a_redis_brought_along" {
  command = plan

  variables {
    multi_az = true
  }

  expect_failures = [var.multi_az]
}

run "a_range_too_small_for_two_subnets" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/28"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_range_that_begins_in_the_middle" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.7/24"
  }

  expect_failures = [var.vpc_cidr]
}

run "one_zone_named_twice" {
  command = plan

  variables {
    redis_url          = null
    multi_az           = true
    availability_zones = ["eu-west-1a", "eu-west-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "a_thingworx_vpc_without_security_group" {
  command = plan

  variables {
    thingworx_vpc = { subnet_ids = ["subnet-1"], security_group_ids = [] }
  }

  expect_failures = [var.thingworx_vpc]
}

run "a_blank_category" {
  command = plan

  variables {
    property_category = " "
  }

  expect_failures = [var.property_category]
}

run "a_held_store_without_bounds" {
  command = plan

  variables {
    held = { per_day = 10000000000000 }
  }

  expect_failures = [var.held]
}

run "a_beat_of_no_length" {
  command = plan

  variables {
    connector_timings = { beat_seconds = 0 }
  }

  expect_failures = [var.connector_timings]
}

run "a_visibility_beyond_sqs" {
  command = plan

  variables {
    connector_timings = { visibility_seconds = 43201 }
  }

  expect_failures = [var.connector_timings]
}

run "a_jitter_beyond_the_connectors_own_limit" {
  command = plan

  variables {
    connector_timings = { handover_jitter_seconds = 601, handover_before_end_seconds = 10 }
  }

  expect_failures = [var.connector_timings]
}

run "a_memory_that_lambda_refuses" {
  command = plan

  variables {
    connector_memory_mb = 64
  }

  expect_failures = [var.connector_memory_mb]
}

run "a_timeout_beyond_lambda" {
  command = plan

  variables {
    fetcher_timeout_seconds = 901
  }

  expect_failures = [var.fetcher_timeout_seconds]
}

run "a_scaler_without_time_to_close_the_stack" {
  command = plan

  variables {
    scaler_timeout_seconds = 60
  }

  expect_failures = [var.scaler_timeout_seconds]
}

run "a_bind_that_is_neither_presence_nor_always" {
  command = plan

  variables {
    bind = "never"
  }

  expect_failures = [var.bind]
}

run "a_silence_that_is_no_number_of_seconds" {
  command = plan

  variables {
    presence_silence_seconds = 0.5
  }

  expect_failures = [var.presence_silence_seconds]
}

run "a_presence_property_without_a_name" {
  command = plan

  variables {
    presence_property = " "
  }

  expect_failures = [var.presence_property]
}

run "authorities_that_are_no_secret" {
  command = plan

  variables {
    thingworx_ca_secret_arn = "ca.pem"
  }

  expect_failures = [var.thingworx_ca_secret_arn]
}

run "an_environment_that_is_no_tag" {
  command = plan

  variables {
    environment = "PROD;TEST"
  }

  expect_failures = [var.environment]
}

run "a_delivery_that_is_neither_alwayson_nor_rest" {
  command = plan

  variables {
    delivery = "mqtt"
  }

  expect_failures = [var.delivery]
}

run "a_slot_deleted_before_routers_have_forgotten_it" {
  command = plan

  variables {
    watch_timings = { retire_drain_seconds = 30 }
  }

  expect_failures = [var.watch_timings]
}
