# ThingWorx

variable "thingworx_url" {
  description = "Address of the ThingWorx platform, for example https://thingworx.example.com/Thingworx. Its WebSocket form (.../Thingworx/WS) is accepted too."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/Thingworx(/WS)?)?/?$", var.thingworx_url))
    error_message = "Write thingworx_url as https://host[:port]/Thingworx; plain http isn't supported, since the application key travels with every call."
  }
}

variable "thingworx_app_key_secret_arn" {
  description = "ARN of the Secrets Manager secret whose text is the ThingWorx application key. The secret is yours: the key never passes through Terraform."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", var.thingworx_app_key_secret_arn))
    error_message = "Give the ARN of the secret (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX), not its name and not the key itself."
  }
}

variable "thingworx_ca_secret_arn" {
  description = "ARN of the Secrets Manager secret whose text is the authorities (PEM) to trust when ThingWorx's certificate isn't of a public one; null trusts the public ones. Certificates are always verified."
  type        = string
  default     = null

  validation {
    condition     = var.thingworx_ca_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", var.thingworx_ca_secret_arn))
    error_message = "Give the ARN of the secret (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX) whose text is the PEM of the authorities, not its name and not the text itself."
  }
}

variable "thingworx_client_certificate_secret_arn" {
  description = "ARN of the Secrets Manager secret whose text is the client certificate and its private key (PEM) that ThingWorx asks for; null shows none."
  type        = string
  default     = null

  validation {
    condition     = var.thingworx_client_certificate_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", var.thingworx_client_certificate_secret_arn))
    error_message = "Give the ARN of the secret (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX) whose text is the PEM of the certificate and its key, not its name and not the text itself."
  }
}

variable "tls_strict" {
  description = "Refuse certificates of ThingWorx whose form breaks RFC 5280, as Python does by default. Many private authorities issue such ones (no key usage, no key identifiers): false forgives that and nothing else; the chain and the host name are verified all the same."
  type        = bool
  default     = true
  nullable    = false
}

variable "thingworx_timeouts" {
  description = "Seconds to wait for a connection to ThingWorx and for its answer."
  type = object({
    connect_seconds = optional(number, 5)
    read_seconds    = optional(number, 30)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.thingworx_timeouts.connect_seconds > 0 && var.thingworx_timeouts.read_seconds > 0
    error_message = "Set both thingworx_timeouts to more than 0 seconds."
  }
}

variable "thing_tag" {
  description = "Model tag (vocabulary:term) of the Things to connect."
  type        = string
  default     = "AWS_CONNECTED_THING:AWS_CONNECTED_THING"
  nullable    = false

  validation {
    condition     = can(regex("^[^:;]+:[^:;]+$", var.thing_tag))
    error_message = "Write thing_tag as vocabulary:term, for example AWS_CONNECTED_THING:AWS_CONNECTED_THING."
  }
}

variable "property_category" {
  description = "Category of the properties to connect; properties of other categories are left alone."
  type        = string
  default     = "AWSConnectorBound"
  nullable    = false

  validation {
    condition     = can(regex("\\S", var.property_category))
    error_message = "Name the category that the connected properties have in ThingWorx."
  }
}

# Registry

variable "redis_url" {
  description = "Your own Redis or Valkey (cluster mode off, TLS): rediss://host:port[/db]. null makes one in ElastiCache."
  type        = string
  default     = null

  validation {
    condition     = var.redis_url == null || can(regex("^rediss://[A-Za-z0-9.-]+:[0-9]{1,5}(/[0-9]{1,2})?$", var.redis_url))
    error_message = "Write redis_url as rediss://host:port or rediss://host:port/db: with TLS (rediss), without user and password. The password belongs in redis_auth_secret_arn."
  }
}

variable "redis_auth_secret_arn" {
  description = "ARN of the Secrets Manager secret whose text is the password of your own Redis; null when it needs none. The password of a Redis made here is drawn here; the provider leaves it in the Terraform state, so keep the state encrypted."
  type        = string
  default     = null

  validation {
    condition     = var.redis_auth_secret_arn == null || can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", var.redis_auth_secret_arn))
    error_message = "Give the ARN of the secret (arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX), not its name and not the password itself."
  }
  validation {
    condition     = var.redis_auth_secret_arn == null || var.redis_url != null
    error_message = "A Redis made here gets a password of its own: leave redis_auth_secret_arn out, or name your own Redis in redis_url."
  }
}

variable "redis_node_type" {
  description = "ElastiCache node type of a Redis made here."
  type        = string
  default     = "cache.t4g.micro"
  nullable    = false

  validation {
    condition     = can(regex("^cache\\.[a-z0-9]+\\.[a-z0-9]+$", var.redis_node_type))
    error_message = "Give a node type of ElastiCache, for example cache.t4g.micro or cache.m7g.large."
  }
}

variable "multi_az" {
  description = "Keep a Redis made here, and the way to it, in two Availability Zones with automatic failover. Without it a failing zone stops the router until Redis is back; readings wait in the stream meanwhile."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.multi_az || var.redis_url == null
    error_message = "multi_az is about a Redis made here; your own Redis has its failover where it runs."
  }
  validation {
    condition     = !var.multi_az || var.vpc == null || try(length(var.vpc.subnet_ids) >= 2, false)
    error_message = "For multi_az name subnets of at least two Availability Zones in vpc."
  }
}

