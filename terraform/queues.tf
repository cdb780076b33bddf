# Messages that a topic rule couldn't put into the stream.
resource "aws_sqs_queue" "ingest_errors" {
  name                      = "${var.name}-ingest-errors"
  message_retention_seconds = 1209600
  max_message_size          = 262144
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}
