locals {
  secret_statements = {
    for name, arns in { thingworx = values(local.thingworx_secrets), redis = local.redis_auth_secret_arns } : name => flatten([
      for arn in arns : [
        {
          Effect   = "Allow"
          Action   = "secretsmanager:GetSecretValue"
          Resource = arn
        },
        { # whichever key encrypts that secret, for that secret only
          Effect   = "Allow"
          Action   = "kms:Decrypt"
          Resource = "arn:${local.partition}:kms:${local.region}:${local.account}:key/*"
          Condition = { StringEquals = {
            "kms:ViaService"                  = "secretsmanager.${local.region}.amazonaws.com"
            "kms:EncryptionContext:SecretARN" = arn
          } }
        },
      ]
    ])
  }

  vpc_statements = { for part, vpc in { registry = local.registry_vpc, thingworx = var.thingworx_vpc } : part => vpc == null ? [] : [{
    Effect = "Allow"
    Action = [ # Lambda needs these on every resource to place a function in a VPC
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
    ]
    Resource = "*"
  }] }

  held_statements = [{
    Effect   = "Allow"
    Action   = ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:UpdateItem"]
    Resource = aws_dynamodb_table.held.arn
  }]
  # For those that also send held readings on.
  held_read_statements = [{
    Effect   = "Allow"
    Action   = "dynamodb:Query"
    Resource = aws_dynamodb_table.held.arn
  }]

  control_arns = [aws_dynamodb_table.control.arn, "${aws_dynamodb_table.control.arn}/index/by_slot"]

  function_statements = {
    fetcher = concat(local.secret_statements.thingworx, local.vpc_statements.thingworx, [
      {
        Effect   = "Allow"
        Action   = "dynamodb:UpdateItem"
        Resource = aws_dynamodb_table.control.arn
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = "${aws_s3_bucket.this["staging"].arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = "s3:ListBucket" # without it a missing object reads as "access denied"
        Resource = aws_s3_bucket.this["staging"].arn
      },
    ])
    assigner = concat(local.secret_statements.redis, local.vpc_statements.registry, local.held_statements, local.held_read_statements, [
      {
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = local.slot_queues_arn
      },
      {
        Effect = "Allow"
        Action = [
          "dynamodb:BatchGetItem",
          "dynamodb:DeleteItem",
          "dynamodb:GetItem",
          "dynamodb:PutItem",
          "dynamodb:Query",
          "dynamodb:Scan",
          "dynamodb:UpdateItem",
        ]
        Resource = local.control_arns
      },
      {
        Effect    = "Allow"
        Action    = "dynamodb:BatchWriteItem"
        Resource  = aws_dynamodb_table.control.arn
        Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = ["stragglers"] } }
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = "${aws_s3_bucket.this["staging"].arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = "s3:DeleteObject" # of the oldest reports
        Resource = "${aws_s3_bucket.this["staging"].arn}/reports/*"
      },
      {
        Effect   = "Allow"
        Action   = "s3:ListBucket" # without it a missing object reads as "access denied"
        Resource = aws_s3_bucket.this["staging"].arn
      },
    ])
    scaler = [
      {
        Effect   = "Allow"
        Action   = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"]
        Resource = local.control_arns
      },
      {
        Effect   = "Allow"
        Action   = ["sqs:CreateQueue", "sqs:DeleteQueue", "sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SetQueueAttributes"]
        Resource = local.slot_queues_arn
      },
      {
        Effect   = "Allow"
        Action   = "states:StartExecution"
        Resource = local.connector_state_machine_arn
      },
      # The rest is for closing the stack.
      { # a listing is of the whole account, whatever its prefix
        Effect   = "Allow"
        Action   = "sqs:ListQueues"
        Resource = "*"
      },
      {
        Effect   = "Allow"
        Action   = "states:ListExecutions"
        Resource = [local.discovery_state_machine_arn, local.connector_state_machine_arn]
      },
      {
        Effect   = "Allow"
        Action   = "states:StopExecution"
        Resource = [for machine in ["discovery", "connector"] : "arn:${local.partition}:states:${local.region}:${local.account}:execution:${var.name}-${machine}:*"]
      },
    ]
    watch = [
      {
        Effect = "Allow"
        Action = [
          "dynamodb:DeleteItem",
          "dynamodb:GetItem",
          "dynamodb:PutItem",
          "dynamodb:Query",
          "dynamodb:UpdateItem",
        ]
        Resource = local.control_arns
      },
      {
        Effect   = "Allow"
        Action   = ["sqs:DeleteQueue", "sqs:GetQueueAttributes"]
        Resource = local.slot_queues_arn
      },
      { # counts what never went through the stream, and sees nothing of it
        Effect   = "Allow"
        Action   = "sqs:GetQueueAttributes"
        Resource = aws_sqs_queue.ingest_errors.arn
      },
      {
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = aws_s3_bucket.this["failures"].arn
      },
      {
        Effect   = "Allow"
        Action   = "states:StartExecution"
        Resource = [local.discovery_state_machine_arn, local.connector_state_machine_arn]
      },
      {
        Effect   = "Allow"
        Action   = "states:ListExecutions"
        Resource = local.connector_state_machine_arn
      },
      { # takes no resource (service authorization reference)
        Effect   = "Allow"
        Action   = "cloudwatch:GetMetricData"
        Resource = "*"
      },
    ]
    router = concat(local.secret_statements.redis, local.vpc_statements.registry, local.held_statements, [
      {
        Effect   = "Allow"
        Action   = ["kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards"]
        Resource = aws_kinesis_stream.ingest.arn
      },
      {
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = local.slot_queues_arn
      },
      { # asks for discovery runs, and sees nothing of the table
        Effect    = "Allow"
        Action    = "dynamodb:UpdateItem"
        Resource  = aws_dynamodb_table.control.arn
        Condition = { "ForAllValues:StringEquals" = { "dynamodb:LeadingKeys" = ["run"] } }
      },
      { # Lambda itself writes there, in the name of the function
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = "${aws_s3_bucket.this["failures"].arn}/*"
      },
      {
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = aws_s3_bucket.this["failures"].arn
      },
    ])
    connector = concat(local.secret_statements.thingworx, local.vpc_statements.thingworx, local.held_statements, local.held_read_statements, [
      {
        Effect   = "Allow"
        Action   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"]
        Resource = local.control_arns
      },
      {
        Effect    = "Allow"
        Action    = "dynamodb:BatchWriteItem"
        Resource  = aws_dynamodb_table.control.arn
        Condition = { "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["presence#*", "values#*"] } }
      },
      {
        Effect    = "Allow"
        Action    = "dynamodb:BatchGetItem"
        Resource  = aws_dynamodb_table.control.arn
        Condition = { "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = ["shape#*"] } }
      },
      { # which things are ThingWorx's is only known at run time; a named shadow is thing/<thing>/<name>
        Effect   = "Allow"
        Action   = ["iot:GetThingShadow", "iot:UpdateThingShadow"]
        Resource = "arn:${local.partition}:iot:${local.region}:${local.account}:thing/*"
      },
      {
        Effect   = "Allow"
        Action   = "iot:GetConnection"
        Resource = "arn:${local.partition}:iot:${local.region}:${local.account}:client/*"
      },
      {
        Effect   = "Allow"
        Action   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
        Resource = local.slot_queues_arn
      },
      { # for Things whose model has changed
        Effect   = "Allow"
        Action   = "states:StartExecution"
        Resource = local.discovery_state_machine_arn
      },
      { # these take no resource (service authorization reference); the token itself is the permission
        Effect   = "Allow"
        Action   = ["states:SendTaskFailure", "states:SendTaskHeartbeat", "states:SendTaskSuccess"]
        Resource = "*"
      },
    ])
  }

  services = {
    function  = "lambda.amazonaws.com"
    rules     = "iot.amazonaws.com"
    states    = "states.amazonaws.com"
    scheduler = "scheduler.amazonaws.com"
  }

  trust = { for name, service in local.services : name => jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      {
        Effect    = "Allow"
        Action    = "sts:AssumeRole"
        Principal = { Service = service }
      },
      # Lambda names no source when it takes a function's role; the others act for this account only.
      name == "function" ? {} : { Condition = { StringEquals = { "aws:SourceAccount" = local.account } } },
    )]
  }) }

  # Delivery of logs by Step Functions can't be narrowed to a log group.
  state_machine_log_statement = {
    Effect = "Allow"
    Action = [
      "logs:CreateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:DescribeLogGroups",
      "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:UpdateLogDelivery",
    ]
    Resource = "*"
  }

  state_machine_statements = {
    discovery = [
      {
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = [for function in ["assigner", "fetcher", "scaler"] : aws_lambda_function.this[function].arn]
      },
      {
        Effect   = "Allow"
        Action   = "states:StartExecution"
        Resource = local.discovery_state_machine_arn
      },
    ]
    connector = [
      {
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = [aws_lambda_function.this["connector"].arn]
      },
      {
        Effect   = "Allow"
        Action   = "states:StartExecution"
        Resource = local.connector_state_machine_arn
      },
    ]
  }
}

