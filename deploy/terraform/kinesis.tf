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

  read_stream = {
    Sid    = "ReadStream"
    Effect = "Allow"
    Action = [
      "kinesis:DescribeStreamSummary", "kinesis:ListShards", "kinesis:GetShardIterator", "kinesis:GetRecords"
    ]
    Resource = local.stream_arn
  }
  list_shared = merge(local.listing, {
    Sid       = "ListShared"
    Condition = { StringLike = { "s3:prefix" = ["${local.root_pattern}.ingestd/*", "${local.root_pattern}.members/*"] } }
  })
  # The statements of deploy/iam/kinesis-policy.json, kinesis-verify-policy.json and kinesis-requeue-policy.json.
  kinesis_statements = {
    daemon = [
      local.read_stream,
      {
        Sid      = "TellOthersThatItLives"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:GetObject"]
        Resource = "${local.objects}.members/*"
      },
      local.list_shared,
    ]
    verify = [
      local.read_stream,
      {
        Sid      = "ReadWhatDaemonsShare"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = ["${local.objects}.ingestd/*", "${local.objects}.members/*"]
      },
      local.list_shared,
    ]
    requeue = [{ Sid = "PutRecordsBack", Effect = "Allow", Action = "kinesis:PutRecords", Resource = local.stream_arn }]
  }
}
