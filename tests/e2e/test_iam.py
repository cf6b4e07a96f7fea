"""The policies in deploy/iam allow every call that ingestd makes, and nothing that it does not make."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from aiokafka import AIOKafkaProducer

from ingestd.core.object_keys import QUARANTINE, ObjectKeys
from ingestd.sinks import s3_errors
from tests.conftest import MakeTopic
from tests.e2e.daemon import Daemon, credentials, settings
from tests.e2e.events import fill
from tests.e2e.group import caught_up, ends, reset
from tests.e2e.iam import Call, Need, Policy, Recorder, allowed, listed
from tests.e2e.test_bad_input import event
from tests.services.kafka import KafkaAddress
from tests.services.ports import HOST, free_port
from tests.services.seaweed import S3Store

FOLDER = Path(__file__).parents[2] / "deploy" / "iam"
THEIRS = "your-marketing-events-bucket"
STREAMS = (":stream/your-marketing-events", ":your-marketing-events")  # Kinesis' and SQS's
COMMANDS = (["check", "--dry-run", "--duration", "2s"], ["requeue"], ["requeue"], ["verify", "--read"])
ROLES = {"daemon": ("daemon", "check"), "verify": ("verify",), "requeue": ("requeue",)}  # and what each runs


def policy(name: str, bucket: str = THEIRS) -> Policy:
    """One of ours, for a bucket."""
    found: Policy = json.loads((FOLDER / f"{name}-policy.json").read_text().replace(THEIRS, bucket))
    return found


class Recorded(NamedTuple):
    """What was sent to the store by the daemon and by each command."""

    bucket: str
    calls: dict[str, list[Call]]


@asynccontextmanager
async def recorder(store: S3Store) -> AsyncIterator[tuple[Recorder, Mapping[str, str]]]:
    """A way to the store that remembers, and the settings that lead there."""
    port, upstream = free_port(), urlsplit(store.endpoint).port
    assert upstream is not None
    async with Recorder(port, upstream) as proxy:
        yield proxy, {"s3.endpoint_url": f"http://{HOST}:{port}"}


async def run(command: list[str], keys: Mapping[str, str], environment: Mapping[str, str], folder: Path) -> None:
    flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingestd", *command, *flags, env={**environment}, cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode in {0, 4}, output.decode()


async def requeueable(bootstrap: str, topic: str) -> None:
    """Write an event that the daemon rejects, and that a command with other settings takes for a good one."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(topic, event("good one day", event_type="card_payment"), partition=0)
    finally:
        await producer.stop()


def leave_behind(store: S3Store, bucket: str) -> None:
    """A quarantine object without its data object, as a crash between the two PUTs leaves it."""
    with closing(store.client()) as client:
        key = client.list_objects_v2(Bucket=bucket, Prefix=QUARANTINE)["Contents"][0]["Key"]
        kept = client.get_object(Bucket=bucket, Key=key)
        name = ObjectKeys().parse_quarantine(key)
        assert name is not None
        later = name.start + 1
        key = key.replace(f"+{name.start:020d}+", f"+{later:020d}+")
        metadata = {**kept["Metadata"], "start": str(later)}
        client.put_object(Bucket=bucket, Key=key, Body=kept["Body"].read(), Metadata=metadata)


@pytest.fixture
async def recorded(kafka: KafkaAddress, s3: S3Store, bucket: str, make_topic: MakeTopic, tmp_path: Path) -> Recorded:
    """A life with everything in it: good and rejected events, a restart, a reset that makes it look and adopt."""
    topic = await make_topic(2)
    written = await fill(kafka.bootstrap, topic, 2, 1_000)
    await requeueable(kafka.bootstrap, topic)
    goals = {partition: end + (partition == 0) for partition, end in ends(written.records).items()}
    async with recorder(s3) as (proxy, way):
        keys = {**settings(kafka.bootstrap, s3, bucket, topic), **way}
        daemon = Daemon("a", tmp_path, {**keys, "events.unknown_types": "reject"}, credentials(s3))
        try:
            for again in (False, True):
                if again:
                    await reset(kafka.bootstrap, topic, topic, {0: 0, 1: 0})
                await daemon.start_ready()
                await caught_up(kafka.bootstrap, topic, topic, goals)
                adopted = await daemon.metric("ingestd_objects_adopted_total")
                assert await daemon.stop() == 0
        finally:
            daemon.kill()
        assert adopted >= 2
        leave_behind(s3, bucket)
        calls = {"daemon": proxy.calls[:]}
        for command in COMMANDS:
            proxy.calls.clear()
            await run(command, keys, credentials(s3), tmp_path)
            calls.setdefault(command[0], []).extend(proxy.calls)
    return Recorded(bucket, calls)


