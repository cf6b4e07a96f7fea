"""What `ingestd check` says of the topic that the collector produces to. Pure."""

from collections.abc import Iterator, Mapping

import msgspec

from ingestd.config.model import CollectConfig
from ingestd.core.errors import SourceError
from ingestd.core.formatting import number
from ingestd.core.records import TopicAccess
from ingestd.preflight import CheckFinding, failed, note, ok, wrong

#: The topic's settings that matter to a producer.
SETTINGS = ("max.message.bytes", "min.insync.replicas")

_CHECK = "collect.topic"
_RECORD_OVERHEAD = 512  # bytes that a record takes besides its value in a batch of its own: key and headers


class ProduceFacts(msgspec.Struct):
    """The answers to what was asked of the topic."""

    access: TopicAccess | SourceError
    is_idempotent: bool | SourceError  # whether an idempotent producer may begin
    settings: Mapping[str, str] | SourceError | None  # None where our user may not read them


def findings(collect: CollectConfig, facts: ProduceFacts) -> Iterator[CheckFinding]:
    """Whether events that are produced to the topic would be acknowledged. Nothing was written to know it."""
    topic, access = collect.topic, facts.access
    if isinstance(access, SourceError):
        yield failed(_CHECK, access)
        return
    if not access.may_write:
        yield wrong(_CHECK, f"this user may not write to topic {topic}", "grant WRITE on it")
    elif isinstance(facts.is_idempotent, SourceError):
        yield failed(_CHECK, facts.is_idempotent)
    elif not facts.is_idempotent:
        todo = "grant IDEMPOTENT_WRITE on the cluster"
        yield wrong(_CHECK, "this user may not use an idempotent producer", todo)
    else:
        count = number(len(access.in_sync), "partition")
        yield ok(_CHECK, f"this user may produce to topic {topic}, which has {count}; nothing was written")
    if isinstance(facts.settings, SourceError):
        yield failed("collect.topic_settings", facts.settings)
    elif facts.settings is None:
        todo = f"grant DESCRIBE_CONFIGS on it, or look at {' and '.join(SETTINGS)} yourself"
        yield note("collect.topic_settings", f"the settings of topic {topic} may not be read by this user", todo)
    else:
        yield from _settings(collect, access, {name: int(value) for name, value in facts.settings.items()})


def _settings(collect: CollectConfig, access: TopicAccess, numbers: Mapping[str, int]) -> Iterator[CheckFinding]:
    topic, least = collect.topic, numbers.get("min.insync.replicas", 1)
    short = [partition for partition, count in access.in_sync.items() if count < least]
    if short:
        seen = f"{number(len(short), 'partition')} of topic {topic} have fewer than {least} replicas in sync"
        todo = "start the brokers that are away: until then Kafka refuses events (acks=all)"
        yield wrong("collect.replicas", seen, todo)
    elif least == 1:
        seen = f"topic {topic} has min.insync.replicas = 1: one broker that is lost for good takes events with it"
        yield note("collect.replicas", seen, "give it three replicas and min.insync.replicas = 2")
    else:
        yield ok("collect.replicas", f"topic {topic} acknowledges events with {least} replicas")
    most = numbers.get("max.message.bytes", 0)
    if most and most < collect.max_body + _RECORD_OVERHEAD:
        seen = f"topic {topic} takes messages of up to {most:,} bytes, less than collect.max_body = {collect.max_body}"
        yield note("collect.message_size", seen, "raise its max.message.bytes: larger events are refused or kept apart")