# Network

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made around a Redis made here."
  type        = string
  default     = "10.0.0.0/24"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 27, false)
    error_message = "Write vpc_cidr as an IPv4 range of /16 to /27, for example 10.0.0.0/24: AWS makes no subnet smaller than /28, and the range is halved."
  }
  validation {
    condition     = try(cidrsubnet(var.vpc_cidr, 0, 0) == var.vpc_cidr, false)
    error_message = "Write vpc_cidr with its first address, for example 10.0.0.0/24 and not 10.0.0.7/24."
  }
}

variable "availability_zones" {
  description = "Zones of the VPC made here, the first one, or the first two with multi_az; null takes the region's first. Name others where one of them lacks the node type or an endpoint."
  type        = list(string)
  default     = null

  validation {
    condition     = var.availability_zones == null || try(length(distinct(var.availability_zones)) >= (var.multi_az ? 2 : 1), false)
    error_message = "Name at least one zone, at least two different ones with multi_az, or leave availability_zones null."
  }
}

variable "vpc" {
  description = "Your own subnets and security groups for the two functions that talk to Redis (router, assigner), and for a Redis made here. null makes a VPC where Redis is made here, and uses none where it isn't. The subnets need a way to DynamoDB, S3, SQS and Secrets Manager."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.vpc == null || try(length(var.vpc.subnet_ids) > 0 && length(var.vpc.security_group_ids) > 0, false)
    error_message = "Name at least one subnet and one security group in vpc, or leave it null."
  }
}

variable "thingworx_vpc" {
  description = "Your own subnets and security groups for the functions that talk to ThingWorx (connector, fetcher), where it is reached from a VPC only; null runs them outside any VPC. The subnets need a way to DynamoDB, S3, SQS, Step Functions, Secrets Manager and ThingWorx."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition     = var.thingworx_vpc == null || try(length(var.thingworx_vpc.subnet_ids) > 0 && length(var.thingworx_vpc.security_group_ids) > 0, false)
    error_message = "Name at least one subnet and one security group in thingworx_vpc, or leave it null."
  }
}

# Stack

variable "name" {
  description = "Prefix of every name, so that two stacks can live in one account."
  type        = string
  default     = "thingworx-connector"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "Choose a name of 3 to 24 lower-case letters, digits and single hyphens, beginning with a letter: it becomes part of bucket names."
  }
}

variable "environment" {
  description = "What this stack is for; every resource carries it as the tag `environment`."
  type        = string
  default     = "PROD"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9 _.:/=+@-]{1,256}$", var.environment))
    error_message = "Write environment as the value of a tag: 1 to 256 letters, digits, blanks or _.:/=+@-."
  }
}

variable "tags" {
  description = "Tags of every resource that can have them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "package_dir" {
  description = "Folder with lambdas.zip and layer-<architecture>.zip as `make build` writes them; null is ../dist beside this module."
  type        = string
  default     = null

  validation {
    condition     = fileexists("${coalesce(var.package_dir, "${path.module}/../dist")}/lambdas.zip")
    error_message = "There is no lambdas.zip in that folder: run `make build` first, or point package_dir at the folder it was built to."
  }
}

