variable "bucket" {
  description = "Name of the bucket to create."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket must be 3 to 63 small letters, digits and '-'; a '.' breaks TLS."
  }
}

variable "region" {
  description = "AWS region of the bucket, as in s3.region."
  type        = string
}

variable "account" {
  description = "AWS account; needed for ARNs of resources that do not exist yet."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account))
    error_message = "account must be 12 digits."
  }
}

variable "partition" {
  description = "AWS partition: aws, aws-cn or aws-us-gov."
  type        = string
  default     = "aws"

  validation {
    condition     = contains(["aws", "aws-cn", "aws-us-gov"], var.partition)
    error_message = "partition must be aws, aws-cn or aws-us-gov."
  }
}

variable "prefix" {
  description = "Prefix of all object names, as in sink.url after the bucket: \"\" or \"team/marketing\"."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == trim(var.prefix, "/")
    error_message = "prefix must neither begin nor end with '/'."
  }
}

variable "lineage" {
  description = "As in sink.lineage: Snowflake reads this lineage only. null is the first one."
  type        = string
  default     = null

  validation {
    condition     = var.lineage == null || can(regex("^[A-Za-z0-9._-]{1,249}$", var.lineage))
    error_message = "lineage must be at most 249 letters, digits, '.', '_' and '-'."
  }
}

variable "delivery" {
  description = "As in sink.delivery. With at-least-once the bucket policy does not require If-None-Match."
  type        = string
  default     = "exactly-once"

  validation {
    condition     = contains(["exactly-once", "at-least-once"], var.delivery)
    error_message = "delivery must be exactly-once or at-least-once."
  }
}

variable "kept_days" {
  description = "Days after which data and quarantine objects expire. If that is too early, the chain breaks."
  type        = number
  default     = 400

  validation {
    condition     = var.kept_days > max(14, var.topic_retention_days, var.rewind_days)
    error_message = "kept_days must be more than 14 (Snowpipe's memory), topic_retention_days and rewind_days."
  }
}

variable "topic_retention_days" {
  description = "Longest retention of the topics, in days. With msk it is also the cluster's retention."
  type        = number
  default     = 7

  validation {
    condition     = var.topic_retention_days > 0
    error_message = "topic_retention_days must be more than 0; a topic that keeps all for ever needs objects that never expire."
  }
}

variable "rewind_days" {
  description = "Days that the consumer group may ever be reset back."
  type        = number
  default     = 30

  validation {
    condition     = var.rewind_days >= 0
    error_message = "rewind_days must not be negative."
  }
}

variable "versioning" {
  description = "Keep deleted objects for noncurrent_days; ingestd itself never makes a second version."
  type        = bool
  default     = true
}

variable "noncurrent_days" {
  description = "With versioning: days in which a deleted or expired object can be restored."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days must be at least 1."
  }
}

variable "kms_key_arn" {
  description = "ARN of your own KMS key for the bucket; null creates one. Yours must allow the roles, and with fan_out S3, to use it."
  type        = string
  default     = null
}

variable "daemon_oidc" {
  description = "IRSA: the service account in Kubernetes that may assume the daemon's role; issuer without https://."
  type = object({
    provider_arn    = string
    issuer          = string
    namespace       = string
    service_account = string
  })
  default = null

  validation {
    condition     = var.daemon_oidc != null || length(var.daemon_services) > 0
    error_message = "somebody must run the daemon: give daemon_oidc, or daemon_services such as [\"ec2.amazonaws.com\"]."
  }
}

variable "daemon_services" {
  description = "AWS services that may assume the daemon's role: ec2.amazonaws.com, ecs-tasks.amazonaws.com, pods.eks.amazonaws.com."
  type        = list(string)
  default     = []
}

variable "name" {
  description = "Prefix of the names of roles, policies, topics and the cluster."
  type        = string
  default     = "ingestd"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.name))
    error_message = "name must be at most 32 small letters, digits and '-', a letter first."
  }
}

variable "snowflake_users" {
  description = "Users that may assume Snowflake's role: ARN by external id, from the two DESC INTEGRATION. {} at first: only this account."
  type        = map(string)
  default     = {}
}

variable "snowpipe_queue_arn" {
  description = "The pipe's notification_channel. null at first: the pipe is created after the role."
  type        = string
  default     = null

  validation {
    condition     = var.snowpipe_queue_arn == null || !var.fan_out
    error_message = "S3 tells a queue or a topic of the same objects, not both: with fan_out the pipe subscribes to the topic."
  }
}

variable "fan_out" {
  description = "The bucket notifies an SNS topic, to which the pipe and others subscribe, instead of the pipe's queue."
  type        = bool
  default     = false
}

variable "fan_out_subscribers" {
  description = "With fan_out: ARNs that may subscribe queues, such as the one that SYSTEM$GET_AWS_SNS_IAM_POLICY returns."
  type        = list(string)
  default     = []
}

variable "msk" {
  description = "Creates a Kafka cluster with SASL/SCRAM over TLS. Create secrets elsewhere: here they would be in the state."
  type = object({
    vpc_id                    = string
    subnet_ids                = list(string)
    client_security_group_ids = list(string)
    scram_secret_arns         = list(string)
    iam                       = optional(bool, false) # besides SCRAM
    kafka_version             = optional(string, "3.9.x")
    instance_type             = optional(string, "kafka.m7g.large")
    volume_gib                = optional(number, 500)
  })
  default = null

  validation {
    condition     = var.msk == null || try(length(var.msk.subnet_ids) >= 3, false)
    error_message = "msk.subnet_ids must be at least 3, of as many availability zones: replicas of one record live apart."
  }
}

variable "kafka_iam" {
  description = "Rights to read topics of an MSK cluster with IAM: the one of cluster_arn, or that of msk with iam = true."
  type = object({
    cluster_arn = optional(string)
    topics      = list(string)
    group       = optional(string, "ingestd")
  })
  default = null

  validation {
    condition     = var.kafka_iam == null || try(var.kafka_iam.cluster_arn, null) == null || can(regex("^arn:aws[a-z-]*:kafka:[a-z0-9-]+:[0-9]{12}:cluster/[^/]+/[^/]+$", var.kafka_iam.cluster_arn))
    error_message = "kafka_iam.cluster_arn must be that of a cluster: arn:aws:kafka:REGION:ACCOUNT:cluster/NAME/ID."
  }
}

variable "kinesis" {
  description = "Rights to read a Kinesis stream: the one of arn, or one that is made here. shards = null: on demand."
  type = object({
    arn    = optional(string)
    shards = optional(number)
  })
  default = null

  validation {
    condition     = var.kinesis == null || try(var.kinesis.arn, null) == null || can(regex("^arn:aws[a-z-]*:kinesis:[a-z0-9-]+:[0-9]{12}:stream/[A-Za-z0-9._-]{1,128}$", var.kinesis.arn))
    error_message = "kinesis.arn must be that of a stream: arn:aws:kinesis:REGION:ACCOUNT:stream/NAME."
  }
}

variable "sqs" {
  description = "Rights to read an SQS queue: the one of arn, or one that is made here, with its dead-letter queue."
  type = object({
    arn                = optional(string)
    fifo               = optional(bool, false)
    visibility_seconds = optional(number, 600)
    max_receives       = optional(number, 50)
  })
  default = null

  validation {
    condition     = var.sqs == null || try(var.sqs.max_receives, null) == null || try(var.sqs.max_receives >= 10, false)
    error_message = "sqs.max_receives must be at least 10: every time-out of an outage counts as a receive, and moves good messages into the dead-letter queue."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
