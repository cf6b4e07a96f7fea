resource "aws_kms_key" "bucket" {
  count = var.kms_key_arn == null ? 1 : 0

  description             = "Objects in ${var.bucket}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = var.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "ThisAccountByItsOwnPolicies"
        Effect    = "Allow"
        Principal = { AWS = local.account_root }
        Action    = "kms:*"
        Resource  = "*"
      }],
      var.fan_out ? [{
        Sid       = "S3TellsOfObjects"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = var.account } }
      }] : [],
    )
  })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "bucket" {
  count = var.kms_key_arn == null ? 1 : 0

  name          = "alias/${var.bucket}"
  target_key_id = one(aws_kms_key.bucket[*].key_id)
}
