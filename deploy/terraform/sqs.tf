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

  list_manifests = merge(local.listing, {
    Sid       = "ListManifests"
    Condition = { StringLike = { "s3:prefix" = ["${local.root_pattern}.ingestd/*"] } }
  })
  # The statements of deploy/iam/sqs-policy.json, sqs-verify-policy.json and sqs-requeue-policy.json.
  sqs_statements = {
    daemon = [
      {
        Sid    = "TakeMessages"
        Effect = "Allow"
        Action = [
          "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"
        ]
        Resource = local.queue_arn
      },
      local.list_manifests,
    ]
    verify = [
      { Sid = "ReadManifests", Effect = "Allow", Action = "s3:GetObject", Resource = "${local.objects}.ingestd/*" },
      local.list_manifests,
    ]
    requeue = [{ Sid = "SendMessagesBack", Effect = "Allow", Action = "sqs:SendMessage", Resource = local.queue_arn }]
  }
}
