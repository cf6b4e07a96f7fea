# The same names as in ingestd/core/object_keys.py and ingestd/snowflake/stage_location.py.
locals {
  root   = var.prefix == "" ? "" : "${var.prefix}/"
  events = var.lineage == null ? "${local.root}events/" : "${local.root}events/${var.lineage}/"

  # In a policy, "*" stands for any characters.
  root_pattern   = replace(local.root, "*", "$${*}")
  events_pattern = replace(local.events, "*", "$${*}")

  bucket_arn = "arn:${var.partition}:s3:::${var.bucket}"
  objects    = "${local.bucket_arn}/${local.root_pattern}"
  key_arn    = var.kms_key_arn == null ? one(aws_kms_key.bucket[*].arn) : var.kms_key_arn

  account_root = "arn:${var.partition}:iam::${var.account}:root"
  domain       = var.partition == "aws-cn" ? "amazonaws.com.cn" : "amazonaws.com"
}
