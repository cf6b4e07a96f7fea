# The AWS half of the output of `ingestd snowflake sql`.
resource "aws_iam_role" "snowflake" {
  name        = "${var.name}-snowflake"
  description = "Snowflake reads data objects in ${var.bucket}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      # Snowflake creates its users only after it knows this role, and a trust policy cannot be empty.
      [for root in [local.account_root] : {
        Effect    = "Allow"
        Principal = { AWS = root }
        Action    = "sts:AssumeRole"
      } if length(var.snowflake_users) == 0],
      [for external_id, arn in var.snowflake_users : {
        Effect    = "Allow"
        Principal = { AWS = arn }
        Action    = "sts:AssumeRole"
        Condition = { StringEquals = { "sts:ExternalId" = external_id } }
      }],
    )
  })
}

resource "aws_iam_role_policy" "snowflake" {
  name = "events"
  role = aws_iam_role.snowflake.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadEvents"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource = "${local.bucket_arn}/${local.events_pattern}*"
      },
      {
        Sid       = "ListEvents"
        Effect    = "Allow"
        Action    = "s3:ListBucket"
        Resource  = local.bucket_arn
        Condition = { StringLike = { "s3:prefix" = "${local.events_pattern}*" } }
      },
      {
        Sid      = "FindBucket"
        Effect   = "Allow"
        Action   = "s3:GetBucketLocation"
        Resource = local.bucket_arn
      },
      {
        Sid      = "TellOfErrors"
        Effect   = "Allow"
        Action   = "sns:Publish"
        Resource = local.errors_arn
      },
      local.reading_with_key,
    ]
  })
}

locals {
  topics_arn  = "arn:${var.partition}:sns:${var.region}:${var.account}"
  errors_arn  = "${local.topics_arn}:${var.name}-snowpipe-errors"
  objects_arn = "${local.topics_arn}:${var.name}-objects"
}

resource "aws_sns_topic" "errors" {
  name              = "${var.name}-snowpipe-errors"
  kms_master_key_id = "alias/aws/sns"
  tags              = var.tags
}

# All notifications of the bucket: this removes rules that somebody else has added.
resource "aws_s3_bucket_notification" "objects" {
  bucket = aws_s3_bucket.objects.id

  dynamic "queue" {
    for_each = toset(var.snowpipe_queue_arn == null ? [] : [var.snowpipe_queue_arn])

    content {
      id            = "SnowpipeAutoIngest"
      queue_arn     = queue.value
      events        = ["s3:ObjectCreated:*"]
      filter_prefix = local.events
      filter_suffix = ".jsonl.gz"
    }
  }

  dynamic "topic" {
    for_each = aws_sns_topic.objects[*].arn

    content {
      id            = "SnowpipeAutoIngest"
      topic_arn     = topic.value
      events        = ["s3:ObjectCreated:*"]
      filter_prefix = local.events
      filter_suffix = ".jsonl.gz"
    }
  }

  # S3 sends a test message to the topic at once.
  depends_on = [aws_sns_topic_policy.objects]
}

resource "aws_sns_topic" "objects" {
  count = var.fan_out ? 1 : 0

  name = "${var.name}-objects"
  # Not alias/aws/sns: S3 cannot use that key.
  kms_master_key_id = local.key_arn
  tags              = var.tags
}

resource "aws_sns_topic_policy" "objects" {
  count = var.fan_out ? 1 : 0

  arn = one(aws_sns_topic.objects[*].arn)
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TheBucketTells"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = local.objects_arn
        Condition = {
          ArnEquals    = { "aws:SourceArn" = local.bucket_arn }
          StringEquals = { "aws:SourceAccount" = var.account }
        }
      }],
      length(var.fan_out_subscribers) == 0 ? [] : [{
        Sid       = "QueuesSubscribe"
        Effect    = "Allow"
        Principal = { AWS = var.fan_out_subscribers }
        Action    = "sns:Subscribe"
        Resource  = local.objects_arn
        Condition = { StringEquals = { "sns:Protocol" = "sqs" } }
      }],
    )
  })
}
