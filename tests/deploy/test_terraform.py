"""deploy/terraform makes what ingestd's own rules for AWS ask for, and no more. Nothing of it was run on an account."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.load import load
from ingestd.config.model import Config, S3Config
from ingestd.core.events import load_model
from ingestd.snowflake import bucket
from ingestd.snowflake.sql import setup
from ingestd.snowflake.stage_location import StageLocation, stage_location
from ingestd.snowflake.statements import text
from tests.e2e.iam import Need, allowed, listed
from tests.services.terraform import Block, blocks, evaluate, failed_checks

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "deploy" / "terraform"
SOURCES = "\n".join(file.read_text() for file in sorted(MODULE.glob("*.tf")))
#: What the AWS provider 6 knows of the resources that are used; a name that ends in "!" must be there. Taken from
#: @cdktf/provider-aws 21.22.1, which is generated from the provider's own schema.
PROVIDER = Path(__file__).with_name("aws-provider.json")

ACCOUNT, REGION, BUCKET = "123456789012", "eu-central-1", "your-marketing-events-bucket"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-0000-0000-000000000000"
QUEUE = "arn:aws:sqs:eu-central-1:210987654321:sf-snowpipe-queue"
USERS = {"one": "arn:aws:iam::210987654321:user/storage", "two": "arn:aws:iam::210987654321:user/errors"}
OIDC = "oidc.eks.eu-central-1.amazonaws.com/id/ABC"
MSK = {
    "vpc_id": "vpc-1",
    "subnet_ids": ["subnet-1", "subnet-2", "subnet-3"],
    "client_security_group_ids": ["sg-1"],
    "scram_secret_arns": [f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:AmazonMSK_ingestd"],
}

#: What checkov would have otherwise, and why it is not.
ACCEPTED = {
    ("CKV_AWS_18", "aws_s3_bucket.objects"): "access logs go into a bucket that is the account's, not this module's",
    ("CKV_AWS_144", "aws_s3_bucket.objects"): "a replica is a second chain that nobody extends; the table is the copy",
    ("CKV_AWS_158", "aws_cloudwatch_log_group.kafka[0]"): "brokers log no events; CloudWatch encrypts with its own key",
}

CLUSTER = f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/your-cluster/11111111-2222-3333-4444-555555555555-6"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/your-marketing-events"
OWN_QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:your-marketing-events"

Policy = dict[str, Any]


def configuration(folder: Path, **modules: Mapping[str, object]) -> dict[str, Block]:
    """What these calls of the module in `folder` make, by address."""
    base = {"account": ACCOUNT, "region": REGION, "bucket": BUCKET, "daemon_services": ["ec2.amazonaws.com"]}
    calls = [
        f'module "{name}" {{\n  source = "./module"\n'
        + "".join(f"  {key} = {json.dumps(value)}\n" for key, value in {**base, **given}.items())
        + "}\n"
        for name, given in modules.items()
    ]
    (folder / "main.tf").write_text("\n".join(calls))
    return evaluate(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Block]:
    folder = tmp_path_factory.mktemp("terraform")
    shutil.copytree(MODULE, folder / "module")
    irsa = {"provider_arn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{OIDC}", "issuer": OIDC}
    irsa |= {"namespace": "events", "service_account": "ingestd"}
    return configuration(
        folder,
        plain={"kms_key_arn": KEY, "snowflake_users": USERS, "snowpipe_queue_arn": QUEUE},
        first={"versioning": False, "kept_days": 60, "delivery": "at-least-once"},
        nested={"kms_key_arn": KEY, "prefix": "team/x", "lineage": "2026-02", "snowpipe_queue_arn": QUEUE},
        fan={"fan_out": True, "fan_out_subscribers": [USERS["one"]], "msk": MSK, "topic_retention_days": 3},
        pods={"daemon_services": ["pods.eks.amazonaws.com"], "daemon_oidc": irsa},
        streams={"kms_key_arn": KEY, "kinesis": {"shards": 4}, "sqs": {"fifo": True}},
        given={
            "kms_key_arn": KEY,
            "kinesis": {"arn": STREAM},
            "sqs": {"arn": OWN_QUEUE},
            "kafka_iam": {"cluster_arn": CLUSTER, "topics": ["marketing_events"]},
        },
        both={"msk": {**MSK, "iam": True}, "kafka_iam": {"topics": ["a", "b"], "group": "g"}},
        queue={"kms_key_arn": KEY, "sqs": {"arn": OWN_QUEUE}},
        china={"partition": "aws-cn", "region": "cn-north-1", "kms_key_arn": KEY},
    )


def policy(made: Mapping[str, Block], address: str, field: str = "policy") -> Policy:
    found: Policy = json.loads(made[f"module.{address}"][field])
    return found


def by_sid(found: Policy) -> dict[str, Policy]:
    return {statement["Sid"]: statement for statement in found["Statement"]}


def ours(name: str) -> Policy:
    found: Policy = json.loads((ROOT / "deploy" / "iam" / f"{name}-policy.json").read_text())
    return found


def config(made: Mapping[str, Block], name: str, folder: Path) -> Config:
    """As the module's own output says it."""
    file = folder / f"{name}.toml"
    file.write_text(made[f"module.{name}.output.configuration"]["value"])
    return load(path=str(file), environ={}).config


