locals {
  role_arns = "arn:${var.partition}:iam::${var.account}:role"
}

output "daemon_role_arn" {
  description = "ARN of the daemon's role, for the service account's annotation, the instance profile or the task."
  value       = aws_iam_role.daemon.arn
}

output "objects_topic_arn" {
  description = "With fan_out: AWS_SNS_TOPIC of the pipe."
  value       = one(aws_sns_topic.objects[*].arn)
}

output "verify_policy_arn" {
  description = "Attach it to the users of ingestd verify."
  value       = aws_iam_policy.verify.arn
}

output "requeue_policy_arn" {
  description = "Attach it to the users of ingestd requeue."
  value       = aws_iam_policy.requeue.arn
}

output "bootstrap_servers" {
  description = "With msk: for kafka.bootstrap_servers."
  value       = one(aws_msk_cluster.kafka[*].bootstrap_brokers_sasl_scram)
}

output "bootstrap_servers_iam" {
  description = "With msk and its iam: for kafka.bootstrap_servers, with kafka.sasl_mechanism = AWS_MSK_IAM."
  value       = one(aws_msk_cluster.kafka[*].bootstrap_brokers_sasl_iam)
}

output "configuration" {
  description = "Put it into ingestd's configuration file."
  value       = <<-EOT
    %{~if var.kinesis != null~}
    source = "kinesis"

    [kinesis]
    stream = "${element(split("/", local.stream_arn), 1)}"
    region = "${var.region}"

    %{~endif~}
    %{~if var.kinesis == null && var.sqs != null~}
    source = "sqs"

    [sqs]
    queue_url = "https://sqs.${var.region}.${local.domain}/${element(split(":", local.queue_arn), 4)}/${element(split(":", local.queue_arn), 5)}"
    region = "${var.region}"

    %{~endif~}
    [sink]
    url = "s3://${trimsuffix("${var.bucket}/${var.prefix}", "/")}"
    delivery = "${var.delivery}"
    %{~if var.lineage != null~}

    lineage = "${var.lineage}"
    %{~endif~}

    [s3]
    region = "${var.region}"
    encryption = "none"  # the bucket's default, which is its key

    [snowflake]
    aws_role_arn = "${local.role_arns}/${var.name}-snowflake"
    error_topic_arn = "${local.errors_arn}"
  EOT
}
