# Where Redis comes from, who reaches it, and by which way.

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
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }
  mock_data "aws_secretsmanager_random_password" {
    defaults = { random_password = "0123456789abcdef0123456789abcdef" }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-brought" }
  }
}

variables {
  package_dir                  = "tests/package"
  thingworx_url                = "https://thingworx.example.com/Thingworx"
  thingworx_app_key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-key-AbCdEf"
}

run "two_inputs_are_enough" {
  command = plan

  assert {
    condition     = length(aws_elasticache_replication_group.redis) == 1 && length(aws_vpc.this) == 1 && aws_vpc.this[0].cidr_block == "10.0.0.0/24"
    error_message = "Without redis_url a Redis and a VPC of 10.0.0.0/24 are made."
  }
  assert {
    condition     = toset([for part, function in aws_lambda_function.this : part if length(function.vpc_config) > 0]) == toset(["assigner", "router"])
    error_message = "Only router and assigner belong in the VPC."
  }
  assert {
    condition     = toset(keys(aws_vpc_endpoint.gateway)) == toset(["dynamodb", "s3"]) && toset(keys(aws_vpc_endpoint.interface)) == toset(["sqs", "secretsmanager"])
    error_message = "The way out of the VPC changed: see docs/adr/0010-way-out-of-the-vpc.md."
  }
  assert {
    condition     = aws_subnet.this[*].cidr_block == ["10.0.0.0/25"] && aws_subnet.this[0].availability_zone == "eu-west-1a"
    error_message = "One zone, in the first half of the range."
  }
}

run "the_registry_is_encrypted_and_forgets_nothing_by_itself" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.redis[0].transit_encryption_enabled && tobool(aws_elasticache_replication_group.redis[0].at_rest_encryption_enabled)
    error_message = "Redis speaks TLS and is encrypted at rest."
  }
  assert {
    condition     = one([for parameter in aws_elasticache_parameter_group.redis[0].parameter : parameter.value if parameter.name == "maxmemory-policy"]) == "noeviction"
    error_message = "A full registry must refuse writes."
  }
  assert {
    condition     = aws_elasticache_replication_group.redis[0].num_cache_clusters == 1 && !aws_elasticache_replication_group.redis[0].automatic_failover_enabled
    error_message = "A standby is a choice."
  }
  assert {
    condition     = aws_elasticache_replication_group.redis[0].node_type == "cache.t4g.micro"
    error_message = "The default node is the smallest."
  }
}

run "two_zones_by_choice" {
  command = plan

  variables {
    multi_az = true
    vpc_cidr = "10.20.0.0/26"
  }

  assert {
    condition     = aws_subnet.this[*].cidr_block == ["10.20.0.0/27", "10.20.0.32/27"] && aws_subnet.this[*].availability_zone == ["eu-west-1a", "eu-west-1b"]
    error_message = "One half of the range in each of two zones."
  }
  assert {
    condition     = aws_elasticache_replication_group.redis[0].num_cache_clusters == 2 && aws_elasticache_replication_group.redis[0].automatic_failover_enabled && aws_elasticache_replication_group.redis[0].multi_az_enabled
    error_message = "A standby in the other zone takes over by itself."
  }
}

run "zones_of_ones_choice" {
  command = plan

  variables {
    availability_zones = ["eu-west-1c", "eu-west-1b"]
  }

  assert {
    condition     = aws_subnet.this[*].availability_zone == ["eu-west-1c"]
    error_message = "The first named zone is used."
  }
}

run "redis_in_a_vpc_brought_along" {
  command = plan

  variables {
    vpc = { subnet_ids = ["subnet-1", "subnet-2"], security_group_ids = ["sg-1", "sg-2"] }
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && length(aws_vpc_endpoint.gateway) == 0 && length(aws_vpc_endpoint.interface) == 0
    error_message = "Nothing is built in a network that isn't ours."
  }
  assert {
    condition     = aws_elasticache_subnet_group.redis[0].subnet_ids == toset(["subnet-1", "subnet-2"]) && aws_security_group.redis[0].vpc_id == "vpc-brought"
    error_message = "Redis goes to the named subnets."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.redis_from_functions[*].referenced_security_group_id == ["sg-1", "sg-2"]
    error_message = "Redis is open to the functions' groups and to nobody else."
  }
}

run "a_redis_brought_along_makes_none" {
  command = plan

  variables {
    redis_url = "rediss://redis.example.com:6379"
  }

  assert {
    condition     = length(aws_elasticache_replication_group.redis) == 0 && length(aws_vpc.this) == 0 && length(aws_secretsmanager_secret.redis) == 0 && length(aws_security_group.redis) == 0
    error_message = "Nothing of Redis is made beside one that was brought along."
  }
  assert {
    condition     = aws_lambda_function.this["router"].environment[0].variables.REDIS_URL == "rediss://redis.example.com:6379"
    error_message = "The functions use the Redis that was named."
  }
}

run "a_private_thingworx" {
  command = plan

  variables {
    redis_url     = "rediss://redis.example.com:6379"
    thingworx_vpc = { subnet_ids = ["subnet-7"], security_group_ids = ["sg-7"] }
  }

  assert {
    condition     = { for part, function in aws_lambda_function.this : part => tolist(function.vpc_config[0].subnet_ids) if length(function.vpc_config) > 0 } == { connector = tolist(["subnet-7"]), fetcher = tolist(["subnet-7"]) }
    error_message = "What talks to ThingWorx enters its network, and nothing else does."
  }
}
