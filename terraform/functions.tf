locals {
  redis_environment = merge(
    { REDIS_URL = local.redis_url },
    { for arn in local.redis_auth_secret_arns : "REDIS_AUTH_SECRET_ARN" => arn },
  )

  thingworx_secrets = {
    for variable, arn in {
      THINGWORX_APP_KEY_SECRET_ARN            = var.thingworx_app_key_secret_arn
      THINGWORX_CA_SECRET_ARN                 = var.thingworx_ca_secret_arn
      THINGWORX_CLIENT_CERTIFICATE_SECRET_ARN = var.thingworx_client_certificate_secret_arn
    } : variable => arn if arn != null
  }

  thingworx_environment = merge(local.thingworx_secrets, {
    THINGWORX_URL                     = local.thingworx_url
    THINGWORX_TLS_STRICT              = var.tls_strict
    THINGWORX_CONNECT_TIMEOUT_SECONDS = var.thingworx_timeouts.connect_seconds
    THINGWORX_READ_TIMEOUT_SECONDS    = var.thingworx_timeouts.read_seconds
  })

  held_environment = {
    HELD_TABLE             = aws_dynamodb_table.held.name
    HELD_DAYS              = var.held.days
    HELD_PER_THING_PER_DAY = var.held.per_thing_per_day
    HELD_PER_DAY           = var.held.per_day
  }

  # The lock of a run outlives its longest function.
  run_lease_seconds = max(var.fetcher_timeout_seconds, var.assigner_timeout_seconds, var.scaler_timeout_seconds) + 60

  functions = {
    fetcher = {
      description = "Reads Things and their property definitions from ThingWorx"
      memory      = var.fetcher_memory_mb
      timeout     = var.fetcher_timeout_seconds
      concurrency = null
      vpc         = var.thingworx_vpc
      environment = merge(local.thingworx_environment, {
        CONTROL_TABLE     = aws_dynamodb_table.control.name
        STAGING_BUCKET    = aws_s3_bucket.this["staging"].bucket
        THING_TAG         = var.thing_tag
        PROPERTY_CATEGORY = var.property_category
        FETCH_CONCURRENCY = var.fetch_concurrency
        FETCH_PER_SECOND  = var.fetch_per_second
        RUN_LEASE_SECONDS = local.run_lease_seconds
      })
    }
    assigner = {
      description = "Plans which slot serves which Thing, and publishes it to the router"
      memory      = var.assigner_memory_mb
      timeout     = var.assigner_timeout_seconds
      concurrency = null
      vpc         = local.registry_vpc
      environment = merge(local.redis_environment, local.held_environment, {
        CONTROL_TABLE     = aws_dynamodb_table.control.name
        STAGING_BUCKET    = aws_s3_bucket.this["staging"].bucket
        THINGS_PER_SLOT   = var.things_per_slot
        LANES_PER_SLOT    = var.lanes_per_slot
        RUN_LEASE_SECONDS = local.run_lease_seconds

        REMOVAL_LIMIT_PERCENT = var.removal_limit_percent
      })
    }
    scaler = {
      description = "Makes the queues of slots and starts their connectors"
      memory      = var.scaler_memory_mb
      timeout     = var.scaler_timeout_seconds
      concurrency = null
      vpc         = null
      environment = {
        CONTROL_TABLE               = aws_dynamodb_table.control.name
        QUEUE_NAME_PREFIX           = local.slot_queue_name_prefix
        CONNECTOR_STATE_MACHINE_ARN = local.connector_state_machine_arn
        VISIBILITY_SECONDS          = var.connector_timings.visibility_seconds
        RUN_LEASE_SECONDS           = local.run_lease_seconds
      }
    }
    watch = {
      description = "Every minute: starts what is wanted or dead, retires empty slots, reports the stack's state"
      memory      = var.watch_memory_mb
      timeout     = 55 # it is called again after 60
      concurrency = null
      vpc         = null
      environment = {
        CONTROL_TABLE               = aws_dynamodb_table.control.name
        DISCOVERY_STATE_MACHINE_ARN = local.discovery_state_machine_arn
        CONNECTOR_STATE_MACHINE_ARN = local.connector_state_machine_arn
        RETIRE_AFTER_SECONDS        = var.watch_timings.retire_after_seconds
        RETIRE_DRAIN_SECONDS        = var.watch_timings.retire_drain_seconds
        RETIRE_PAUSE_SECONDS        = var.watch_timings.retire_pause_seconds
        RESTART_AFTER_SECONDS       = var.watch_timings.restart_after_seconds
        INGEST_ERRORS_QUEUE_URL     = aws_sqs_queue.ingest_errors.url
        FAILURES_BUCKET             = aws_s3_bucket.this["failures"].bucket
      }
    }
    router = {
      description = "Passes readings from the ingest stream to the queues of their slots"
      memory      = var.router_memory_mb
      timeout     = var.router_timeout_seconds
      concurrency = null
      vpc         = local.registry_vpc
      environment = merge(local.redis_environment, local.held_environment, {
        CONTROL_TABLE           = aws_dynamodb_table.control.name
        UNREGISTERED            = var.unregistered
        REGISTRY_CACHE_SECONDS  = var.registry_cache_seconds
        TELEMETRY_TIME_PATHS    = jsonencode(local.telemetry_time_paths)
        MAX_CLOCK_AHEAD_SECONDS = var.max_clock_ahead_seconds
      })
    }
    connector = {
      description = "Serves one slot: delivers its readings to ThingWorx"
      memory      = var.connector_memory_mb
      timeout     = var.connector_timings.lifetime_seconds
      concurrency = var.connector_reserved_concurrency
      vpc         = var.thingworx_vpc
      environment = merge(local.thingworx_environment, local.held_environment, var.presence_property == null ? {} : { PRESENCE_PROPERTY = var.presence_property }, var.shadow_name == null ? {} : { SHADOW_NAME = var.shadow_name }, {
        CONTROL_TABLE               = aws_dynamodb_table.control.name
        DISCOVERY_STATE_MACHINE_ARN = local.discovery_state_machine_arn
        IOT_DATA_ENDPOINT           = data.aws_iot_endpoint.data.endpoint_address
        HANDOVER_BEFORE_END_SECONDS = var.connector_timings.handover_before_end_seconds
        HANDOVER_JITTER_SECONDS     = var.connector_timings.handover_jitter_seconds
        BEAT_SECONDS                = var.connector_timings.beat_seconds
        LEASE_SECONDS               = var.connector_timings.lease_seconds
        VISIBILITY_SECONDS          = var.connector_timings.visibility_seconds
        THING_RETRY_SECONDS         = var.connector_timings.thing_retry_seconds
        STALL_SECONDS               = var.connector_timings.stall_seconds
        MAX_WRITES_PER_SECOND       = var.max_writes_per_second
        UNBIND_DELAY_SECONDS        = var.connector_timings.unbind_delay_seconds
        DELIVERY                    = var.delivery
        BIND                        = var.bind
        PRESENCE_SILENCE_SECONDS    = var.presence_silence_seconds
        DELIVERY_CONCURRENCY        = var.delivery_concurrency
        HONOUR_PUSH_TYPE            = var.honour_push_type
        ALWAYSON_TIMEOUTS           = jsonencode(var.alwayson_timeouts)
        SHADOW_SECTION              = var.shadow_section
        ECHO_WRITES                 = var.echo_writes
        WRITE_DEADLINE_MS           = var.write_deadline_ms
      })
    }
  }
}