@pytest.fixture
def place(made: Mapping[str, Block], tmp_path: Path) -> StageLocation:
    return stage_location(config(made, "nested", tmp_path))


# -- rights


@pytest.mark.parametrize(
    ("role", "address"),
    [
        ("daemon", "aws_iam_role_policy.daemon"),
        ("verify", "aws_iam_policy.verify"),
        ("requeue", "aws_iam_policy.requeue"),
    ],
)
def test_the_rights_are_those_of_deploy_iam(made: Mapping[str, Block], role: str, address: str) -> None:
    found = by_sid(policy(made, f"plain.{address}"))
    key = found.pop("DecryptThroughS3Only" if role == "verify" else "EncryptAndDecryptThroughS3Only")
    assert found == by_sid(ours(role))
    (recorded,) = ours("kms")["Statement"]
    assert {**key, "Sid": recorded["Sid"], "Action": recorded["Action"]} == recorded
    assert set(listed(key["Action"])) == ({"kms:Decrypt"} if role == "verify" else set(recorded["Action"]))


def test_with_a_prefix_nobody_reaches_beyond_it(made: Mapping[str, Block]) -> None:
    given = policy(made, "nested.aws_iam_role_policy.daemon")
    given["Statement"] = [it for it in given["Statement"] if "S3Only" not in it["Sid"]]
    arn = f"arn:aws:s3:::{BUCKET}"
    assert allowed(Need("s3:PutObject", f"{arn}/team/x/events/2026-02/a", {}), given)
    assert allowed(Need("s3:ListBucket", arn, {"s3:prefix": "team/x/events/"}), given)
    for where in ("events/a", "team/y/events/a", "team/x/elsewhere/a"):
        assert not allowed(Need("s3:PutObject", f"{arn}/{where}", {}), given)
        assert not allowed(Need("s3:GetObject", f"{arn}/{where}", {}), given)
        assert not allowed(Need("s3:ListBucket", arn, {"s3:prefix": where}), given)


def test_only_the_pod_s_service_account_takes_on_the_daemon_s_role(made: Mapping[str, Block]) -> None:
    pods, irsa = policy(made, "pods.aws_iam_role.daemon", "assume_role_policy")["Statement"]
    assert pods == {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    }
    assert irsa["Condition"] == {
        "StringEquals": {f"{OIDC}:aud": "sts.amazonaws.com", f"{OIDC}:sub": "system:serviceaccount:events:ingestd"}
    }
    (service,) = policy(made, "plain.aws_iam_role.daemon", "assume_role_policy")["Statement"]
    assert service["Action"] == ["sts:AssumeRole"]


# -- the bucket


