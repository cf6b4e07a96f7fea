"""Several sources as one keep the contract of sources, with the partitions of all of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ingestd.core.records import TopicPartition, UnsentRecord
from ingestd.sources.base import Capabilities
from ingestd.sources.joint import JointSource
from ingestd.sources.journal.journal import Journal
from ingestd.sources.journal.source import JournalSource
from tests.contract.source_contract import LIMIT, Reader, RecordingListener, SourceContract, World, offsets

WEB, SHOP = TopicPartition("web", 0), TopicPartition("shop", 0)


class Journals:
    """One for each topic."""

    def __init__(self, folder: Path) -> None:
        self.by_topic = {it.topic: Journal(folder / f"{it.topic}.sqlite", 1 << 24) for it in (WEB, SHOP)}

    def source(self) -> JointSource:
        parts = [JournalSource(journal, topic) for topic, journal in self.by_topic.items()]
        return JointSource("both", Capabilities(), parts)

    async def append(self, partition: TopicPartition, values: Sequence[bytes]) -> None:
        await self.by_topic[partition.topic].append([UnsentRecord(1, b"key", value) for value in values])

    async def create_again(self) -> None:
        for journal in self.by_topic.values():
            await journal.close()
            journal.path.unlink()
            await journal.open()


@pytest.fixture
async def journals(ram: Path) -> AsyncIterator[Journals]:
    it = Journals(ram)
    for journal in it.by_topic.values():
        await journal.open()
    yield it
    for journal in it.by_topic.values():
        await journal.close()


class TestJointSource(SourceContract):
    @pytest.fixture
    async def world(self, journals: Journals) -> AsyncIterator[World]:
        source, listener = journals.source(), RecordingListener()
        await source.start(listener)
        yield World(source, listener, (WEB, SHOP), journals.append, journals.create_again, journals.source)
        await source.stop()


async def test_a_part_without_records_does_not_keep_those_of_the_other(journals: Journals) -> None:
    source = journals.source()
    await source.start(RecordingListener())
    source.seek(WEB, 0)
    await journals.append(WEB, [b"a", b"b"])
    assert offsets(await Reader(source).take(WEB, 2)) == [0, 1]
    await source.stop()


async def test_what_was_fetched_before_a_seek_is_not_handed_out_after_it(journals: Journals) -> None:
    source = journals.source()
    await source.start(RecordingListener())
    source.seek(WEB, 0)
    source.seek(SHOP, 0)
    reader = Reader(source)
    await journals.append(SHOP, [b"a"])
    await reader.take(SHOP, 1)
    await journals.append(WEB, [b"a", b"b", b"c"])
    async with asyncio.timeout(LIMIT):
        while WEB not in {partition for fetched in source._fetched.values() for partition in fetched}:
            await (asyncio.sleep(0) if source._fetching else reader.fetch())
            assert not reader.got.get(WEB), "handed out before the seek"
    source.seek(WEB, 1)
    assert offsets(await reader.take(WEB, 2)) == [1, 2]
    await source.stop()