resource "aws_lambda_layer_version" "dependencies" {
  layer_name               = "${var.name}-dependencies"
  description              = "Python packages of the functions"
  filename                 = "${local.package_dir}/layer-${var.architecture}.zip"
  source_code_hash         = filebase64sha256("${local.package_dir}/layer-${var.architecture}.zip")
  compatible_runtimes      = [var.python_runtime]
  compatible_architectures = [var.architecture]
}

# Made here and not by the functions, so that they expire and `destroy` removes them for good.
resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

resource "aws_lambda_function" "this" {
  for_each = local.functions

  function_name                  = "${var.name}-${each.key}"
  description                    = each.value.description
  role                           = aws_iam_role.function[each.key].arn
  runtime                        = var.python_runtime
  architectures                  = [var.architecture]
  handler                        = "lambdas.${each.key}.handler.handle"
  filename                       = "${local.package_dir}/lambdas.zip"
  source_code_hash               = filebase64sha256("${local.package_dir}/lambdas.zip")
  layers                         = [aws_lambda_layer_version.dependencies.arn]
  memory_size                    = each.value.memory
  timeout                        = each.value.timeout
  reserved_concurrent_executions = each.value.concurrency
  tags                           = local.tags

  environment {
    variables = merge(each.value.environment, {
      STACK     = var.name
      LOG_LEVEL = var.log_level
    })
  }

  logging_config {
    log_group  = aws_cloudwatch_log_group.function[each.key].name
    log_format = "JSON"
    # The functions filter by LOG_LEVEL themselves. Lambda takes a metric record, which has no level,
    # for INFO: anything above would drop it.
    application_log_level = var.log_level == "DEBUG" ? "DEBUG" : "INFO"
    system_log_level      = "WARN"
  }

  dynamic "vpc_config" {
    for_each = each.value.vpc[*]
    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [aws_iam_role_policy.function]
}

# An event that waited longer belongs to a token that is dead by then; the state machine is the one to retry.
resource "aws_lambda_function_event_invoke_config" "connector" {
  function_name                = aws_lambda_function.this["connector"].function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}

# Each connector is followed by the next for as long as the stack lives: a chain by design.
resource "aws_lambda_function_recursion_config" "connector" {
  function_name  = aws_lambda_function.this["connector"].function_name
  recursive_loop = "Allow"
}