def test_each_name_is_written_once_and_over_tls_only(made: Mapping[str, Block], place: StageLocation) -> None:
    found = by_sid(policy(made, "plain.aws_s3_bucket_policy.objects"))
    assert found.keys() == {"EachNameIsWrittenOnce", "OnlyOverTLS"}
    assert found["EachNameIsWrittenOnce"] == ours("bucket")["Statement"][0]
    deny = bucket.bucket_policy(place, "role", exactly_once=True)["Statement"][0]
    nested = by_sid(policy(made, "nested.aws_s3_bucket_policy.objects"))
    assert nested["EachNameIsWrittenOnce"] == deny
    assert nested["OnlyOverTLS"]["Effect"] == "Deny"
    assert nested["OnlyOverTLS"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_at_least_once_may_write_a_name_again(made: Mapping[str, Block]) -> None:
    assert by_sid(policy(made, "first.aws_s3_bucket_policy.objects")).keys() == {"OnlyOverTLS"}


def expiring(made: Mapping[str, Block], name: str) -> dict[str, int]:
    rules = blocks(made[f"module.{name}.aws_s3_bucket_lifecycle_configuration.objects"]["rule"])
    return {rule["filter"]["prefix"]: rule["expiration"]["days"] for rule in rules if "expiration" in rule}


def test_objects_expire_as_the_chain_allows(made: Mapping[str, Block], place: StageLocation) -> None:
    rules = bucket.lifecycle(place)["Rules"]
    assert expiring(made, "nested") == {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules}
    assert expiring(made, "first") == {"events/": 60, "quarantine/": 60}


@pytest.mark.parametrize(("name", "status"), [("plain", "Enabled"), ("first", "Suspended")])
def test_what_was_deleted_can_be_restored_for_a_while(made: Mapping[str, Block], name: str, status: str) -> None:
    versioning = made[f"module.{name}.aws_s3_bucket_versioning.objects"]["versioning_configuration"]
    assert versioning["status"] == status
    rules = list(blocks(made[f"module.{name}.aws_s3_bucket_lifecycle_configuration.objects"]["rule"]))
    assert [it["noncurrent_version_expiration"]["noncurrent_days"] for it in rules if "expiration" in it] == [30, 30]
    (parts,) = [it for it in rules if "expiration" not in it]
    assert parts["abort_incomplete_multipart_upload"] == {"days_after_initiation": 1}


def test_the_bucket_is_private_encrypted_and_not_removed(made: Mapping[str, Block]) -> None:
    block = made["module.plain.aws_s3_bucket_public_access_block.objects"]
    names = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert all(block[name] is True for name in names)
    rule = made["module.plain.aws_s3_bucket_server_side_encryption_configuration.objects"]["rule"]
    default = rule["apply_server_side_encryption_by_default"]
    assert (default["sse_algorithm"], default["kms_master_key_id"], rule["bucket_key_enabled"]) == (
        "aws:kms",
        KEY,
        True,
    )
    assert (
        made["module.plain.aws_s3_bucket_ownership_controls.objects"]["rule"]["object_ownership"]
        == "BucketOwnerEnforced"
    )
    assert "module.plain.aws_kms_key.bucket[0]" not in made, "the given key is used"
    assert made["module.first.aws_kms_key.bucket[0]"]["enable_key_rotation"] is True
    assert made["module.plain.aws_s3_bucket.objects"]["force_destroy"] is False
    for resource in ('"aws_s3_bucket" "objects"', '"aws_kms_key" "bucket"'):
        body = SOURCES.partition(f"resource {resource} {{\n")[2].partition("\n}\n")[0]
        assert "prevent_destroy = true" in body, resource


# -- Snowflake


@pytest.mark.parametrize("name", ["plain", "nested"])
def test_snowflake_s_role_is_as_snowflake_sql_prints_it(made: Mapping[str, Block], name: str, tmp_path: Path) -> None:
    settings = config(made, name, tmp_path)
    found = policy(made, f"{name}.aws_iam_role_policy.snowflake")
    s3 = S3Config(encryption="aws:kms", kms_key_id=KEY)  # the module makes it the bucket's default
    expected = bucket.role_policy(stage_location(settings), s3, settings.snowflake.error_topic_arn)
    keys = [by_sid(it)["DecryptThroughS3Only"] for it in (found, expected)]
    for key in keys:  # Terraform knows the region
        assert "s3." in str(key.pop("Condition"))
    assert by_sid(found) == by_sid(expected)
    printed = {it.file: text(it) for part in setup(settings, load_model(None), "select") for it in part.documents}
    assert any(f"arn:aws:iam::{ACCOUNT}:role/ingestd-snowflake" in it for it in printed.values())
    assert made[f"module.{name}.aws_iam_role.snowflake"]["name"] == "ingestd-snowflake"
    assert made[f"module.{name}.aws_sns_topic.errors"]["name"] == "ingestd-snowpipe-errors"


def test_snowflake_s_users_take_the_role_on_with_their_external_ids(made: Mapping[str, Block]) -> None:
    assert policy(made, "plain.aws_iam_role.snowflake", "assume_role_policy") == bucket.role_trust(USERS)
    (nobody,) = policy(made, "nested.aws_iam_role.snowflake", "assume_role_policy")["Statement"]
    assert nobody["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "before they are known"


def test_the_bucket_tells_the_pipe_s_queue_of_data_objects(made: Mapping[str, Block], place: StageLocation) -> None:
    found = made["module.nested.aws_s3_bucket_notification.objects"]["queue"]
    (rule,) = bucket.notification(place, QUEUE)["QueueConfigurations"]
    filters = {it["Name"]: it["Value"] for it in rule["Filter"]["Key"]["FilterRules"]}
    assert found == {
        "queue_arn": rule["QueueArn"],
        "events": rule["Events"],
        "filter_prefix": filters["prefix"],
        "filter_suffix": filters["suffix"],
    }
    assert re.findall(r'^ +id += "(\w+)"$', (MODULE / "snowflake.tf").read_text(), re.MULTILINE) == 2 * [
        bucket.NOTIFICATION
    ]
    assert "queue" not in made["module.first.aws_s3_bucket_notification.objects"], "the pipe is made later"


def test_a_topic_fans_out_for_this_bucket_only(made: Mapping[str, Block]) -> None:
    notification = made["module.fan.aws_s3_bucket_notification.objects"]
    assert "queue" not in notification
    assert notification["topic"]["filter_prefix"] == "events/"
    found = by_sid(policy(made, "fan.aws_sns_topic_policy.objects[0]"))
    assert found["TheBucketTells"]["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{BUCKET}"},
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
    }
    assert found["QueuesSubscribe"]["Principal"] == {"AWS": [USERS["one"]]}
    key = by_sid(policy(made, "fan.aws_kms_key.bucket[0]"))
    assert set(key["S3TellsOfObjects"]["Action"]) == {"kms:GenerateDataKey", "kms:Decrypt"}
    assert "S3TellsOfObjects" not in by_sid(policy(made, "first.aws_kms_key.bucket[0]"))
    assert "module.plain.aws_sns_topic.objects[0]" not in made


# -- Kafka


def test_kafka_is_reached_by_its_clients_with_scram_over_tls_only(made: Mapping[str, Block]) -> None:
    cluster = made["module.fan.aws_msk_cluster.kafka[0]"]
    assert cluster["client_authentication"] == {"unauthenticated": False, "sasl": {"scram": True, "iam": False}}
    assert cluster["encryption_info"]["encryption_in_transit"] == {"client_broker": "TLS", "in_cluster": True}
    (ingress,) = [it for address, it in made.items() if ".fan." in address and "ingress_rule" in address]
    assert (ingress["from_port"], ingress["to_port"], ingress["referenced_security_group_id"]) == (9096, 9096, "sg-1")
    assert not [it for it in ingress if it.startswith("cidr")]
    assert not [address for address in made if ".msk" in address and ".fan." not in address and ".both." not in address]


def test_the_rights_in_a_cluster_with_iam_are_those_of_deploy_iam(made: Mapping[str, Block]) -> None:
    found = by_sid(policy(made, "given.aws_iam_role_policy.kafka[0]"))
    (topic,) = found["ReadTopics"]["Resource"]
    found["ReadTopics"]["Resource"] = topic
    assert found == by_sid(ours("kafka"))
    assert "module.plain.aws_iam_role_policy.kafka[0]" not in made


def test_a_cluster_that_is_made_can_be_reached_with_iam_as_well(made: Mapping[str, Block]) -> None:
    cluster = made["module.both.aws_msk_cluster.kafka[0]"]
    assert cluster["client_authentication"]["sasl"] == {"scram": True, "iam": True}
    ports = {it["to_port"] for address, it in made.items() if ".both." in address and "ingress_rule" in address}
    assert ports == {9096, 9098}


def test_kafka_loses_no_record_that_it_has_acknowledged(made: Mapping[str, Block]) -> None:
    lines = made["module.fan.aws_msk_configuration.kafka[0]"]["server_properties"].splitlines()
    properties = dict(line.split("=") for line in lines)
    assert properties["unclean.leader.election.enable"] == "false"
    assert (properties["default.replication.factor"], properties["min.insync.replicas"]) == ("3", "2")
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["log.retention.hours"] == "72", "topic_retention_days"
    assert int(properties["offsets.retention.minutes"]) == 400 * 1440


def test_no_secret_is_in_the_state(made: Mapping[str, Block]) -> None:
    assert not [address for address in made if "secret_version" in address or "access_key" in address]
    assert not re.search(r"password|secret_string|private_key", SOURCES)


# -- Kinesis and SQS


def without_keys(found: Mapping[str, Policy], expected: Mapping[str, set[str]]) -> Mapping[str, Policy]:
    """The statements but for those of keys, whose actions by service are as expected."""
    left = dict(found)
    for service, actions in expected.items():
        key = left.pop(f"UseKeyThrough{service.title()}")
        assert (set(listed(key["Action"])), key["Resource"]) == (actions, KEY)
        assert key["Condition"] == {"StringEquals": {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}}
    return left


@pytest.mark.parametrize("source", ["kinesis", "sqs"])
def test_the_rights_of_a_stream_and_a_queue_are_those_of_deploy_iam(made: Mapping[str, Block], source: str) -> None:
    found = by_sid(policy(made, f'given.aws_iam_role_policy.source["{source}"]'))
    assert without_keys(found, {source: {"kms:Decrypt"}}) == by_sid(ours(source))
    assert not [address for address in made if ".plain." in address and ("kinesis" in address or "sqs" in address)]
    assert not [address for address in made if ".plain.aws_iam_role_policy.source" in address]


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        ("verify", {"kinesis": {"kms:Decrypt"}}),
        ("requeue", {it: {"kms:Decrypt", "kms:GenerateDataKey"} for it in ("kinesis", "sqs")}),
    ],
)
def test_the_rights_of_commands_on_a_stream_and_a_queue_are_those_of_deploy_iam(
    made: Mapping[str, Block], role: str, keys: Mapping[str, set[str]]
) -> None:
    plain = by_sid(policy(made, f"plain.aws_iam_policy.{role}"))
    given = policy(made, f"given.aws_iam_policy.{role}")
    found = by_sid(given)
    assert len(found) == len(given["Statement"]), "each Sid once"
    added = {sid: statement for sid, statement in found.items() if sid not in plain}
    assert without_keys(added, keys) == {**by_sid(ours(f"kinesis-{role}")), **by_sid(ours(f"sqs-{role}"))}
    assert {sid: found[sid] for sid in plain} == plain


