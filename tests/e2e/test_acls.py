"""The least rights in Kafka with which the daemon runs, and what it says where one of them is missing."""

import asyncio
import json
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka.protocol.admin import CreateAclsRequest

from ingestd.config.keys import variable
from ingestd.config.load import load
from ingestd.config.model import KafkaConfig
from ingestd.core.records import TopicPartition
from ingestd.preflight import Verdict, produce_probe
from ingestd.sources.kafka import open_inspector
from tests.e2e.daemon import Daemon
from tests.e2e.events import fill
from tests.e2e.group import caught_up, ends
from tests.e2e.loader import in_directory
from tests.e2e.test_tls import PASSWORD, sasl
from tests.services.kafka import KafkaBroker, create_topic, topic_admin

PARTITIONS = 1


class Kind(IntEnum):
    TOPIC = 2
    GROUP = 3


class Right(IntEnum):
    READ = 3
    WRITE = 4
    DESCRIBE = 8


class Grant(NamedTuple):
    kind: Kind
    right: Right


TOPIC, GROUP = Grant(Kind.TOPIC, Right.READ), Grant(Kind.GROUP, Right.READ)
LEAST = {TOPIC, GROUP}  # in Kafka, READ includes DESCRIBE

_LITERAL, _ALLOW, _EVERYWHERE = 3, 3, "*"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One that grants nothing of itself but to whoever comes by its plaintext port."""
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with KafkaBroker(tmp_path_factory.mktemp("acls"), tls=True, properties=properties) as broker:
        yield broker


async def give(broker: KafkaBroker, name: str, grants: set[Grant]) -> None:
    """Give the TLS user these rights on the topic and the group of this name."""
    user = f"User:{broker.username}"
    async with topic_admin(broker.bootstrap) as admin:
        for kind, right in grants:
            answer = await admin._send_request(
                CreateAclsRequest(kind, name, _LITERAL, user, _EVERYWHERE, right, _ALLOW),
            )
            assert [code for code, *_ in answer.creation_responses] == [0]


def daemon_for(broker: KafkaBroker, name: str, directory: Path) -> Daemon:
    directory.mkdir(exist_ok=True)
    keys = {
        **sasl(broker.secured), "kafka.topics": name, "kafka.group_id": name, "sink.url": str(directory / "data"),
        "kafka.session_timeout": "6s", "kafka.heartbeat_interval": "1s", "kafka.rebalance_timeout": "10s",
        "batch.interval": "1s",
    }  # fmt: skip
    return Daemon("a", directory, keys, {PASSWORD: broker.password})


async def test_reading_the_topic_and_the_group_is_enough(broker: KafkaBroker, tmp_path: Path) -> None:
    name = "enough"
    async with topic_admin(broker.bootstrap) as admin:
        await create_topic(admin, name, PARTITIONS)
    written = await fill(broker.bootstrap, name, PARTITIONS, 300)
    await give(broker, name, LEAST)
    daemon = daemon_for(broker, name, tmp_path)
    try:
        await daemon.start_ready()
        await caught_up(broker.bootstrap, name, name, ends(written.records))
        assert await daemon.stop() == 0
        # Asks where the leader epoch of the committed position ends.
        await daemon.start_ready()
        assert await daemon.stop() == 0
    finally:
        daemon.kill()
    assert sum(len(it.rows) for it in in_directory(tmp_path / "data")) == len(written.ids)
    assert '"level": "ERROR"' not in daemon.log_text()


MISSING = {
    "no-topic": ({GROUP}, "READ on the topic"),
    "topic-described-only": ({GROUP, Grant(Kind.TOPIC, Right.DESCRIBE)}, "READ on the topic"),
    "no-group": ({TOPIC}, "READ on the group"),
    "group-described-only": ({TOPIC, Grant(Kind.GROUP, Right.DESCRIBE)}, "READ on the group"),
}


async def test_what_is_missing_is_said_and_the_daemon_goes_on_once_it_is_given(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    await asyncio.gather(*(goes_on(broker, tmp_path / name, name, *case) for name, case in MISSING.items()))


async def goes_on(broker: KafkaBroker, directory: Path, name: str, grants: set[Grant], wanted: str) -> None:
    async with topic_admin(broker.bootstrap) as admin:
        await create_topic(admin, name, PARTITIONS)
    written = await fill(broker.bootstrap, name, PARTITIONS, 100)
    await give(broker, name, grants)
    daemon = daemon_for(broker, name, directory)
    try:
        daemon.start()
        status = await daemon.until(lambda status: status.source_error)
        assert wanted in (status.source_error or "")
        assert name in (status.source_error or "")
        errors = [line for line in map(json.loads, daemon.log_text().splitlines()) if line["level"] == "ERROR"]
        assert wanted in errors[0]["message"]
        assert all("grant" in line["message"] for line in errors)

        await give(broker, name, LEAST - grants)
        await caught_up(broker.bootstrap, name, name, ends(written.records))
        assert await daemon.stop() == 0
    finally:
        daemon.kill()


async def test_check_knows_whether_the_collector_may_produce_and_writes_nothing(broker: KafkaBroker) -> None:
    name = "produced"
    async with topic_admin(broker.bootstrap) as admin:
        await create_topic(admin, name, PARTITIONS)
    keys = {**sasl(broker.secured), "collect.topic": name}
    environ = {PASSWORD: broker.password, **{variable(key): value for key, value in keys.items()}}
    config = load(environ=environ).config

    async def verdict() -> tuple[Verdict, str]:
        found = {it.check: it for it in await produce_probe.look(config)}["collect.topic"]
        return found.verdict, found.seen + found.todo

    for grants, wanted in ((set(), "WRITE"), ({Grant(Kind.TOPIC, Right.DESCRIBE)}, "may not write to topic produced")):
        await give(broker, name, grants)
        seen, told = await verdict()
        assert (seen, wanted in told) == (Verdict.WRONG, True), told
    await give(broker, name, {Grant(Kind.TOPIC, Right.WRITE)})
    assert (await verdict())[0] is Verdict.OK
    async with open_inspector(KafkaConfig(bootstrap_servers=(broker.bootstrap,), topics=(name,))) as reader:
        [log] = (await reader.log_ranges([TopicPartition(name, 0)])).values()
    assert (log.start, log.end) == (0, 0), "nothing was written, not even the end of a transaction"
