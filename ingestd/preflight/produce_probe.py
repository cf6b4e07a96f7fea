"""Asks Kafka whether the collector could produce, without producing; ``preflight.producing`` judges the answers."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from msgspec.structs import replace

from ingestd import inspection
from ingestd.config.model import Config
from ingestd.core.errors import ConfigError, SourceError
from ingestd.preflight import CheckFinding, failed
from ingestd.preflight.producing import SETTINGS, ProduceFacts, findings
from ingestd.sources.kafka import bootstrap_check

T = TypeVar("T")


async def look(config: Config) -> list[CheckFinding]:
    """Whether events would be acknowledged. No event is written to try it: it would be a row for all readers."""
    topic = config.collect.topic
    only = replace(config, kafka=replace(config.kafka, topics=(topic,)))
    try:
        if isinstance(trouble := (await bootstrap_check.partitions(only.kafka))[topic], SourceError):
            if trouble.hint is not None:
                trouble = SourceError(trouble.args[0], hint="create it, or correct collect.topic; grant WRITE on it")
            return [failed("collect.topic", trouble)]
        async with inspection.open_inspector(only) as reader:
            access, is_idempotent, settings = await asyncio.gather(
                _caught(reader.topic_access(topic)),
                _caught(reader.may_produce_idempotently()),
                _caught(reader.topic_settings(SETTINGS)),
            )
    except (ConfigError, SourceError) as error:
        return [failed("collect.topic", error)]
    known = settings if isinstance(settings, SourceError) else settings.get(topic)
    return list(findings(config.collect, ProduceFacts(access, is_idempotent, known)))


async def _caught(question: Awaitable[T]) -> T | SourceError:
    try:
        return await question
    except SourceError as error:
        return error