variable "architecture" {
  description = "Processor architecture of the functions and of the dependency layer."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Choose arm64 or x86_64."
  }
}

variable "python_runtime" {
  description = "Lambda runtime of the functions."
  type        = string
  default     = "python3.13"
  nullable    = false

  validation {
    condition     = can(regex("^python3\\.1[1-9]$", var.python_runtime))
    error_message = "Choose a Python runtime of Lambda from python3.11 on, for example python3.13."
  }
}

variable "log_level" {
  description = "Log level of the functions."
  type        = string
  default     = "ERROR"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "Choose DEBUG, INFO, WARNING or ERROR."
  }
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch Logs keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days: choose one of these."
  }
}

variable "force_destroy" {
  description = "Let `terraform destroy` delete the bucket of failed records even while it holds some."
  type        = bool
  default     = false
  nullable    = false
}

# Ingest

variable "telemetry_topics" {
  description = "MQTT topic filters that carry telemetry, and the SQL that names the Thing: clientid() or topic(n), the n-th level of the topic. time_path is the place of the time in the payload, as keys with dots between them, where devices tell it themselves: seconds or milliseconds since 1970, or ISO 8601 text."
  type = list(object({
    filter    = string
    thing     = optional(string, "clientid()")
    time_path = optional(string)
  }))
  default  = [{ filter = "/sample/topic" }]
  nullable = false

  validation {
    condition     = length(var.telemetry_topics) > 0
    error_message = "Name at least one topic filter."
  }
  validation {
    condition     = alltrue([for topic in var.telemetry_topics : can(regex("^(clientid\\(\\)|topic\\([1-9][0-9]?\\))$", topic.thing))])
    error_message = "Write thing as clientid() or topic(n), n counting the topic's levels from 1. A name inside the payload can't be used here: binary payloads have no fields."
  }
  validation {
    condition     = alltrue([for topic in var.telemetry_topics : can(regex("^([^\\s'+#/]*|\\+)(/([^\\s'+#/]*|\\+))*(/#)?$|^#$", topic.filter)) && topic.filter != ""])
    error_message = "Write each filter as an MQTT topic filter: + stands for one whole level, # only for all the levels at the end, and there are no blanks or quotes."
  }
  validation {
    condition     = length(distinct(var.telemetry_topics[*].filter)) == length(var.telemetry_topics)
    error_message = "Name each filter once: a second rule on the same topic would deliver each message twice."
  }
  validation {
    condition     = alltrue([for topic in var.telemetry_topics : topic.time_path == null || can(regex("^[^.]+(\\.[^.]+)*$", topic.time_path))])
    error_message = "Write time_path as the keys that lead to the time in the payload, with dots between them: ts, or header.time."
  }
}

variable "max_clock_ahead_seconds" {
  description = "How far ahead of AWS IoT's clock a device's own time may be (time_path of telemetry_topics); a reading further ahead gets AWS IoT's time, since a value from the future keeps later ones from becoming current."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.max_clock_ahead_seconds >= 0 && var.max_clock_ahead_seconds <= 86400 && floor(var.max_clock_ahead_seconds) == var.max_clock_ahead_seconds
    error_message = "Allow 0 to 86400 whole seconds."
  }
}

variable "kinesis_shard_count" {
  description = "Shards of the ingest stream: each takes 1,000 messages and 1 MB a second. AWS refuses to more than double or to less than halve it at once. null lets AWS scale it on demand, at a higher price."
  type        = number
  default     = 1

  validation {
    condition     = var.kinesis_shard_count == null || try(var.kinesis_shard_count >= 1 && floor(var.kinesis_shard_count) == var.kinesis_shard_count, false)
    error_message = "Give a whole number of shards from 1 on, or null for on demand."
  }
}

variable "kinesis_retention_hours" {
  description = "Hours that records wait in the stream while the router can't pass them on."
  type        = number
  default     = 48
  nullable    = false

  validation {
    condition     = var.kinesis_retention_hours >= 24 && var.kinesis_retention_hours <= 8760 && floor(var.kinesis_retention_hours) == var.kinesis_retention_hours
    error_message = "Kinesis keeps records for 24 to 8760 whole hours."
  }
}