# One role a function. None may create log groups: a function still running at `destroy` would bring its own back.
resource "aws_iam_role" "function" {
  for_each = toset(["fetcher", "assigner", "scaler", "router", "connector", "watch"])

  name               = "${var.name}-${local.region}-${each.key}"
  assume_role_policy = local.trust.function
  tags               = local.tags
}

resource "aws_iam_role_policy" "function" {
  for_each = local.function_statements

  name = "function"
  role = aws_iam_role.function[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(each.value, local.kms_statements[each.key], [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.function[each.key].arn}:*"
    }])
  })
}

resource "aws_iam_role" "rules" {
  name               = "${var.name}-${local.region}-rules"
  assume_role_policy = local.trust.rules
  tags               = local.tags
}

resource "aws_iam_role_policy" "rules" {
  name = "rules"
  role = aws_iam_role.rules.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(local.kms_statements.rules, [
      {
        Effect   = "Allow"
        Action   = "kinesis:PutRecord"
        Resource = aws_kinesis_stream.ingest.arn
      },
      {
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.ingest_errors.arn
      },
    ])
  })
}

resource "aws_iam_role" "state_machine" {
  for_each = toset(["discovery", "connector"])

  name               = "${var.name}-${local.region}-${each.key}-machine"
  assume_role_policy = local.trust.states
  tags               = local.tags
}

resource "aws_iam_role_policy" "state_machine" {
  for_each = local.state_machine_statements

  name = "state-machine"
  role = aws_iam_role.state_machine[each.key].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(each.value, [local.state_machine_log_statement])
  })
}

resource "aws_iam_role" "scheduler" {
  name               = "${var.name}-${local.region}-scheduler"
  assume_role_policy = local.trust.scheduler
  tags               = local.tags
}

resource "aws_iam_role_policy" "scheduler" {
  name = "scheduler"
  role = aws_iam_role.scheduler.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "states:StartExecution"
        Resource = aws_sfn_state_machine.this["discovery"].arn
      },
      {
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = aws_lambda_function.this["watch"].arn
      },
    ]
  })
}
