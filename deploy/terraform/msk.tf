resource "aws_msk_configuration" "kafka" {
  count = var.msk == null ? 0 : 1

  name           = "${var.name}-kafka"
  kafka_versions = [var.msk.kafka_version]
  server_properties = join("\n", [
    "auto.create.topics.enable=false",
    "default.replication.factor=3",
    "min.insync.replicas=2",
    # A leader that was not in sync has lost records, and gives their offsets to new ones.
    "unclean.leader.election.enable=false",
    "log.retention.hours=${var.topic_retention_days * 24}",
    # The group's offsets must outlive any outage; the chain of objects has them, too.
    "offsets.retention.minutes=${var.kept_days * 1440}",
  ])
}

resource "aws_security_group" "kafka" {
  count = var.msk == null ? 0 : 1

  name        = "${var.name}-kafka"
  description = "Kafka with SASL/SCRAM over TLS, from its clients only"
  vpc_id      = var.msk.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "kafka" {
  for_each = toset(var.msk == null ? [] : var.msk.client_security_group_ids)

  security_group_id            = one(aws_security_group.kafka[*].id)
  description                  = "Clients, SASL/SCRAM over TLS"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 9096
  to_port                      = 9096
}

resource "aws_vpc_security_group_ingress_rule" "kafka_iam" {
  for_each = toset(try(var.msk.iam, false) ? var.msk.client_security_group_ids : [])

  security_group_id            = one(aws_security_group.kafka[*].id)
  description                  = "Clients, IAM over TLS"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 9098
  to_port                      = 9098
}

resource "aws_cloudwatch_log_group" "kafka" {
  count = var.msk == null ? 0 : 1

  name              = "/${var.name}/kafka"
  retention_in_days = 400
  tags              = var.tags
}

resource "aws_msk_cluster" "kafka" {
  count = var.msk == null ? 0 : 1

  cluster_name           = "${var.name}-kafka"
  kafka_version          = var.msk.kafka_version
  number_of_broker_nodes = length(var.msk.subnet_ids)
  enhanced_monitoring    = "PER_TOPIC_PER_BROKER"
  tags                   = var.tags

  broker_node_group_info {
    instance_type   = var.msk.instance_type
    client_subnets  = var.msk.subnet_ids
    security_groups = aws_security_group.kafka[*].id

    storage_info {
      ebs_storage_info {
        volume_size = var.msk.volume_gib
      }
    }
  }

  client_authentication {
    unauthenticated = false

    sasl {
      scram = true
      iam   = var.msk.iam
    }
  }

  configuration_info {
    arn      = one(aws_msk_configuration.kafka[*].arn)
    revision = one(aws_msk_configuration.kafka[*].latest_revision)
  }

  encryption_info {
    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = one(aws_cloudwatch_log_group.kafka[*].name)
      }
    }
  }

  open_monitoring {
    prometheus {
      jmx_exporter {
        enabled_in_broker = true
      }
      node_exporter {
        enabled_in_broker = true
      }
    }
  }
}

resource "aws_msk_scram_secret_association" "kafka" {
  count = var.msk == null ? 0 : 1

  cluster_arn     = one(aws_msk_cluster.kafka[*].arn)
  secret_arn_list = var.msk.scram_secret_arns
}
