"""The group's offsets, as another tool sees and sets them."""

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest

from tests.e2e.daemon import DEADLINE
from tests.services.kafka import topic_admin

_POLL = 0.1


class CommittedOffsets:
    """The group's committed offsets by partition, as another tool sees them, asked for again and again.

    The connection lasts as long as it answers: to open one costs the test and the broker more than all else.
    """

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._bootstrap, self._group, self._topic = bootstrap, group, topic
        self._admin: Any = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def get(self) -> dict[int, int]:
        """The offsets as of now."""
        try:
            if self._admin is None:
                self._admin = await self._open.enter_async_context(topic_admin(self._bootstrap))
            found: dict[TopicPartition, Any] = await self._admin.list_consumer_group_offsets(self._group)
        except BaseException:
            await self._close()
            raise
        return {each.partition: position.offset for each, position in found.items() if each.topic == self._topic}

    async def _close(self) -> None:
        self._admin = None
        await self._open.aclose()


async def committed(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """The group's committed offsets by partition, as another tool sees them."""
    async with CommittedOffsets(bootstrap, group, topic) as offsets:
        return await offsets.get()


async def caught_up(
    bootstrap: str, group: str, topic: str, wanted: Mapping[int, int], deadline: float = DEADLINE
) -> None:
    """Wait until the group has committed all of `wanted`."""
    limit = time.monotonic() + deadline
    found: dict[int, int] = {}
    async with CommittedOffsets(bootstrap, group, topic) as offsets:
        while True:
            with suppress(KafkaError):  # a new broker has no coordinator yet, and of three brokers some may be down
                found = await offsets.get()
            if found == dict(wanted):
                return
            assert time.monotonic() < limit, f"after {deadline:g} s {found} is committed, not {wanted}"
            await asyncio.sleep(_POLL)


def ends(records: Mapping[int, Collection[int]]) -> dict[int, int]:
    """What a group must have committed that has all of `records`: one past the last, also where markers follow it."""
    return {partition: max(offsets, default=-1) + 1 for partition, offsets in records.items()}


async def until_group_is(wanted: str, bootstrap: str, group: str, deadline: float = DEADLINE) -> None:
    """Wait for a state that its coordinator tells: Stable, Empty, PreparingRebalance, ..."""
    limit = time.monotonic() + deadline
    async with topic_admin(bootstrap) as admin:
        while True:
            (answer,) = await admin.describe_consumer_groups([group])
            found = answer.groups[0][2]
            if found == wanted:
                return
            assert time.monotonic() < limit, f"after {deadline:g} s the group is {found}, not {wanted}"
            await asyncio.sleep(0.05)


async def delete_group(bootstrap: str, group: str) -> None:
    """Remove a group that has no members, with its offsets."""
    async with topic_admin(bootstrap) as admin:
        coordinator = await admin.find_coordinator(group)
        answer = await admin._send_request(DeleteGroupsRequest([group]), coordinator)
    for _, code in answer.results:
        if code:
            raise for_code(code)(group)


async def reset(bootstrap: str, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Set the offsets of a group that has no members, by partition. That wipes what ingestd had noted with them."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        wanted = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        consumer.assign(list(wanted))
        await consumer.commit(wanted)
    finally:
        await consumer.stop()
