# The daemon's rights in a Kafka cluster of MSK with IAM: the one of cluster_arn, or that of msk.
locals {
  kafka_cluster_arn = var.kafka_iam == null ? null : coalesce(var.kafka_iam.cluster_arn, one(aws_msk_cluster.kafka[*].arn), "unknown")
  # An ARN of a topic or a group is that of the cluster, with another type and the name behind it.
  kafka_topic_root = var.kafka_iam == null ? null : replace(local.kafka_cluster_arn, ":cluster/", ":topic/")
  kafka_group_root = var.kafka_iam == null ? null : replace(local.kafka_cluster_arn, ":cluster/", ":group/")

  # The policy of deploy/iam/kafka-policy.json with these names.
  kafka_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ConnectToKafka"
        Effect   = "Allow"
        Action   = "kafka-cluster:Connect"
        Resource = local.kafka_cluster_arn
      },
      {
        Sid    = "ReadTopics"
        Effect = "Allow"
        Action = [
          "kafka-cluster:DescribeTopic", "kafka-cluster:DescribeTopicDynamicConfiguration", "kafka-cluster:ReadData"
        ]
        Resource = [for topic in try(var.kafka_iam.topics, []) : "${local.kafka_topic_root}/${topic}"]
      },
      {
        Sid      = "BeMemberOfGroup"
        Effect   = "Allow"
        Action   = ["kafka-cluster:DescribeGroup", "kafka-cluster:AlterGroup"]
        Resource = "${coalesce(local.kafka_group_root, "unknown")}/${try(var.kafka_iam.group, "unknown")}"
      },
    ]
  }
}

resource "aws_iam_role_policy" "kafka" {
  count = var.kafka_iam == null ? 0 : 1

  name   = "kafka"
  role   = aws_iam_role.daemon.id
  policy = jsonencode(local.kafka_policy)
}