def test_a_stream_that_is_made_keeps_records_as_long_as_the_topics_and_encrypts_them(
    made: Mapping[str, Block],
) -> None:
    stream = made["module.streams.aws_kinesis_stream.events[0]"]
    assert (stream["retention_period"], stream["encryption_type"], stream["kms_key_id"]) == (168, "KMS", KEY)
    assert (stream["shard_count"], stream["stream_mode_details"]["stream_mode"]) == (4, "PROVISIONED")
    assert "module.given.aws_kinesis_stream.events[0]" not in made, "the given one is read"


def test_a_queue_that_is_made_outlives_an_outage(made: Mapping[str, Block]) -> None:
    queue = made["module.streams.aws_sqs_queue.events[0]"]
    assert queue["message_retention_seconds"] == 14 * 86_400, "the most that SQS allows"
    assert (queue["name"], queue["fifo_queue"]) == ("ingestd-events.fifo", True)
    assert queue["visibility_timeout_seconds"] == 600, "as sqs.visibility"
    assert json.loads(queue["redrive_policy"])["maxReceiveCount"] == 50
    letters = made["module.streams.aws_sqs_queue.dead_letters[0]"]
    assert (letters["name"], letters["kms_master_key_id"]) == ("ingestd-events-dead-letters.fifo", KEY)
    assert "module.given.aws_sqs_queue.events[0]" not in made, "the given one is read"