variable "router_batch_size" {
  description = "Most records in one invocation of the router."
  type        = number
  default     = 2000
  nullable    = false

  validation {
    condition     = var.router_batch_size >= 1 && var.router_batch_size <= 10000
    error_message = "Lambda takes 1 to 10000 records of a stream at once."
  }
}

variable "router_batch_window_seconds" {
  description = "Longest wait for a batch to fill: longer means fewer requests and later readings."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.router_batch_window_seconds >= 0 && var.router_batch_window_seconds <= 300
    error_message = "Lambda waits 0 to 300 seconds for a batch."
  }
}

variable "router_max_record_age_seconds" {
  description = "Age after which records that still can't be passed on go whole to the failure bucket; null is two hours before the stream would forget them."
  type        = number
  default     = null

  validation {
    # A record that outlives the stream's retention leaves nothing behind.
    condition     = var.router_max_record_age_seconds == null || try(var.router_max_record_age_seconds >= 60 && var.router_max_record_age_seconds <= min(604800, var.kinesis_retention_hours * 3600 - 3600), false)
    error_message = "Set 60 to 604800 seconds, and at least an hour less than kinesis_retention_hours, or null: records that the stream forgets first are lost."
  }
}

variable "registry_cache_seconds" {
  description = "Longest time that the router works by what it read of the registry before it looks again."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.registry_cache_seconds >= 0 && var.registry_cache_seconds <= 60 && floor(var.registry_cache_seconds) == var.registry_cache_seconds
    error_message = "Let the router remember for 0 to 60 whole seconds: retired queues are deleted on the strength of it."
  }
}

variable "failed_records_days" {
  description = "Days that the failure bucket keeps what it holds."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.failed_records_days >= 1
    error_message = "Keep failed records for at least 1 day."
  }
}

variable "unregistered" {
  description = "What happens to readings of unknown Things: `hold` keeps them until the Thing is known, `drop` counts and drops them."
  type        = string
  default     = "hold"
  nullable    = false

  validation {
    condition     = contains(["hold", "drop"], var.unregistered)
    error_message = "Choose hold or drop."
  }
}

variable "held" {
  description = "Bounds of the held store: days that a reading is kept, and how many a day for one Thing and in all, for each state (unrouted, parked, rejected) by itself."
  type = object({
    days              = optional(number, 14)
    per_thing_per_day = optional(number, 1000)
    per_day           = optional(number, 1000000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for bound in values(var.held) : bound >= 1 && floor(bound) == bound]) && var.held.days <= 365 && var.held.per_thing_per_day <= 1000000000 && var.held.per_day <= 1000000000000
    error_message = "Keep held readings for 1 to 365 days, at most 1000000000 a day for one Thing and 1000000000000 in all; every bound is a whole number from 1 on."
  }
}

# Slots and discovery

variable "things_per_slot" {
  description = "Things that one connector serves."
  type        = number
  default     = 1000
  nullable    = false

  validation {
    condition     = var.things_per_slot >= 1 && var.things_per_slot <= 10000 && floor(var.things_per_slot) == var.things_per_slot
    error_message = "Give 1 to 10000 Things to a slot."
  }
}

variable "lanes_per_slot" {
  description = "Lanes (FIFO message groups) of a new slot's queue. Slots that exist keep theirs, since changing it would reorder readings."
  type        = number
  default     = 8
  nullable    = false

  validation {
    condition     = var.lanes_per_slot >= 1 && var.lanes_per_slot <= 100 && floor(var.lanes_per_slot) == var.lanes_per_slot
    error_message = "Give a slot 1 to 100 lanes."
  }
}

variable "discovery_schedule" {
  description = "When discovery runs by itself: a rate() or cron() expression of EventBridge Scheduler."
  type = object({
    expression = optional(string, "rate(1 hour)")
    enabled    = optional(bool, true)
  })
  default  = {}
  nullable = false

  validation {
    condition     = can(regex("^(rate|cron)\\(.+\\)$", var.discovery_schedule.expression))
    error_message = "Write the expression as rate(1 hour) or cron(0 * * * ? *)."
  }
}

