"""Produces records in transactions, each with a note that is committed with it, for ``ingestd requeue``.

The note is the metadata of an offset. It is in a group of the same name as the transactional id, which nobody joins,
and stands at the target's first partition; the offset itself means nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import PlainRecord
from ingestd.sources.kafka.bootstrap import (
    FAILURES,
    RETRY_INITIAL_S,
    Cluster,
    client_options,
    connect,
    describe,
    level,
    meaning,
)
from ingestd.sources.kafka.error_state import ErrorState

# Until the broker aborts a transaction that was begun and left. Readers of what is committed wait for as long.
TIMEOUT_S = 60.0

_WITHIN_S = 60.0  # for the connection, which waits for the end of a former transaction, and for each transaction
_CLOSE_S = 5.0  # for the end of a transaction that failed, and of the connection
_BATCH_BYTES = 64 << 10  # well below what a topic takes at once (max.message.bytes); a larger record goes alone
_REQUEST_BYTES = 256 << 20  # of one record: what is too large is the topic's to say
_AGAIN = "run it again: nothing is produced twice"
_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_REFUSALS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (kafka_errors.ProducerFenced, kafka_errors.InvalidProducerEpoch),
        f"another requeue to topic {{topic}} has begun, or a transaction took more than {TIMEOUT_S:g} s",
        f"see whether another one runs; {_AGAIN}",
    ),
    (
        (kafka_errors.TransactionalIdAuthorizationFailed,),
        "Kafka does not let us produce under the transactional id {name}",
        "grant WRITE and DESCRIBE on it, or on all transactional ids that begin with kafka.group_id",
    ),
    (
        (kafka_errors.GroupAuthorizationFailedError,),
        "Kafka does not let us commit an offset for group {name}",
        "grant READ on it, or on all groups that begin with kafka.group_id",
    ),
    (
        (kafka_errors.TopicAuthorizationFailedError,),
        "Kafka does not let us produce to topic {topic}",
        "grant WRITE and READ on it",
    ),
    (
        (kafka_errors.InvalidTransactionTimeout,),
        "Kafka refuses how long a transaction may take",
        f"raise the broker's transaction.max.timeout.ms to {TIMEOUT_S * 1000:.0f} or more",
    ),
    (
        (NotImplementedError,),
        "the broker cannot tell whether the transaction of an offset has ended",
        "Kafka 2.5 or newer is needed",
    ),
)
_UNSTABLE = 88  # a code that aiokafka does not know: the offset is part of a transaction that has not ended


async def find_topic(config: KafkaConfig, topic: str) -> Cluster:
    """The cluster, and how many partitions `topic` has. ``SourceError`` where it has none, or no broker answers."""
    troubles = ErrorState()
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await connect(config, client_options(config), [topic], troubles)
    except TimeoutError:
        raise SourceError(f"{troubles.error or 'Kafka does not answer'}, after {_WITHIN_S:g} s") from None


@asynccontextmanager
async def open_transactions(config: KafkaConfig, topic: str, name: str) -> AsyncIterator["Transactions"]:
    """Begin to produce to `topic` under the transactional id `name`, which ends all others that do.

    ``SourceError`` where the topic does not exist, or no broker answers, or a right is missing.
    """
    options = client_options(config)
    producer: Any = AIOKafkaProducer(
        bootstrap_servers=list(config.bootstrap_servers),
        transactional_id=name,
        transaction_timeout_ms=int(TIMEOUT_S * 1000),
        acks="all",
        compression_type="lz4",
        max_batch_size=_BATCH_BYTES,
        max_request_size=_REQUEST_BYTES,
        **options,
    )
    try:
        with _mapped(f"connecting to Kafka to produce to topic {topic}", topic, name):
            async with asyncio.timeout(_WITHIN_S):
                await producer.start()
        yield Transactions(producer, topic, name)
    finally:
        await _close(producer)


class Transactions:
    """One at a time. Errors are ``SourceError``; after one nothing more is produced."""

    def __init__(self, producer: Any, topic: str, name: str) -> None:
        self._producer = producer
        self._topic = topic
        self._name = name

    async def note(self) -> str | None:
        """Of the last transaction that was committed, whoever did it; None where there is none, or no longer."""
        what, troubles = f"reading the offset of group {self._name}", ErrorState()
        with _mapped(what, self._topic, self._name):
            async with asyncio.timeout(_WITHIN_S):
                while True:
                    try:
                        return await self._stable_note()
                    except FAILURES as error:
                        if _refusal(error, self._topic, self._name) is not None:
                            raise
                        troubles.begin(what, f"{what} fails: {describe(error)}", level=level(error))
                    await asyncio.sleep(RETRY_INITIAL_S)

    async def produce(self, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
        """One transaction of records, each with its partition. Where this fails, it may be committed all the same."""
        with _mapped(f"producing to topic {self._topic}", self._topic, self._name):
            async with asyncio.timeout(_WITHIN_S):
                try:
                    await self._producer.begin_transaction()
                    await self._send(records)
                    place = KafkaPartition(self._topic, 0)
                    await self._producer.send_offsets_to_transaction({place: (0, note)}, self._name)
                except BaseException:
                    await self._abort()
                    raise
                await self._producer.commit_transaction()

    async def _send(self, records: Sequence[tuple[int, PlainRecord]]) -> None:
        underway: list[Any] = []
        try:
            for partition, record in records:
                sent = self._producer.send(
                    self._topic,
                    value=record.value,
                    key=record.key,
                    partition=partition,
                    timestamp_ms=record.timestamp,
                    headers=list(record.headers),
                )
                underway.append(await sent)
        finally:
            outcomes = await asyncio.gather(*underway, return_exceptions=True)
        for (_, record), outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, _TOO_LARGE):
                raise SourceError(
                    f"topic {self._topic} refuses the record that was at offset {record.offset} as too large",
                    hint="headers with its origin were added: raise max.message.bytes of the topic",
                ) from outcome
            if isinstance(outcome, BaseException):
                raise outcome

    async def _abort(self) -> None:
        """Let readers go on at once, where that can be done; else the broker does it in the end."""
        _look_at_failure(self._producer)
        # aiokafka asserts that there is something to abort.
        with contextlib.suppress(*FAILURES, AssertionError):
            async with asyncio.timeout(_CLOSE_S):
                await self._producer.abort_transaction()

    async def _stable_note(self) -> str | None:
        client = self._producer.client
        node = await client.coordinator_lookup(CoordinationType.GROUP, self._name)
        request = _StableOffset(self._name, self._topic)
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        [(_, [(_, offset, _, note, code, _)], _)] = answer.topics or [("", [(0, 0, 0, "", 0, {})], {})]
        code = answer.error_code or code
        if code == _UNSTABLE:
            raise kafka_errors.ConcurrentTransactions
        if code:
            raise kafka_errors.for_code(code)(self._name)
        return (note or "") if offset >= 0 else None


async def _close(producer: Any) -> None:
    """Without waiting for what cannot be sent: aiokafka would, for ever."""
    for close in (producer.stop, producer.client.close):
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(_CLOSE_S):
                await close()
    _look_at_failure(producer)


def _look_at_failure(producer: Any) -> None:
    """What nobody has looked at would be reported when it is collected, after it has been told by another way."""
    unsent = [batch._drain_waiter for batches in producer._message_accumulator._batches.values() for batch in batches]
    for future in (producer._txn_manager._transaction_waiter, *unsent):
        if future is not None and future.done() and not future.cancelled():
            future.exception()


@contextmanager
def _mapped(what: str, topic: str, name: str) -> Iterator[None]:
    """Every error of aiokafka's as one of ours."""
    try:
        yield
    except FAILURES as error:
        if isinstance(error, TimeoutError):
            raise SourceError(f"{what}: no answer in {_WITHIN_S:g} s", hint=_AGAIN) from error
        raise _refusal(error, topic, name) or SourceError(f"{what} fails: {describe(error)}", hint=_AGAIN) from error


def _refusal(error: BaseException, topic: str, name: str) -> SourceError | None:
    """What an error means, where trying again at once would not help."""
    cause = error.__cause__ if isinstance(error.__cause__, FAILURES) else error
    for kinds, message, hint in _REFUSALS:
        if isinstance(cause, kinds):
            return SourceError(message.format(topic=topic, name=name), hint=hint)
    return meaning(cause)


class _StableOffsetAnswer(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _StableOffsetRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _StableOffsetAnswer
    SCHEMA = Schema(
        ("group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class _StableOffset(Request[_StableOffsetRequest]):  # type: ignore[misc]
    """Fetch the offset of a topic's first partition, or be told that a transaction which has it has not ended.

    The versions that aiokafka has answer with the one before it then, for a while after the commit, too.
    """

    API_KEY = 9

    def __init__(self, group: str, topic: str) -> None:
        self._group = group
        self._topic = topic

    def build(self, kind: type[_StableOffsetRequest]) -> _StableOffsetRequest:
        first = [0]
        return kind(self._group, [(self._topic, first, {})], True, {})
