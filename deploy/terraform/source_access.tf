# Rights to the stream and the queue that are given: of the daemon's role, and in the policies for the commands.
locals {
  # The key of a stream or a queue, by way of its service.
  key_of = {
    for service in ["kinesis", "sqs"] : service => merge(local.use_of_key, {
      Sid       = "UseKeyThrough${title(service)}"
      Condition = { StringEquals = { "kms:ViaService" = "${service}.${var.region}.${local.domain}" } }
    })
  }
  reading_key_of = { for service, it in local.key_of : service => merge(it, { Action = "kms:Decrypt" }) }

  kinesis_given = [for it in [var.kinesis] : "kinesis" if it != null]
  sqs_given     = [for it in [var.sqs] : "sqs" if it != null]

  daemon_of_source = {
    kinesis = concat(local.kinesis_statements.daemon, [local.reading_key_of.kinesis])
    sqs     = concat(local.sqs_statements.daemon, [local.reading_key_of.sqs])
  }
  # `verify` reads no message: a queue's key is of no use to it.
  verify_of_sources = concat(
    flatten([for it in local.kinesis_given : [local.kinesis_statements.verify, local.reading_key_of.kinesis]]),
    flatten([for it in local.sqs_given : local.sqs_statements.verify]),
  )
  requeue_of_sources = concat(
    flatten([for it in local.kinesis_given : [local.kinesis_statements.requeue, local.key_of.kinesis]]),
    flatten([for it in local.sqs_given : [local.sqs_statements.requeue, local.key_of.sqs]]),
  )
}

resource "aws_iam_role_policy" "source" {
  for_each = toset(concat(local.kinesis_given, local.sqs_given))

  name   = each.key
  role   = aws_iam_role.daemon.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.daemon_of_source[each.key] })
}