variable "watch_timings" {
  description = "How long the watch function waits, in seconds: until a slot without Things begins to go, for routers to forget it, between readings of its queue; and until a slot that nobody serves gets a new connector."
  type = object({
    retire_after_seconds  = optional(number, 7200)
    retire_drain_seconds  = optional(number, 900)
    retire_pause_seconds  = optional(number, 55)
    restart_after_seconds = optional(number, 120)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for seconds in values(var.watch_timings) : seconds >= 0 && floor(seconds) == seconds && seconds <= 1000000]) && var.watch_timings.restart_after_seconds >= 1
    error_message = "Give whole seconds up to 1000000 to each of watch_timings, and restart_after_seconds at least 1."
  }
  validation {
    condition     = var.watch_timings.retire_drain_seconds >= var.registry_cache_seconds
    error_message = "Routers remember a slot for registry_cache_seconds: set retire_drain_seconds to that or more."
  }
}

variable "fetch_concurrency" {
  description = "Requests to ThingWorx that one fetcher keeps in flight; up to 8 fetchers run at once."
  type        = number
  default     = 16
  nullable    = false

  validation {
    condition     = var.fetch_concurrency >= 1 && var.fetch_concurrency <= 100 && floor(var.fetch_concurrency) == var.fetch_concurrency
    error_message = "Give 1 to 100 requests in flight."
  }
}

variable "fetch_per_second" {
  description = "Requests per second that a discovery run makes to ThingWorx at most, all fetchers together; 0 for no limit. While ThingWorx answers that it is busy, a run goes slower by itself."
  type        = number
  default     = 1000
  nullable    = false

  validation {
    condition     = var.fetch_per_second >= 0 && var.fetch_per_second <= 100000 && floor(var.fetch_per_second) == var.fetch_per_second
    error_message = "Give 0 to 100000 whole requests per second."
  }
}

variable "removal_limit_percent" {
  description = "A discovery run that finds more than this share of the Things served gone removes none of them, since a mistake in ThingWorx or in thing_tag is likelier; it says so in its report. The run's input allow_removals overrides it."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.removal_limit_percent >= 0 && var.removal_limit_percent <= 100 && floor(var.removal_limit_percent) == var.removal_limit_percent
    error_message = "Give 0 to 100 whole percent."
  }
}

# Connector

