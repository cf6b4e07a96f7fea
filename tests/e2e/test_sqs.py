"""The daemon on an SQS queue: each message in one row or in quarantine, whatever is killed or refused."""

import asyncio
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.e2e.aws_worlds import QueueWorld
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.events import event_id, events
from tests.e2e.message_queue import emptied, read_rows, settings, text
from tests.services.aws_proxy import AwsProxy
from tests.services.elasticmq import ElasticMQ
from tests.services.ministack import Ministack
from tests.services.seaweed import S3Store

pytestmark = pytest.mark.services

BAD_EVERY = 100


class MakeWorld(Protocol):
    def __call__(self, suffix: str = "", **options: Any) -> QueueWorld: ...


@pytest.fixture
def make_world(elasticmq: ElasticMQ, s3: S3Store, bucket: str, tmp_path: Path) -> Iterator[MakeWorld]:
    """A function that makes the world of a test; its daemons are killed after it."""
    made: list[QueueWorld] = []

    def make(suffix: str = "", **options: Any) -> QueueWorld:
        url = elasticmq.create_queue(f"queue-{uuid.uuid4().hex[:12]}{suffix}", **options)
        made.append(QueueWorld(elasticmq, s3, bucket, tmp_path, url))
        return made[-1]

    yield make
    for world in made:
        world.close()


async def start(daemon: Daemon) -> None:
    daemon.start()
    await daemon.until(lambda status: status.ready)


