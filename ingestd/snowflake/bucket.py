"""AWS documents: the policy of Snowflake's role, the bucket's notification, policy and life cycle. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.config.model import S3Config
from ingestd.core.object_keys import EVENTS, OWN, QUARANTINE, REQUEUED
from ingestd.snowflake.stage_location import SUFFIX, StageLocation

NOTIFICATION = "SnowpipeAutoIngest"  # the rule's id in the guide
USER_ARN, EXTERNAL_ID = "STORAGE_AWS_IAM_USER_ARN", "STORAGE_AWS_EXTERNAL_ID"
ERRORS_USER_ARN, ERRORS_EXTERNAL_ID = "SF_AWS_IAM_USER_ARN", "SF_AWS_EXTERNAL_ID"
QUEUE_ARN = "NOTIFICATION_CHANNEL"

_VERSION = "2012-10-17"
_KEPT_DAYS = 400  # must exceed Kafka's retention and any offset reset, or the chain breaks


def role_policy(location: StageLocation, s3: S3Config, error_topic_arn: str | None) -> dict[str, Any]:
    """The permissions of the role that Snowflake assumes: read data objects, publish errors."""
    statements = [] if location.endpoint else [*_reading(location), *_decrypting(location, s3.kms_key_id)]
    if error_topic_arn:
        statements.append(
            {"Sid": "TellOfErrors", "Effect": "Allow", "Action": "sns:Publish", "Resource": error_topic_arn}
        )
    return {"Version": _VERSION, "Statement": statements}


def _decrypting(location: StageLocation, key: str | None) -> list[dict[str, Any]]:
    """Permission to decrypt; empty for S3's default key, which every reader of the objects may use."""
    if key is None:
        return []
    statement = {"Sid": "DecryptThroughS3Only", "Effect": "Allow", "Action": "kms:Decrypt"}
    through_s3 = {"StringLike": {"kms:ViaService": "s3.*.amazonaws.com*"}}
    if key.startswith("arn:") and ":key/" in key:
        return [{**statement, "Resource": key, "Condition": through_s3}]
    if not (name := key.rpartition(":")[2]).startswith("alias/"):
        return [{**statement, "Resource": f"arn:{location.partition}:kms:*:*:key/{key}", "Condition": through_s3}]
    # A policy cannot name an alias as its resource.
    aliased = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}}
    return [{**statement, "Resource": "*", "Condition": {**through_s3, **aliased}}]


def role_trust(users: Mapping[str, str]) -> dict[str, Any]:
    """Who may assume the role: Snowflake's `users`, ARN by external id."""
    return {
        "Version": _VERSION,
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": arn},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
            }
            for external_id, arn in users.items()
        ],
    }


def bucket_policy(location: StageLocation, role_arn: str, *, exactly_once: bool) -> dict[str, Any]:
    """The policy of a bucket that has none. Lets the role read, which a role of another account needs."""
    statements: list[dict[str, Any]] = []
    if exactly_once:
        folders = [_pattern(location.root) + folder for folder in (EVENTS, QUARANTINE, OWN, REQUEUED)]
        statements.append(
            {
                "Sid": "EachNameIsWrittenOnce",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:PutObject",
                "Resource": [f"{location.arn}/{folder}*" for folder in folders],
                "Condition": {"Null": {"s3:if-none-match": "true"}},
            }
        )
    statements += [{**statement, "Principal": {"AWS": role_arn}} for statement in _reading(location)]
    return {"Version": _VERSION, "Statement": statements}


def lifecycle(location: StageLocation) -> dict[str, Any]:
    """The expiration rules. Receipts of requeued records do not expire: they are small and outlive the quarantine."""
    rules = [
        {
            "ID": f"{name}Expire",
            "Status": "Enabled",
            "Filter": {"Prefix": location.root + folder},
            "Expiration": {"Days": _KEPT_DAYS},
        }
        for name, folder in (("Events", EVENTS), ("Quarantined", QUARANTINE))
    ]
    return {"Rules": rules}


def notification(location: StageLocation, queue_arn: str) -> dict[str, Any]:
    """The bucket notifies the pipe's queue of each new data object."""
    rules = [{"Name": "prefix", "Value": location.events}, {"Name": "suffix", "Value": SUFFIX}]
    queue = {
        "Id": NOTIFICATION,
        "QueueArn": queue_arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }
    return {"QueueConfigurations": [queue]}


def merged(present: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """`present`, the current notifications, with our rule replaced: a PUT replaces all of them."""
    queues: Sequence[Mapping[str, Any]] = present.get("QueueConfigurations", ())
    others = [queue for queue in queues if queue.get("Id") != NOTIFICATION]
    return {**present, "QueueConfigurations": [*others, *ours["QueueConfigurations"]]}


def _pattern(prefix: str) -> str:
    """`prefix` as a policy matches it literally: in a policy, "*" and "?" stand for any characters."""
    return re.sub(r"[*?$]", r"${\g<0>}", prefix)


def _reading(location: StageLocation) -> list[dict[str, Any]]:
    return [
        {
            "Sid": "ReadEvents",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:GetObjectVersion"],
            "Resource": f"{location.arn}/{_pattern(location.events)}*",
        },
        {
            "Sid": "ListEvents",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": location.arn,
            "Condition": {"StringLike": {"s3:prefix": f"{_pattern(location.events)}*"}},
        },
        {"Sid": "FindBucket", "Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": location.arn},
    ]
