# Messages that a topic rule couldn't put into the stream.
resource "aws_sqs_queue" "ingest_errors" {
  name                              = "${var.name}-ingest-errors"
  message_retention_seconds         = 1209600
  max_message_size                  = 262144
  kms_master_key_id                 = aws_kms_key.this.arn
  kms_data_key_reuse_period_seconds = 3600
  tags                              = local.tags
}
