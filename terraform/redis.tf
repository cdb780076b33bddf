# The registry's Redis, made here unless redis_url brings one along. It holds nothing that a discovery
# run can't write again: no snapshots, and a standby only by choice.
locals {
  redis_port = 6379
  redis_url  = local.make_redis ? "rediss://${aws_elasticache_replication_group.redis[0].primary_endpoint_address}:${local.redis_port}/0" : var.redis_url

  redis_auth_secret_arns = local.make_redis ? aws_secretsmanager_secret.redis[*].arn : var.redis_auth_secret_arn[*]
}

# The provider takes the password of a replication group by a plain argument only, so it is in the state
# (docs/adr/0011-redis-password.md). It is drawn once; the functions read it from the secret.
data "aws_secretsmanager_random_password" "redis" {
  count = local.make_redis ? 1 : 0

  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "redis" {
  count = local.make_redis ? 1 : 0

  name_prefix = "${var.name}-redis-" # a deleted secret blocks its name for days
  description = "Password of the registry's Redis"
  kms_key_id  = aws_kms_key.this.arn
  tags        = local.tags
}

resource "aws_secretsmanager_secret_version" "redis" {
  count = local.make_redis ? 1 : 0

  secret_id     = aws_secretsmanager_secret.redis[0].id
  secret_string = data.aws_secretsmanager_random_password.redis[0].random_password

  lifecycle {
    ignore_changes = [secret_string] # another one is drawn at every plan
  }
}

data "aws_subnet" "brought" {
  count = local.make_redis && !local.make_vpc ? 1 : 0

  id = var.vpc.subnet_ids[0]
}

resource "aws_security_group" "redis" {
  count = local.make_redis ? 1 : 0

  name        = "${var.name}-redis"
  description = "Redis of ${var.name}"
  vpc_id      = local.make_vpc ? aws_vpc.this[0].id : data.aws_subnet.brought[0].vpc_id
  tags        = merge(local.tags, { Name = "${var.name}-redis" })
}

resource "aws_vpc_security_group_ingress_rule" "redis_from_functions" {
  count = local.make_redis ? (local.make_vpc ? 1 : length(var.vpc.security_group_ids)) : 0

  security_group_id            = aws_security_group.redis[0].id
  description                  = "Router and assigner"
  referenced_security_group_id = local.registry_vpc.security_group_ids[count.index]
  ip_protocol                  = "tcp"
  from_port                    = local.redis_port
  to_port                      = local.redis_port
}

resource "aws_elasticache_subnet_group" "redis" {
  count = local.make_redis ? 1 : 0

  name        = "${var.name}-redis"
  description = "Redis of ${var.name}"
  subnet_ids  = local.registry_vpc.subnet_ids
  tags        = local.tags
}

resource "aws_elasticache_parameter_group" "redis" {
  count = local.make_redis ? 1 : 0

  name        = "${var.name}-valkey8"
  family      = "valkey8"
  description = "Redis of ${var.name}"
  tags        = local.tags

  parameter { # a full registry must refuse writes; the default drops keys, and their Things become unknown
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

# Cluster mode is off: the router looks up all Things of a batch by one MGET.
resource "aws_elasticache_replication_group" "redis" {
  count = local.make_redis ? 1 : 0

  replication_group_id       = "${var.name}-redis"
  description                = "Registry of ${var.name}"
  engine                     = "valkey"
  engine_version             = "8.0"
  node_type                  = var.redis_node_type
  port                       = local.redis_port
  num_cache_clusters         = var.multi_az ? 2 : 1
  automatic_failover_enabled = var.multi_az
  multi_az_enabled           = var.multi_az
  parameter_group_name       = aws_elasticache_parameter_group.redis[0].name
  subnet_group_name          = aws_elasticache_subnet_group.redis[0].name
  security_group_ids         = aws_security_group.redis[*].id
  transit_encryption_enabled = true
  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.this.arn
  auth_token                 = aws_secretsmanager_secret_version.redis[0].secret_string
  snapshot_retention_limit   = 0
  tags                       = local.tags
}