variable "connector_timings" {
  description = "How long a connector lives and how it is watched, in seconds. The defaults suit AWS; shorter ones show many hand-overs in little time."
  type = object({
    lifetime_seconds            = optional(number, 900)
    handover_before_end_seconds = optional(number, 180)
    handover_jitter_seconds     = optional(number, 60)
    beat_seconds                = optional(number, 10)
    heartbeat_seconds           = optional(number, 45)
    lease_seconds               = optional(number, 30)
    visibility_seconds          = optional(number, 60)
    thing_retry_seconds         = optional(number, 60)
    stall_seconds               = optional(number, 300)
    unbind_delay_seconds        = optional(number, 5)
    back_off_seconds            = optional(list(number), [5, 15, 60])
    turns_per_execution         = optional(number, 100)
    seconds_per_execution       = optional(number, 86400)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.connector_timings.lifetime_seconds <= 900
    error_message = "Lambda ends a function after 900 seconds: set lifetime_seconds to 900 or less."
  }
  validation {
    condition     = var.connector_timings.handover_before_end_seconds + var.connector_timings.handover_jitter_seconds < var.connector_timings.lifetime_seconds
    error_message = "The hand-over must begin within the lifetime: keep handover_before_end_seconds + handover_jitter_seconds below lifetime_seconds."
  }
  validation {
    condition     = var.connector_timings.beat_seconds * 2 < var.connector_timings.heartbeat_seconds
    error_message = "One lost beat must not count as a dead connector: keep heartbeat_seconds above twice beat_seconds."
  }
  validation {
    condition     = var.connector_timings.lease_seconds >= 3
    error_message = "A lease is renewed three times in its length: set lease_seconds to 3 or more."
  }
  validation {
    condition     = var.connector_timings.lease_seconds <= var.connector_timings.heartbeat_seconds
    error_message = "The slot of a connector that died is free when its lease has ended: keep lease_seconds at or below heartbeat_seconds, after which its successor is started."
  }
  validation {
    condition     = var.connector_timings.heartbeat_seconds <= var.connector_timings.lifetime_seconds
    error_message = "A connector is to beat while it lives: keep heartbeat_seconds at or below lifetime_seconds."
  }
  validation {
    condition = alltrue([
      for seconds in [
        var.connector_timings.lifetime_seconds,
        var.connector_timings.heartbeat_seconds,
        var.connector_timings.visibility_seconds,
        var.connector_timings.seconds_per_execution,
        var.connector_timings.handover_jitter_seconds + 1, # may be 0
      ] : seconds >= 1 && floor(seconds) == seconds
    ])
    error_message = "Give whole seconds to lifetime_seconds, heartbeat_seconds, visibility_seconds, seconds_per_execution (from 1 on) and handover_jitter_seconds (from 0 on)."
  }
  validation {
    condition = alltrue([
      for seconds in [
        var.connector_timings.handover_before_end_seconds,
        var.connector_timings.beat_seconds,
        var.connector_timings.lease_seconds,
        var.connector_timings.thing_retry_seconds,
        var.connector_timings.unbind_delay_seconds,
      ] : seconds > 0
    ])
    error_message = "Set handover_before_end_seconds, beat_seconds, lease_seconds, thing_retry_seconds and unbind_delay_seconds to more than 0."
  }
  validation {
    condition     = var.connector_timings.stall_seconds >= 60
    error_message = "A connector must outwait its own calls to ThingWorx: set stall_seconds to 60 or more."
  }
  validation {
    condition     = var.connector_timings.visibility_seconds <= 43200 && var.connector_timings.handover_jitter_seconds <= 600
    error_message = "SQS hides a message for at most 43200 seconds (visibility_seconds), and a hand-over is spread over at most 600 (handover_jitter_seconds)."
  }
  validation {
    condition     = length(var.connector_timings.back_off_seconds) > 0 && alltrue([for step in var.connector_timings.back_off_seconds : step >= 1 && floor(step) == step])
    error_message = "Give at least one back-off step, in whole seconds from 1 on."
  }
  validation {
    # About ten events a turn, in a history of 25,000.
    condition     = var.connector_timings.turns_per_execution >= 1 && var.connector_timings.turns_per_execution <= 1000 && floor(var.connector_timings.turns_per_execution) == var.connector_timings.turns_per_execution
    error_message = "Continue as a new execution after 1 to 1000 turns: the history of an execution is full at 25,000 events."
  }
}

variable "connector_reserved_concurrency" {
  description = "Concurrency reserved for connectors; null reserves none. A hand-over needs two a slot, and every unit is taken from the account's own limit (new accounts have as little as 10)."
  type        = number
  default     = null

  validation {
    condition     = var.connector_reserved_concurrency == null || try(var.connector_reserved_concurrency >= 2 && floor(var.connector_reserved_concurrency) == var.connector_reserved_concurrency, false)
    error_message = "Reserve a whole number of at least 2 (two a slot while it is handed over), or null."
  }
}

variable "delivery" {
  description = "How connectors talk to ThingWorx: `alwayson`, its protocol for devices, or `rest`, which shows no Thing as connected and takes no writes back."
  type        = string
  default     = "alwayson"
  nullable    = false

  validation {
    condition     = contains(["alwayson", "rest"], var.delivery)
    error_message = "Choose alwayson or rest."
  }
}

variable "bind" {
  description = "Which Things ThingWorx shows as connected over AlwaysOn: `presence`, those whose devices are connected to AWS IoT Core or have spoken since they left, or `always`, all of them."
  type        = string
  default     = "presence"
  nullable    = false

  validation {
    condition     = contains(["presence", "always"], var.bind)
    error_message = "Choose presence or always."
  }
}

variable "presence_silence_seconds" {
  description = "With `bind = \"presence\"`: a Thing from which nothing came for so long is shown as not connected until its next reading; 0 waits for ever."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.presence_silence_seconds >= 0 && var.presence_silence_seconds <= 10000000 && floor(var.presence_silence_seconds) == var.presence_silence_seconds
    error_message = "Give whole seconds, at most 10000000, or 0 for no limit."
  }
}

variable "presence_property" {
  description = "With `bind = \"presence\"`: name of a BOOLEAN property to which presence is written as well, on Things that have it; null writes none."
  type        = string
  default     = null

  validation {
    condition     = try(length(trimspace(var.presence_property)) > 0, var.presence_property == null)
    error_message = "Name a property, or null."
  }
}

