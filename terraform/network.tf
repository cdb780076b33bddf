# A VPC around Redis and the two functions that talk to it. It has no way to the internet: S3 and
# DynamoDB are reached by gateway endpoints, which are free, SQS and Secrets Manager by interface
# endpoints, which cost less than a NAT gateway (docs/adr/0010-way-out-of-the-vpc.md).
locals {
  make_redis = var.redis_url == null
  make_vpc   = local.make_redis && var.vpc == null

  zones = local.make_vpc ? slice(coalesce(var.availability_zones, one(data.aws_availability_zones.available[*].names)), 0, var.multi_az ? 2 : 1) : []

  registry_vpc = local.make_vpc ? {
    subnet_ids         = aws_subnet.this[*].id
    security_group_ids = aws_security_group.functions[*].id
  } : var.vpc

  # What may be reached through each endpoint, and nothing else.
  gateway_endpoints = {
    dynamodb = concat(local.control_arns, [aws_dynamodb_table.held.arn])
    s3       = [aws_s3_bucket.this["staging"].arn, "${aws_s3_bucket.this["staging"].arn}/*"]
  }
  interface_endpoints = {
    sqs            = [local.slot_queues_arn]
    secretsmanager = aws_secretsmanager_secret.redis[*].arn
  }
}

data "aws_availability_zones" "available" {
  count = local.make_vpc && var.availability_zones == null ? 1 : 0

  state = "available"

  filter { # no local or wavelength zones
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "this" {
  count = local.make_vpc ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true # interface endpoints answer to the services' own names
  tags                 = merge(local.tags, { Name = var.name })
}

# Nobody gets the group that AWS makes; without rules it lets nothing through.
resource "aws_default_security_group" "this" {
  count = local.make_vpc ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = "${var.name}-default" })
}

# The second half of the addresses is kept for a second zone, so that multi_az can be switched later.
resource "aws_subnet" "this" {
  count = length(local.zones)

  vpc_id            = aws_vpc.this[0].id
  cidr_block        = cidrsubnet(var.vpc_cidr, 1, count.index)
  availability_zone = local.zones[count.index]
  tags              = merge(local.tags, { Name = "${var.name}-${local.zones[count.index]}" })
}

resource "aws_route_table" "this" {
  count = local.make_vpc ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_route_table_association" "this" {
  count = length(local.zones)

  subnet_id      = aws_subnet.this[count.index].id
  route_table_id = aws_route_table.this[0].id
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = local.make_vpc ? local.gateway_endpoints : {}

  vpc_id            = aws_vpc.this[0].id
  service_name      = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = aws_route_table.this[*].id
  policy            = jsonencode(local.endpoint_policies[each.key])
  tags              = merge(local.tags, { Name = "${var.name}-${each.key}" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.make_vpc ? local.interface_endpoints : {}

  vpc_id              = aws_vpc.this[0].id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = aws_subnet.this[*].id
  security_group_ids  = aws_security_group.endpoints[*].id
  policy              = jsonencode(local.endpoint_policies[each.key])
  tags                = merge(local.tags, { Name = "${var.name}-${each.key}" })
}

locals {
  endpoint_policies = { for service, resources in merge(local.gateway_endpoints, local.interface_endpoints) : service => {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = "*"
      Action    = "${service}:*"
      Resource  = resources
      Condition = { StringEquals = { "aws:PrincipalAccount" = local.account } }
    }]
  } }
}

resource "aws_security_group" "functions" {
  count = local.make_vpc ? 1 : 0

  name        = "${var.name}-functions"
  description = "Router and assigner of ${var.name}"
  vpc_id      = aws_vpc.this[0].id
  tags        = merge(local.tags, { Name = "${var.name}-functions" })
}

resource "aws_security_group" "endpoints" {
  count = local.make_vpc ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "Endpoints of AWS services for ${var.name}"
  vpc_id      = aws_vpc.this[0].id
  tags        = merge(local.tags, { Name = "${var.name}-endpoints" })
}

resource "aws_vpc_security_group_egress_rule" "functions_to_redis" {
  count = local.make_vpc ? 1 : 0

  security_group_id            = aws_security_group.functions[0].id
  description                  = "Redis"
  referenced_security_group_id = aws_security_group.redis[0].id
  ip_protocol                  = "tcp"
  from_port                    = local.redis_port
  to_port                      = local.redis_port
}

resource "aws_vpc_security_group_egress_rule" "functions_to_endpoints" {
  count = local.make_vpc ? 1 : 0

  security_group_id            = aws_security_group.functions[0].id
  description                  = "SQS and Secrets Manager"
  referenced_security_group_id = aws_security_group.endpoints[0].id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "functions_to_gateways" {
  for_each = aws_vpc_endpoint.gateway

  security_group_id = aws_security_group.functions[0].id
  description       = each.key
  prefix_list_id    = each.value.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_from_functions" {
  count = local.make_vpc ? 1 : 0

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "Router and assigner"
  referenced_security_group_id = aws_security_group.functions[0].id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}
