resource "aws_s3_bucket" "objects" {
  bucket        = var.bucket
  force_destroy = false
  tags          = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "objects" {
  bucket                  = aws_s3_bucket.objects.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "objects" {
  bucket = aws_s3_bucket.objects.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_versioning" "objects" {
  bucket = aws_s3_bucket.objects.id

  versioning_configuration {
    # A bucket that ever had versioning cannot go back to Disabled.
    status = var.versioning ? "Enabled" : "Suspended"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "objects" {
  bucket = aws_s3_bucket.objects.id

  rule {
    # Without a bucket key, every PUT and GET is a paid call to KMS.
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = local.key_arn
    }
  }
}

locals {
  written_once = {
    Sid       = "EachNameIsWrittenOnce"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:PutObject"
    Resource  = [for folder in ["events", "quarantine", ".ingestd", "requeued"] : "${local.objects}${folder}/*"]
    Condition = { Null = { "s3:if-none-match" = "true" } }
  }
  encrypted_transport = {
    Sid       = "OnlyOverTLS"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }
}

resource "aws_s3_bucket_policy" "objects" {
  bucket = aws_s3_bucket.objects.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(var.delivery == "exactly-once" ? [local.written_once] : [], [local.encrypted_transport])
  })

  # If two changes of a bucket's access run at the same time, S3 answers one with OperationAborted.
  depends_on = [aws_s3_bucket_public_access_block.objects]
}

resource "aws_s3_bucket_lifecycle_configuration" "objects" {
  bucket = aws_s3_bucket.objects.id

  # Not for requeued/ and .ingestd/: receipts of requeued records are small, and must outlive the quarantine.
  # Versions expire even if versioning is off now: there may be some from before.
  rule {
    id     = "EventsExpire"
    status = "Enabled"

    filter {
      prefix = "${local.root}events/"
    }

    expiration {
      days = var.kept_days
    }

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }
  }

  rule {
    id     = "QuarantinedExpire"
    status = "Enabled"

    filter {
      prefix = "${local.root}quarantine/"
    }

    expiration {
      days = var.kept_days
    }

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }
  }

  # ingestd makes no multipart uploads; unfinished ones of others cost money until they are aborted.
  rule {
    id     = "PartsAreAborted"
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  # AWS requires this order if rules concern versions.
  depends_on = [aws_s3_bucket_versioning.objects]
}
