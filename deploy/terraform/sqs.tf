# A queue that ingestd reads, with its dead-letter queue: made here, or one that exists (arn).
locals {
  makes_queue = var.sqs != null && try(var.sqs.arn, null) == null
  is_fifo     = try(var.sqs.fifo, false)
  suffix      = local.is_fifo ? ".fifo" : ""
}

resource "aws_sqs_queue" "events" {
  count = local.makes_queue ? 1 : 0

  name       = "${var.name}-events${local.suffix}"
  fifo_queue = local.is_fifo ? true : null
  # The longest that SQS keeps a message: an outage of ingestd may last as long.
  message_retention_seconds  = 14 * 86400
  visibility_timeout_seconds = var.sqs.visibility_seconds
  receive_wait_time_seconds  = 20
  kms_master_key_id          = local.key_arn
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = one(aws_sqs_queue.dead_letters[*].arn)
    # Each time that a message becomes visible again counts, whatever the reason.
    maxReceiveCount = var.sqs.max_receives
  })

  lifecycle {
    prevent_destroy = true
  }
}

# ingestd sends nothing here: rejected events are in the quarantine. SQS itself does, after max_receives.
resource "aws_sqs_queue" "dead_letters" {
  count = local.makes_queue ? 1 : 0

  name                      = "${var.name}-events-dead-letters${local.suffix}"
  fifo_queue                = local.is_fifo ? true : null
  message_retention_seconds = 14 * 86400
  kms_master_key_id         = local.key_arn
  tags                      = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

locals {
  queue_arn = var.sqs == null ? null : coalesce(var.sqs.arn, one(aws_sqs_queue.events[*].arn), "unknown")

  # The policy of deploy/iam/sqs-policy.json with these names.
  sqs_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "TakeMessages"
        Effect = "Allow"
        Action = [
          "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"
        ]
        Resource = local.queue_arn
      },
      merge(local.listing, {
        Sid       = "ListManifests"
        Condition = { StringLike = { "s3:prefix" = ["${local.root_pattern}.ingestd/*"] } }
      }),
    ]
  }
  decrypting_messages = merge(local.use_of_key, {
    Sid       = "DecryptMessages"
    Action    = "kms:Decrypt"
    Condition = { StringEquals = { "kms:ViaService" = "sqs.${var.region}.${local.domain}" } }
  })
}

resource "aws_iam_role_policy" "sqs" {
  count = var.sqs == null ? 0 : 1

  name   = "queue"
  role   = aws_iam_role.daemon.id
  policy = jsonencode(merge(local.sqs_policy, { Statement = concat(local.sqs_policy.Statement, [local.decrypting_messages]) }))
}
