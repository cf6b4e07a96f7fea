# A stream that ingestd reads: made here, or one that exists (arn).
resource "aws_kinesis_stream" "events" {
  count = var.kinesis == null || try(var.kinesis.arn, null) != null ? 0 : 1

  name = "${var.name}-events"
  # null: on demand, where AWS splits and merges shards by itself; ingestd follows.
  shard_count      = var.kinesis.shards
  retention_period = var.topic_retention_days * 24
  encryption_type  = "KMS"
  kms_key_id       = local.key_arn
  tags             = var.tags

  # A consumer that goes on where it was must find what it has read, so a stream is never replaced by accident.
  enforce_consumer_deletion = false

  stream_mode_details {
    stream_mode = var.kinesis.shards == null ? "ON_DEMAND" : "PROVISIONED"
  }

  lifecycle {
    prevent_destroy = true
  }
}

locals {
  stream_arn = var.kinesis == null ? null : coalesce(var.kinesis.arn, one(aws_kinesis_stream.events[*].arn), "unknown")

  # The policy of deploy/iam/kinesis-policy.json with these names.
  kinesis_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "ReadStream"
        Effect = "Allow"
        Action = [
          "kinesis:DescribeStreamSummary", "kinesis:ListShards", "kinesis:GetShardIterator", "kinesis:GetRecords"
        ]
        Resource = local.stream_arn
      },
      {
        Sid      = "TellOthersThatItLives"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:GetObject"]
        Resource = "${local.objects}.members/*"
      },
      merge(local.listing, {
        Sid       = "ListShared"
        Condition = { StringLike = { "s3:prefix" = ["${local.root_pattern}.ingestd/*", "${local.root_pattern}.members/*"] } }
      }),
    ]
  }
  decrypting_stream = merge(local.use_of_key, {
    Sid       = "DecryptStream"
    Action    = "kms:Decrypt"
    Condition = { StringEquals = { "kms:ViaService" = "kinesis.${var.region}.${local.domain}" } }
  })
}

resource "aws_iam_role_policy" "kinesis" {
  count = var.kinesis == null ? 0 : 1

  name   = "stream"
  role   = aws_iam_role.daemon.id
  policy = jsonencode(merge(local.kinesis_policy, { Statement = concat(local.kinesis_policy.Statement, [local.decrypting_stream]) }))
}