def test_the_configuration_names_the_stream_or_the_queue(
    made: Mapping[str, Block], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = config(made, "given", tmp_path_factory.mktemp("stream"))
    assert (stream.source, stream.kinesis.stream, stream.kinesis.region) == ("kinesis", "your-marketing-events", REGION)
    queue = config(made, "queue", tmp_path_factory.mktemp("queue"))
    assert (queue.source, queue.sqs.region) == ("sqs", REGION)
    assert queue.sqs.queue_url == f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/your-marketing-events"


def test_neither_a_stream_nor_a_queue_is_removed_by_accident() -> None:
    for resource in ('"aws_kinesis_stream" "events"', '"aws_sqs_queue" "events"', '"aws_sqs_queue" "dead_letters"'):
        body = SOURCES.partition(f"resource {resource} {{\n")[2].partition("\n}\n")[0]
        assert "prevent_destroy = true" in body, resource


# -- what may be given


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bool]]:
    """For each of `GIVEN`, what the conditions of the variables come to: each as an output, for tfparse asks none."""
    folder = tmp_path_factory.mktemp("conditions")
    (folder / "module").mkdir()
    variables = (MODULE / "variables.tf").read_text()
    conditions = re.findall(
        r'^variable "(\w+)" \{(?:(?!^\}).)*?condition += ([^\n]+)', variables, re.MULTILINE | re.DOTALL
    )
    outputs = [f'output "{name}" {{\n  value = {condition}\n}}\n' for name, condition in conditions]
    (folder / "module" / "all.tf").write_text(variables + "".join(outputs))
    made = configuration(folder, **{f"c{number}": given for number, (given, _) in enumerate(GIVEN)})
    found: dict[str, dict[str, bool]] = {}
    for address, output in made.items():
        _, module, _, name = address.split(".")
        found.setdefault(module, {})[name] = output["value"]
    return found