variable "alwayson_timeouts" {
  description = "Time-outs of the AlwaysOn session in seconds, by name: auth, bind, request, sync, ready, ping, pong and more, see docs/reference/alwayson-session.md. Those not named keep their defaults."
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for seconds in values(var.alwayson_timeouts) : seconds > 0])
    error_message = "Set each of alwayson_timeouts to more than 0 seconds."
  }
}

variable "honour_push_type" {
  description = "Send a property only as its remote binding asks for (always, on a change, never); false sends every value."
  type        = bool
  default     = true
  nullable    = false
}

variable "shadow_name" {
  description = "Named shadow that takes what is written to a property in ThingWorx; null takes the classic shadow."
  type        = string
  default     = null

  validation {
    condition     = var.shadow_name == null || can(regex("^[a-zA-Z0-9:_-]{1,64}$", var.shadow_name))
    error_message = "Write shadow_name with 1 to 64 letters, digits, colons, underscores and hyphens."
  }
}

variable "shadow_section" {
  description = "Part of the shadow that takes property writes: desired gives the device a delta; reported claims that the device has the value already."
  type        = string
  default     = "desired"
  nullable    = false

  validation {
    condition     = contains(["desired", "reported"], var.shadow_section)
    error_message = "Set shadow_section to desired or reported."
  }
}

variable "echo_writes" {
  description = "Push a written value back once the shadow has taken it, so that ThingWorx shows it; false leaves that to the device's next reading."
  type        = bool
  default     = true
  nullable    = false
}

variable "write_deadline_ms" {
  description = "Milliseconds after which ThingWorx is answered a property write at the latest, with an error where AWS IoT has not confirmed it."
  type        = number
  default     = 5000
  nullable    = false

  validation {
    condition     = var.write_deadline_ms >= 500 && var.write_deadline_ms <= 60000 && floor(var.write_deadline_ms) == var.write_deadline_ms
    error_message = "Set write_deadline_ms to a whole number from 500 to 60000."
  }
}

variable "max_writes_per_second" {
  description = "Property writes a second that all connectors together send to ThingWorx at most, shared out evenly to the slots; 0 sets no limit. What waited in the queues during an outage comes back at this speed."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.max_writes_per_second >= 0 && var.max_writes_per_second <= 1000000000 && floor(var.max_writes_per_second) == var.max_writes_per_second
    error_message = "Give a whole number of writes a second, or 0 for no limit."
  }
}

variable "delivery_concurrency" {
  description = "Writes to ThingWorx that one connector keeps in flight, one a Thing: with answers after 20 ms, 64 are about 3,000 Things a second. Over REST each takes a connection and a thread of its web server."
  type        = number
  default     = 64
  nullable    = false

  validation {
    condition     = var.delivery_concurrency >= 1 && var.delivery_concurrency <= 256 && floor(var.delivery_concurrency) == var.delivery_concurrency
    error_message = "Give 1 to 256 writes in flight."
  }
}

# Alarms

variable "alarm_emails" {
  description = "Addresses that alarms are mailed to. AWS asks each of them once to confirm; until then it gets nothing."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^\\s@]+@[^\\s@]+\\.[^\\s@]+$", address))])
    error_message = "Write each of alarm_emails as a mail address, for example operations@example.com."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics of your own, in the stack's region, that alarms go to as well; one that is encrypted needs a key that lets cloudwatch.amazonaws.com use it."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[^:]+:sns:[^:]+:[0-9]{12}:[A-Za-z0-9_-]+$", arn))])
    error_message = "Give each of alarm_topic_arns as the ARN of a topic (arn:aws:sns:REGION:ACCOUNT:NAME), not its name and not a subscription's ARN."
  }
  validation {
    condition     = length(var.alarm_topic_arns) <= 4
    error_message = "An alarm has five actions at most, one of which is the stack's own topic: name up to four topics."
  }
}

