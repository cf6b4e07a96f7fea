"""Asks SQS for everything that a run needs, within bounds; ``preflight.queue`` judges the answers.

Each receipt of a message counts, and brings it nearer to the dead-letter queue. So messages are received on request
only (--dry-run), and never where the next receipt would be the last one.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from msgspec.structs import replace

from ingestd.config.model import SqsConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError, SourceError
from ingestd.preflight.queue import QueueFacts, max_receive_count
from ingestd.sources.sqs.address import queue_address
from ingestd.sources.sqs.client import SqsClient
from ingestd.sources.sqs.port import Message
from ingestd.sources.sqs.source import SqsSource

SAMPLE_MESSAGES = 100
SAMPLE_REQUESTS = 20
SAMPLE_VISIBILITY = Seconds(30)
SAMPLE_WAIT = Seconds(2)
SAMPLE_S = 20.0
#: Receipts that must be left to a message after that of the sample.
SPARE_RECEIPTS = 2
_NO_RECEIPT = "ingestd-check"  # names no receipt: AWS answers whether we may, and nothing changes

T = TypeVar("T")


async def look(config: SqsConfig, *, sample: bool) -> QueueFacts:
    """Ask every question; with `sample`, receive some messages and show them to others again."""
    facts = QueueFacts()
    try:
        client = SqsClient(config, queue_address(config))
    except ConfigError as error:
        facts.attributes = SourceError(error.message, hint=error.hint)
        return facts
    try:
        facts.attributes = await _caught(client.attributes())
        if isinstance(facts.attributes, SourceError):
            return facts
        extended, deleted = await asyncio.gather(
            _caught(client.extend([_NO_RECEIPT], 0)), _caught(client.delete([_NO_RECEIPT]))
        )
        facts.extend = extended if isinstance(extended, SourceError) else None
        facts.delete = deleted if isinstance(deleted, SourceError) else None
    finally:
        await client.close()
    if sample and facts.extend is None:
        most = max_receive_count(facts.attributes)
        if most is not None and most <= SPARE_RECEIPTS:
            said = f"maxReceiveCount is {most}: a sample would bring messages to the dead-letter queue"
            facts.sample = SourceError(said, hint="raise maxReceiveCount")
        else:
            await _take_sample(facts, config, most)
    return facts


async def _take_sample(facts: QueueFacts, config: SqsConfig, most: int | None) -> None:
    source = SqsSource(replace(config, visibility=SAMPLE_VISIBILITY, wait=SAMPLE_WAIT))
    found: list[Message] = []
    try:
        async with asyncio.timeout(SAMPLE_S):
            await source.start()
            for _ in range(SAMPLE_REQUESTS):
                received = await source.receive()
                found += received or ()
                spent = most is not None and any(it.receive_count + SPARE_RECEIPTS > most for it in received or ())
                if not received or spent or len(found) >= SAMPLE_MESSAGES:
                    break
    except TimeoutError:
        facts.sample = SourceError(source.error or "no answer in time")
    else:
        facts.sample = found
    finally:
        facts.shown = not await source.extend([it.receipt for it in found], 0)
        await source.stop()


async def _caught(question: Awaitable[T]) -> T | SourceError:
    try:
        return await question
    except SourceError as error:
        return error