@pytest.mark.parametrize("suffix", ["", ".fifo"], ids=["standard", "fifo"])
async def test_every_message_is_in_one_row_or_in_quarantine(make_world: MakeWorld, suffix: str) -> None:
    world = make_world(suffix)
    world.queue.send(200)
    daemon = world.daemon("a")

    await start(daemon)
    world.queue.send(100)
    await world.queue.emptied()

    assert await daemon.stop() == 0
    tally = world.check()
    assert (tally.messages, tally.quarantined, tally.fences) == (300, 300 // BAD_EVERY, 0)
    assert tally.manifests == tally.objects


async def test_two_daemons_share_a_queue(make_world: MakeWorld) -> None:
    world = make_world()
    daemons = [world.daemon("a"), world.daemon("b")]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        await daemon.until(lambda status: status.ready)
    async with world.sending():
        await asyncio.sleep(2)
    await world.queue.emptied()

    assert [await daemon.stop() for daemon in daemons] == [0, 0]
    assert world.check().messages


async def test_a_stop_hides_no_message_that_comes_meanwhile(make_world: MakeWorld, elasticmq: ElasticMQ) -> None:
    """They land, or others receive them at once and for the first time."""
    world = make_world()
    stopped, heir = world.daemon("a", {"sqs.wait": "20s", "sqs.visibility": "10m"}), world.daemon("b")
    await start(stopped)
    stopped.signal(signal.SIGTERM)
    await asyncio.sleep(1)
    world.queue.send(200)
    assert await stopped.ended(10) == 0

    visible, hidden = await asyncio.to_thread(elasticmq.depth, world.queue.url)
    assert (visible < 200, hidden) == (True, 0)
    await start(heir)
    await world.queue.emptied(10)
    assert await heir.stop() == 0
    tally = world.check()
    assert (tally.messages, tally.fences) == (200, 0)


async def test_what_a_killed_daemon_held_comes_to_the_next_once(make_world: MakeWorld) -> None:
    world = make_world()
    killed, heir = world.daemon("a"), world.daemon("b")
    await start(killed)
    async with world.sending():
        await killed.until(lambda status: status.queue is not None and status.queue.held > 0)
        killed.kill()
    await start(heir)
    await world.queue.emptied(90)

    assert await heir.stop() == 0
    world.check()


async def test_a_service_that_is_killed_is_waited_for(make_world: MakeWorld, elasticmq: ElasticMQ) -> None:
    world = make_world()
    daemon = world.daemon("a")
    await start(daemon)
    world.queue.send(100)

    elasticmq.kill()
    await daemon.until(lambda status: status.source_error)
    elasticmq.start()
    await asyncio.to_thread(world.queue.send, 100)
    await world.queue.emptied(90)

    assert await daemon.stop() == 0
    assert world.check().messages == 200


async def test_refusals_cuts_and_lost_answers_double_nothing(make_world: MakeWorld, elasticmq: ElasticMQ) -> None:
    world = make_world()
    async with AwsProxy(elasticmq.port) as proxy:
        daemon = world.daemon("a", {"sqs.endpoint_url": proxy.endpoint})
        await start(daemon)
        proxy.is_over_limit(times=2)
        proxy.fails("ReceiveMessage", 503, times=2)
        proxy.fails("DeleteMessageBatch", times=2)
        proxy.loses_answers("DeleteMessageBatch", times=2)
        proxy.cuts("DeleteMessageBatch", times=1)
        async with world.sending():
            await asyncio.sleep(3)
        await world.queue.emptied()
        assert await daemon.stop() == 0

    expected = {"ReceiveMessage com.amazonaws.sqs#OverLimit": 2, "ReceiveMessage InternalFailure": 2}
    assert {**proxy.fired, **expected} == proxy.fired
    assert sum(count for name, count in proxy.fired.items() if name.startswith("DeleteMessageBatch")) == 5
    world.check()


async def test_a_dry_run_leaves_every_message_to_the_daemon(make_world: MakeWorld, elasticmq: ElasticMQ) -> None:
    dead = elasticmq.create_queue(f"dead-{uuid.uuid4().hex[:12]}")
    world = make_world(redrive=(dead, 4))
    world.queue.send(200)

    told = await world.dry_run()
    summary = told["summary"]
    assert (summary["messages"], summary["rejected"], summary["hidden"]) == (200, 200 // BAD_EVERY, 0)
    assert (summary["emptied"], summary["most_receipts"], summary["problem"]) == (True, 1, None)
    assert await asyncio.to_thread(elasticmq.depth, world.queue.url) == (200, 0)
    assert world.objects() == []
    assert (await world.dry_run())["summary"]["most_receipts"] == 2
    again = (await world.dry_run())["summary"]
    assert again["ended_by"] == "a message has 1 receipt left before it is a dead letter"

    daemon = world.daemon("a")
    await start(daemon)
    await world.queue.emptied()
    assert await daemon.stop() == 0
    assert await asyncio.to_thread(elasticmq.depth, dead) == (0, 0)
    assert world.check().messages == 200


async def test_messages_that_come_back_from_the_dead_letter_queue_land_once(
    make_world: MakeWorld, elasticmq: ElasticMQ
) -> None:
    dead = elasticmq.create_queue(f"dead-{uuid.uuid4().hex[:12]}")
    world = make_world(redrive=(dead, 1))
    world.queue.send(50)
    former = set(world.queue.sent)
    assert await asyncio.to_thread(world.queue.kill_messages, dead) == 50
    daemon = world.daemon("a")
    await start(daemon)

    await asyncio.to_thread(world.queue.redrive, dead)
    await world.queue.emptied()

    assert await daemon.stop() == 0
    assert former.isdisjoint(world.queue.sent)
    assert await asyncio.to_thread(elasticmq.depth, dead) == (0, 0)
    assert world.check().messages == 50


async def test_events_that_sns_publishes_become_rows(
    ministack: Ministack, s3: S3Store, bucket: str, tmp_path: Path
) -> None:
    name = f"sns-{uuid.uuid4().hex[:12]}"
    queue, topic = ministack.create_queue(name), ministack.create_topic(name)
    ministack.subscribe(topic, queue)
    numbered = list(islice(events(), 50))
    with closing(ministack.topics()) as topics:
        for _, _, value in numbered:
            topics.publish(TopicArn=topic, Message=text(value))
    daemon = Daemon("a", tmp_path, settings(queue.url, s3, bucket) | {"sqs.envelope": "sns"}, credentials(s3))
    try:
        await start(daemon)
        await emptied(lambda: ministack.depth(queue))
        assert await daemon.stop() == 0
    finally:
        daemon.kill()

    assert sorted(row["event_id"] for row in read_rows(s3, bucket)) == [event_id(number) for number, _, _ in numbered]
