locals {
  # A task outlives its function by this, so that the function's own time-out is the one to be seen.
  task_grace_seconds = 60

  state_machines = {
    discovery = {
      assigner_function_arn       = aws_lambda_function.this["assigner"].arn
      assigner_task_seconds       = var.assigner_timeout_seconds + local.task_grace_seconds
      fetcher_function_arn        = aws_lambda_function.this["fetcher"].arn
      fetcher_task_seconds        = var.fetcher_timeout_seconds + local.task_grace_seconds
      scaler_function_arn         = aws_lambda_function.this["scaler"].arn
      scaler_task_seconds         = var.scaler_timeout_seconds + local.task_grace_seconds
      discovery_state_machine_arn = local.discovery_state_machine_arn
    }
    connector = {
      connector_function_arn      = aws_lambda_function.this["connector"].arn
      connector_state_machine_arn = local.connector_state_machine_arn
      heartbeat_seconds           = var.connector_timings.heartbeat_seconds
      serve_seconds               = var.connector_timings.lifetime_seconds + 2 * local.task_grace_seconds
      back_off_seconds            = join(", ", var.connector_timings.back_off_seconds)
      turns_per_execution         = var.connector_timings.turns_per_execution
      seconds_per_execution       = var.connector_timings.seconds_per_execution
    }
  }
}

resource "aws_cloudwatch_log_group" "state_machine" {
  for_each = toset(["discovery", "connector"])

  name              = "/aws/vendedlogs/states/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

resource "aws_sfn_state_machine" "this" {
  for_each = local.state_machines

  name       = "${var.name}-${each.key}"
  type       = "STANDARD"
  role_arn   = aws_iam_role.state_machine[each.key].arn
  definition = templatefile("${path.module}/../statemachine/${each.key}.asl.json", merge(each.value, { partition = local.partition }))
  tags       = local.tags

  logging_configuration {
    log_destination        = "${aws_cloudwatch_log_group.state_machine[each.key].arn}:*"
    include_execution_data = false
    level                  = "ERROR"
  }

  depends_on = [aws_iam_role_policy.state_machine]
}

resource "aws_scheduler_schedule" "discovery" {
  name                = "${var.name}-discovery"
  description         = "Finds new, changed and removed Things"
  schedule_expression = var.discovery_schedule.expression
  state               = var.discovery_schedule.enabled ? "ENABLED" : "DISABLED"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_sfn_state_machine.this["discovery"].arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({})
  }

  depends_on = [aws_iam_role_policy.scheduler, aws_lambda_invocation.close]
}

resource "aws_scheduler_schedule" "watch" {
  name                = "${var.name}-watch"
  description         = "Looks after discovery runs, connectors and slots"
  schedule_expression = "rate(1 minute)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this["watch"].arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({})

    retry_policy { # the next minute looks anew
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 0
    }
  }

  # At `destroy` it goes before the stack is closed: it would start again what is stopped there.
  depends_on = [aws_iam_role_policy.scheduler, aws_lambda_invocation.close]
}

# A look that failed is made up for by the next.
resource "aws_lambda_function_event_invoke_config" "watch" {
  function_name                = aws_lambda_function.this["watch"].function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}