#: Values, and the variables that are refused for them.
GIVEN: list[tuple[dict[str, object], set[str]]] = [
    ({}, set()),
    ({"kept_days": 14}, {"kept_days"}),
    ({"kept_days": 31, "rewind_days": 30, "topic_retention_days": 30}, set()),
    ({"kept_days": 30, "topic_retention_days": 30, "rewind_days": 0}, {"kept_days"}),
    ({"kept_days": 60, "rewind_days": 90}, {"kept_days"}),
    ({"topic_retention_days": -1}, {"topic_retention_days"}),
    ({"rewind_days": -1}, {"rewind_days"}),
    ({"noncurrent_days": 0}, {"noncurrent_days"}),
    ({"bucket": "Has.Dots"}, {"bucket"}),
    ({"account": "12345"}, {"account"}),
    ({"partition": "aws-eu"}, {"partition"}),
    ({"prefix": "/team/"}, {"prefix"}),
    ({"prefix": "team/x"}, set()),
    ({"lineage": "a/b"}, {"lineage"}),
    ({"lineage": "2026-02"}, set()),
    ({"delivery": "at-most-once"}, {"delivery"}),
    ({"daemon_services": []}, {"daemon_oidc"}),
    ({"name": "Upper"}, {"name"}),
    ({"fan_out": True, "snowpipe_queue_arn": QUEUE}, {"snowpipe_queue_arn"}),
    ({"fan_out": True}, set()),
    ({"snowpipe_queue_arn": QUEUE}, set()),
    ({"msk": {**MSK, "subnet_ids": ["subnet-1"]}}, {"msk"}),
    ({"msk": MSK}, set()),
    ({"kinesis": {"arn": STREAM}, "sqs": {"arn": OWN_QUEUE}}, set()),
    ({"kinesis": {"shards": 2}, "sqs": {}}, set()),
    ({"kafka_iam": {"cluster_arn": CLUSTER, "topics": ["t"]}}, set()),
    ({"kafka_iam": {"cluster_arn": "your-cluster", "topics": ["t"]}}, {"kafka_iam"}),
    ({"kinesis": {"arn": "your-marketing-events"}}, {"kinesis"}),
    ({"sqs": {"max_receives": 3}}, {"sqs"}),
]


