# The policies of deploy/iam with this bucket's names. The tests compare the two, and compare deploy/iam with real calls.
locals {
  listing = {
    Sid      = "ListAndTellMissingFromForbidden"
    Effect   = "Allow"
    Action   = "s3:ListBucket"
    Resource = local.bucket_arn
  }
  use_of_key = {
    Sid       = "EncryptAndDecryptThroughS3Only"
    Effect    = "Allow"
    Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
    Resource  = local.key_arn
    Condition = { StringEquals = { "kms:ViaService" = "s3.${var.region}.${local.domain}" } }
  }
  reading_with_key = merge(local.use_of_key, { Sid = "DecryptThroughS3Only", Action = "kms:Decrypt" })

  daemon_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Write"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = ["${local.objects}events/*", "${local.objects}quarantine/*", "${local.objects}.ingestd/*"]
      },
      {
        Sid      = "Adopt"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = ["${local.objects}events/*", "${local.objects}.ingestd/*"]
      },
      merge(local.listing, {
        Condition = { StringLike = { "s3:prefix" = ["${local.root_pattern}events/*", "${local.root_pattern}quarantine/*"] } }
      }),
      local.use_of_key,
    ]
  }

  verify_policy = {
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = ["${local.objects}events/*", "${local.objects}quarantine/*"]
      },
      merge(local.listing, {
        Condition = { StringLike = { "s3:prefix" = ["${local.root_pattern}events/*", "${local.root_pattern}quarantine/*"] } }
      }),
      local.reading_with_key,
    ], local.verify_of_sources)
  }

  requeue_policy = {
    Version = "2012-10-17"
    Statement = concat([
      {
        Sid      = "Read"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = [for folder in ["events", "quarantine", "requeued"] : "${local.objects}${folder}/*"]
      },
      {
        Sid      = "NoteWhatWasRequeued"
        Effect   = "Allow"
        Action   = "s3:PutObject"
        Resource = "${local.objects}requeued/*"
      },
      merge(local.listing, {
        Condition = {
          StringLike = { "s3:prefix" = [for folder in ["events", "quarantine", "requeued"] : "${local.root_pattern}${folder}/*"] }
        }
      }),
      local.use_of_key,
    ], local.requeue_of_sources)
  }
}

resource "aws_iam_role" "daemon" {
  name        = "${var.name}-daemon"
  description = "Writes objects into ${var.bucket}"
  tags        = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [for service in var.daemon_services : {
        Effect    = "Allow"
        Principal = { Service = service }
        # EKS Pod Identity names the pod in the session's tags, and fails without this right.
        Action = service == "pods.eks.amazonaws.com" ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]
      }],
      var.daemon_oidc == null ? [] : [{
        Effect    = "Allow"
        Principal = { Federated = var.daemon_oidc.provider_arn }
        Action    = ["sts:AssumeRoleWithWebIdentity"]
        Condition = {
          StringEquals = {
            "${var.daemon_oidc.issuer}:aud" = "sts.${local.domain}"
            "${var.daemon_oidc.issuer}:sub" = "system:serviceaccount:${var.daemon_oidc.namespace}:${var.daemon_oidc.service_account}"
          }
        }
      }],
    )
  })
}

resource "aws_iam_role_policy" "daemon" {
  name   = "objects"
  role   = aws_iam_role.daemon.id
  policy = jsonencode(local.daemon_policy)
}

# For people or jobs that run these commands.
resource "aws_iam_policy" "verify" {
  name        = "${var.name}-verify"
  description = "ingestd verify on ${var.bucket}"
  policy      = jsonencode(local.verify_policy)
  tags        = var.tags
}

resource "aws_iam_policy" "requeue" {
  name        = "${var.name}-requeue"
  description = "ingestd requeue on ${var.bucket}"
  policy      = jsonencode(local.requeue_policy)
  tags        = var.tags
}
