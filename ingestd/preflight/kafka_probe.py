"""Asks Kafka for everything that a run needs, within bounds; ``preflight.cluster`` judges the answers."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Collection, Mapping
from typing import TypeVar

from msgspec.structs import replace

from ingestd import inspection, wiring
from ingestd.capacity.estimate import DAY_S, Traffic
from ingestd.config.model import Config
from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.records import LogRange, Record, TopicPartition
from ingestd.preflight.cluster import SETTINGS, Facts
from ingestd.sources.base import Source
from ingestd.sources.kafka import Inspector, bootstrap_check
from ingestd.sources.kafka.requests import time_of

START_S = 20.0  # until a source can be read from
SAMPLE_S = 10.0
SAMPLE_PARTITIONS = 8
SAMPLE_RECORDS = 100  # of each of them
SAMPLE_BYTES = 16 << 20

T = TypeVar("T")


async def look(config: Config) -> Facts:
    """Ask every question that can be asked, at once where none needs another's answer; takes about a minute at most."""
    facts = Facts()
    try:
        facts.servers = await bootstrap_check.bootstrap(config.kafka)
    except ConfigError as error:
        facts.servers = error
        return facts
    answering = tuple(server for server, cluster in facts.servers.items() if isinstance(cluster, str))
    if not answering:
        return facts
    kafka = replace(config.kafka, bootstrap_servers=answering)
    facts.topics = await _caught(bootstrap_check.partitions(kafka))
    if isinstance(facts.topics, SourceError):
        return facts
    existing = tuple(topic for topic, count in facts.topics.items() if isinstance(count, int))
    if existing:
        known = replace(config, kafka=replace(kafka, topics=existing))
        try:
            async with inspection.open_inspector(known) as reader:
                await _ask(facts, known, reader)
        except SourceError as error:
            facts.trouble = error
    return facts


async def _ask(facts: Facts, config: Config, reader: Inspector) -> None:
    """Ask the brokers that answer."""
    facts.brokers, facts.group, facts.may_join, facts.settings, logs, committed = await asyncio.gather(
        _caught(bootstrap_check.reach(config.kafka, sorted(reader.brokers.values()))),
        _caught(reader.group()),
        _caught(reader.may_join()),
        _caught(reader.topic_settings(SETTINGS)),
        _caught(reader.log_ranges(reader.partitions)),
        _caught(reader.committed(reader.partitions)),
    )
    facts.logs, facts.committed = logs, committed
    if isinstance(logs, SourceError):
        return
    missing = [] if isinstance(committed, SourceError) else [each for each, at in committed.items() if at is None]
    positions = {} if isinstance(committed, SourceError) else committed
    epochs = [(each, at.leader_epoch) for each, at in positions.items() if at and at.leader_epoch is not None]
    facts.epoch_ends, facts.starts, facts.traffic, facts.records = await asyncio.gather(
        _caught(reader.epoch_ends(epochs)),
        _caught(reader.starts(missing, time_of(config.kafka.start))),
        _caught(_traffic(reader, logs)),
        _caught(sample(wiring.make_kafka_onlooker(config), logs)),
    )


async def _traffic(reader: Inspector, logs: Mapping[TopicPartition, LogRange]) -> dict[TopicPartition, Traffic]:
    now = time.time()
    day, hour = await asyncio.gather(
        *(reader.starts(logs.keys(), int((now - seconds) * 1000)) for seconds in (DAY_S, DAY_S / 24))
    )
    return {each: Traffic(log, day[each], hour[each]) for each, log in logs.items()}


async def sample(source: Source, logs: Mapping[TopicPartition, LogRange]) -> dict[TopicPartition, list[Record]]:
    """The last records of some partitions. ``SourceError`` if they cannot be read."""
    tails = {partition: max(logs[partition].start, logs[partition].end - SAMPLE_RECORDS) for partition in _chosen(logs)}
    found: dict[TopicPartition, list[Record]] = defaultdict(list)
    if not tails:
        return found
    try:
        async with asyncio.timeout(START_S):
            await source.start(_IgnoringListener())
        for partition, offset in tails.items():
            source.seek(partition, offset)
        await _read(source, tails, found)
        trouble = source.error
    except TimeoutError:
        raise SourceError(f"reading records: {source.error or 'no answer'}, after {START_S:g} s") from None
    finally:
        await source.stop()
    if trouble is not None:
        raise SourceError(trouble)
    return found


def _chosen(logs: Mapping[TopicPartition, LogRange]) -> list[TopicPartition]:
    """The longest partitions of each topic, evenly over the topics, up to `SAMPLE_PARTITIONS`."""
    longest = sorted(logs, key=lambda each: logs[each].start - logs[each].end)
    rank: Counter[str] = Counter()
    ranked = []
    for partition in longest:
        if logs[partition].end > logs[partition].start:
            ranked.append((rank[partition.topic], partition))
            rank[partition.topic] += 1
    return [partition for _, partition in sorted(ranked)[:SAMPLE_PARTITIONS]]


async def _read(source: Source, tails: Mapping[TopicPartition, int], found: dict[TopicPartition, list[Record]]) -> None:
    """Fetch up to the logs' ends, for at most `SAMPLE_S`. A fetch is never cancelled; an empty one takes a moment."""
    loop = asyncio.get_running_loop()
    until, size = loop.time() + SAMPLE_S, 0
    reached = dict(tails)
    while loop.time() < until and size < SAMPLE_BYTES:
        fetched = await source.fetch()
        for partition, (records, *_) in (fetched or {}).items():
            found[partition] += records
            reached[partition] = records[-1].offset + 1
            size += sum(len(record.value or b"") for record in records)
        ends = {partition: source.end_offset(partition) for partition in tails}
        if all(end is not None and end <= reached[partition] for partition, end in ends.items()):
            return


class _IgnoringListener:
    """A listener that ignores everything: the sample takes seconds."""

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        pass

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        pass

    def on_out_of_range(self, partition: TopicPartition) -> None:
        pass


async def _caught(question: Awaitable[T]) -> T | SourceError:
    try:
        return await question
    except SourceError as error:
        return error
