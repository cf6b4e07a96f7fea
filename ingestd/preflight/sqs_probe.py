"""Asks SQS for what a run needs, without receiving a message; ``preflight.queue`` judges the answers."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ingestd.config.model import SqsConfig
from ingestd.core.errors import ConfigError, SourceError
from ingestd.preflight.queue import QueueFacts
from ingestd.sources.sqs.address import queue_address
from ingestd.sources.sqs.client import SqsClient

_NO_RECEIPT = "ingestd-check"  # names no receipt: AWS answers whether we may, and nothing changes

T = TypeVar("T")


async def look(config: SqsConfig) -> QueueFacts:
    """Ask every question."""
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
    return facts


async def _caught(question: Awaitable[T]) -> T | SourceError:
    try:
        return await question
    except SourceError as error:
        return error
