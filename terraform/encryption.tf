# One key for what rests here: stream, tables, buckets, Redis and its password. What stays with keys of
# AWS, and why: docs/adr/0012-one-key.md.
locals {
  # What a service asks of the key in a caller's name.
  kms_data_actions = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]

  kms_statements = { for role, services in {
    fetcher   = ["dynamodb", "s3"]
    assigner  = ["dynamodb", "s3"]
    scaler    = ["dynamodb"]
    watch     = ["dynamodb"]
    router    = ["dynamodb", "kinesis", "s3"]
    connector = ["dynamodb"]
    rules     = ["kinesis", "sqs"]
    } : role => [{
      Effect    = "Allow"
      Action    = local.kms_data_actions
      Resource  = aws_kms_key.this.arn
      Condition = { StringEquals = { "kms:ViaService" = [for service in services : "${service}.${local.region}.amazonaws.com"] } }
  }] }
}

resource "aws_kms_key" "this" {
  description             = "Data at rest of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = local.tags

  # Whoever may use it is said by IAM policies of this account: each role of this module by its own. CloudWatch
  # has no role: without the second statement it could publish no alarm to an encrypted topic.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = "arn:${local.partition}:iam::${local.account}:root" }
      Action    = "kms:*"
      Resource  = "*"
      }, {
      Effect    = "Allow"
      Principal = { Service = "cloudwatch.amazonaws.com" }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
      Resource  = "*"
      Condition = {
        ArnLike      = { "aws:SourceArn" = local.alarm_arns }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    }]
  })
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.id
}