variable "alarm_thresholds" {
  description = "From where on alarms are given: seconds that readings wait in the stream, seconds that messages wait in a slot's queue, and readings held in an hour."
  type = object({
    router_late_seconds = optional(number, 600)
    message_age_seconds = optional(number, 3600)
    held_per_hour       = optional(number, 1000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alarm_thresholds.router_late_seconds >= 10 && var.alarm_thresholds.router_late_seconds <= var.kinesis_retention_hours * 1800
    error_message = "Set alarm_thresholds.router_late_seconds to 10 seconds or more, and to no more than half of kinesis_retention_hours: later, there is little time left."
  }
  validation {
    condition     = var.alarm_thresholds.message_age_seconds >= 60 && var.alarm_thresholds.message_age_seconds <= 604800
    error_message = "Set alarm_thresholds.message_age_seconds to 60 to 604800 seconds (a week): SQS deletes messages after two."
  }
  validation {
    condition     = var.alarm_thresholds.held_per_hour >= 0
    error_message = "Set alarm_thresholds.held_per_hour to 0 or more readings an hour."
  }
}

# Sizes of the functions

variable "router_memory_mb" {
  description = "Memory of the router."
  type        = number
  default     = 768
  nullable    = false

  validation {
    condition     = var.router_memory_mb >= 128 && var.router_memory_mb <= 10240 && floor(var.router_memory_mb) == var.router_memory_mb
    error_message = "Lambda gives a function 128 to 10240 MB, in whole ones."
  }
}

variable "router_timeout_seconds" {
  description = "Time-out of the router."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.router_timeout_seconds >= 1 && var.router_timeout_seconds <= 300 && floor(var.router_timeout_seconds) == var.router_timeout_seconds
    error_message = "Give 1 to 300 whole seconds: readings held at the end of a longer batch would not be found when their Thing becomes known."
  }
}

variable "fetcher_memory_mb" {
  description = "Memory of the fetcher."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.fetcher_memory_mb >= 128 && var.fetcher_memory_mb <= 10240 && floor(var.fetcher_memory_mb) == var.fetcher_memory_mb
    error_message = "Lambda gives a function 128 to 10240 MB, in whole ones."
  }
}

variable "fetcher_timeout_seconds" {
  description = "Time-out of the fetcher."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.fetcher_timeout_seconds >= 1 && var.fetcher_timeout_seconds <= 900 && floor(var.fetcher_timeout_seconds) == var.fetcher_timeout_seconds
    error_message = "Give 1 to 900 whole seconds: Lambda ends a function after 900."
  }
}

variable "assigner_memory_mb" {
  description = "Memory of the assigner."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.assigner_memory_mb >= 128 && var.assigner_memory_mb <= 10240 && floor(var.assigner_memory_mb) == var.assigner_memory_mb
    error_message = "Lambda gives a function 128 to 10240 MB, in whole ones."
  }
}

variable "assigner_timeout_seconds" {
  description = "Time-out of the assigner."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.assigner_timeout_seconds >= 1 && var.assigner_timeout_seconds <= 900 && floor(var.assigner_timeout_seconds) == var.assigner_timeout_seconds
    error_message = "Give 1 to 900 whole seconds: Lambda ends a function after 900."
  }
}

variable "scaler_memory_mb" {
  description = "Memory of the scaler."
  type        = number
  default     = 256
  nullable    = false

  validation {
    condition     = var.scaler_memory_mb >= 128 && var.scaler_memory_mb <= 10240 && floor(var.scaler_memory_mb) == var.scaler_memory_mb
    error_message = "Lambda gives a function 128 to 10240 MB, in whole ones."
  }
}

variable "scaler_timeout_seconds" {
  description = "Time-out of the scaler."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.scaler_timeout_seconds >= 90 && var.scaler_timeout_seconds <= 900 && floor(var.scaler_timeout_seconds) == var.scaler_timeout_seconds
    error_message = "Give 90 to 900 whole seconds: Lambda ends a function after 900; destroying the stack takes the scaler up to a minute."
  }
}

variable "watch_memory_mb" {
  description = "Memory of the watch function."
  type        = number
  default     = 256
  nullable    = false

  validation {
    condition     = var.watch_memory_mb >= 128 && var.watch_memory_mb <= 10240 && floor(var.watch_memory_mb) == var.watch_memory_mb
    error_message = "Lambda gives a function 128 to 10240 MB, in whole ones."
  }
}

variable "connector_memory_mb" {
  description = "Memory of a connector."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.connector_memory_mb >= 128 && var.connector_memory_mb <= 10240 && floor(var.connector_memory_mb) == var.connector_memory_mb
    error_message = "Lambda gives a function 128 to 10240 MB, in whole ones."
  }
}