def parts(of: Policy) -> Iterator[Policy]:
    """The policy without one action, one resource or one prefix of a condition, for each of them."""
    for number, statement in enumerate(of["Statement"]):
        for field, values in without_one(statement):
            changed = [*of["Statement"]]
            changed[number] = {**statement, field: values}
            yield {**of, "Statement": changed}


def without_one(statement: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for field in ("Action", "Resource"):
        for value in listed(statement[field]):
            yield field, [each for each in listed(statement[field]) if each != value]
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            for value in listed(values):
                yield "Condition", {operator: {key: [each for each in listed(values) if each != value]}}


async def test_the_policies_are_what_the_calls_need_and_no_more(recorded: Recorded) -> None:
    assert {call.operation for call in recorded.calls["daemon"]} == {"PutObject", "HeadObject", "ListObjectsV2"}
    once = policy("bucket", recorded.bucket)
    for role, does in ROLES.items():
        least = policy(role, recorded.bucket)
        wanted = [need for each in does for call in recorded.calls[each] for need in call.needs()]
        assert [need for need in wanted if not allowed(need, least)] == []
        for less in parts(least):
            assert [need for need in wanted if not allowed(need, less)], f"one part is not needed, as in {less}"

        puts = [need for need in wanted if need.action == "s3:PutObject"]
        assert bool(puts) == (role != "verify")
        assert all(allowed(need, least, once) for need in wanted), "the bucket's policy is in nobody's way"
        assert not any(allowed(need._replace(context={}), least, once) for need in puts), (
            "but in that of who overwrites"
        )


def test_nothing_is_allowed_that_removes_changes_or_leads_elsewhere() -> None:
    ours = f"arn:aws:s3:::{THEIRS}"
    key = f"{ours}/events/year=2026/month=01/day=01/t+00000+00000000000000000000.jsonl.gz"
    actions = [
        "DeleteObject", "DeleteObjectVersion", "PutObjectAcl", "PutObjectTagging", "PutObjectRetention",
        "PutBucketPolicy", "PutLifecycleConfiguration", "AbortMultipartUpload", "RestoreObject", "GetObjectVersion",
        "ListAllMyBuckets", "*",
    ]  # fmt: skip
    for name in ROLES:
        given = policy(name)
        assert not any(allowed(Need(f"s3:{action}", where, {}), given) for action in actions for where in (key, ours))
        for where in (f"{ours}/elsewhere/x", f"{ours}-2/events/x", f"{ours}/events", f"{ours}/eventsx/x"):
            assert not allowed(Need("s3:PutObject", where, {}), given)
            assert not allowed(Need("s3:GetObject", where, {}), given)
        for prefix in ("", "e", "elsewhere/", "events"):
            assert not allowed(Need("s3:ListBucket", ours, {"s3:prefix": prefix}), given)
        assert not allowed(Need("s3:ListBucket", ours, {}), given)
    assert not allowed(Need("s3:PutObject", key, {}), policy("verify"))
    assert not allowed(Need("s3:PutObject", key, {}), policy("requeue"))


def test_the_policies_grant_no_action_by_pattern_and_name_every_resource() -> None:
    for file in FOLDER.glob("*.json"):
        for statement in json.loads(file.read_text())["Statement"]:
            assert statement["Sid"].isalnum()
            assert not [action for action in listed(statement["Action"]) if "*" in action]
            assert all(
                where.startswith(f"arn:aws:s3:::{THEIRS}")
                or ":key/" in where
                or where.endswith(STREAMS)
                or (where.startswith("arn:aws:kafka:") and "/your-cluster/" in where)
                for where in listed(statement["Resource"])
            )


def test_the_rights_that_errors_ask_for_are_those_of_the_policies() -> None:
    """What an operator is told to grant is what is granted here."""
    granted = {
        action
        for name in ("daemon", "kms")
        for statement in policy(name)["Statement"]
        for action in listed(statement["Action"])
    }
    told = f"{s3_errors.HINTS} {s3_errors.KMS_HINT}"
    assert {word.strip("',.;") for word in told.split() if word.startswith(("s3:", "kms:"))} == granted
