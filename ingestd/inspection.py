"""What the commands open beside the daemon's own parts: to look at a source, to compare with it, to put records back.

Clients are imported where they are used, because each takes its time to load.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ingestd import collector_wiring, wiring
from ingestd.config.model import Config
from ingestd.sinks.base import Sink
from ingestd.sources.base import Source

if TYPE_CHECKING:
    from ingestd.requeue.unfenced import UnfencedTarget
    from ingestd.sources.kafka import Inspector
    from ingestd.sources.kinesis.port import KinesisClient
    from ingestd.verify.log_reader import LogInspector


@asynccontextmanager
async def open_read_only_source(config: Config, sink: Sink) -> AsyncIterator[Source]:
    """The source that ``source`` names, which joins no group and commits nothing. SourceError where it is in use."""
    if config.source == "collector":
        from ingestd.sources.journal.source import ReadOnlyJournalSource  # noqa: PLC0415

        journal = collector_wiring.make_journal(config.collect)
        try:
            await journal.open()
            yield ReadOnlyJournalSource(journal, config.collect.topic)
        finally:
            await journal.close()
    elif config.source == "kafka":
        yield wiring.make_kafka_onlooker(config)
    elif config.source == "kinesis":
        yield wiring.make_kinesis_source(config, sink, read_only=True)
    else:
        yield wiring.make_source(config, sink)


@asynccontextmanager
async def open_kinesis(config: Config) -> "AsyncIterator[KinesisClient]":
    """A client of the stream that ``kinesis.stream`` names."""
    from ingestd.sources.kinesis.client import AwsKinesisClient  # noqa: PLC0415

    client = AwsKinesisClient(config.kinesis)
    try:
        yield client
    finally:
        await client.close()


def stream_name(config: Config) -> str:
    """The name of the stream or the queue, which is that of the topic in rows and objects."""
    if config.source == "kinesis":
        return config.kinesis.stream
    from ingestd.sources.sqs.address import queue_address  # noqa: PLC0415

    return queue_address(config.sqs).name


@asynccontextmanager
async def open_sender(config: Config, to: str | None) -> "AsyncIterator[UnfencedTarget]":
    """What puts records back into the stream or the queue, or into another stream."""
    if config.source == "kinesis":
        from ingestd.sources.kinesis.sender import KinesisSender  # noqa: PLC0415

        kinesis = replace(config.kinesis, stream=to or config.kinesis.stream)
        async with open_kinesis(replace(config, kinesis=kinesis)) as client:
            yield KinesisSender(client)
        return
    from ingestd.sources.sqs.sender import SqsSender  # noqa: PLC0415

    sender = SqsSender(config.sqs)
    try:
        yield sender
    finally:
        await sender.close()


def open_log(config: Config) -> "AbstractAsyncContextManager[LogInspector]":
    """What `ingestd verify` compares objects with: the stream, or the journal of a collector that does not run."""
    if config.source == "kinesis":
        return _open_kinesis_inspector(config)
    if config.source != "collector":
        return open_inspector(config)
    from ingestd.sources.journal.inspector import open_journal_inspector  # noqa: PLC0415

    collect = config.collect
    return open_journal_inspector(collector_wiring.journal_path(collect), int(collect.journal_bytes), collect.topic)


@asynccontextmanager
async def _open_kinesis_inspector(config: Config) -> "AsyncIterator[LogInspector]":
    from ingestd.sources.kinesis.inspector import open_kinesis_inspector  # noqa: PLC0415

    sink = wiring.make_sink(config)
    try:
        async with open_kinesis_inspector(config.kinesis, wiring.make_state_store(config, sink)) as inspector:
            yield inspector
    finally:
        await sink.close()


def open_inspector(config: Config) -> "AbstractAsyncContextManager[Inspector]":
    """A client that inspects topics and the group without joining it."""
    from ingestd.sources.kafka import open_inspector  # noqa: PLC0415

    return open_inspector(config.kafka)