@pytest.mark.parametrize("number", range(len(GIVEN)), ids=lambda number: json.dumps(GIVEN[number][0]))
def test_what_would_break_the_chain_or_aws_refuses_is_refused_before(
    judged: Mapping[str, Mapping[str, bool]], number: int
) -> None:
    outcome = judged[f"c{number}"]
    assert all(isinstance(it, bool) for it in outcome.values()), "tfparse understands every condition"
    assert {name for name, holds in outcome.items() if not holds} == GIVEN[number][1]


# -- the whole


def unknown(block: Block, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    """Attributes that the provider does not know, and those that it demands and does not get."""
    known = {name.rstrip("!"): inner for name, inner in schema.items()}
    yield from (
        f"{where}.{name} is not there" for name in schema if name[-1] == "!" and name[:-1] not in {*block, "id"}
    )
    for name, value in block.items():
        if name not in known:
            yield f"{where}.{name} is unknown"
        elif (inner := known[name]) is not None:
            for each in blocks(value):
                yield from unknown(each, inner, f"{where}.{name}")


def test_the_provider_knows_every_argument_and_gets_what_it_demands(made: Mapping[str, Block]) -> None:
    schemas = json.loads(PROVIDER.read_text())
    used = set(re.findall(r'^resource "(\w+)"', SOURCES, re.MULTILINE))
    assert schemas.keys() == used
    resources = {address: block for address, block in made.items() if ".output." not in address}
    assert {address.split(".")[2] for address in resources} == used, "each is looked at"
    wrong = [
        it for address, block in resources.items() for it in unknown(block, schemas[address.split(".")[2]], address)
    ]
    assert wrong == []


@pytest.mark.slow
def test_checkov_finds_only_what_is_accepted() -> None:
    assert failed_checks(MODULE) == set(ACCEPTED)


def test_other_partitions_of_aws_have_their_own_names(made: Mapping[str, Block], tmp_path: Path) -> None:
    assert stage_location(config(made, "china", tmp_path)).arn == f"arn:aws-cn:s3:::{BUCKET}"
    statements = policy(made, "china.aws_iam_role_policy.daemon")["Statement"]
    assert f"arn:aws-cn:s3:::{BUCKET}" in listed(statements[2]["Resource"])
    assert statements[3]["Condition"] == {"StringEquals": {"kms:ViaService": "s3.cn-north-1.amazonaws.com.cn"}}


def test_every_variable_and_output_is_explained() -> None:
    for kind, name, body in re.findall(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', SOURCES, re.MULTILINE | re.DOTALL):
        assert re.match(r"  description += \"[^\"]", body), f"{kind} {name}"
