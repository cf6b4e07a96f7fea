"""Produces records in transactions, each with a note that is committed with it, for `ingestd requeue`.

The note is the metadata of an offset of the target's first partition, in a group with the name of the transactional id
that nobody joins. The offset itself is not used.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import RecordsRefused, SourceError
from ingestd.core.records import PlainRecord
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import (
    ConnectionGroup,
    CoordinationType,
    Producer,
    StableOffsetRequest,
)
from ingestd.sources.kafka.auth import client_options
from ingestd.sources.kafka.bootstrap import Cluster, connect
from ingestd.sources.kafka.errors import FAILURES, describe, permanent_error
from ingestd.sources.kafka.refusals import REFUSED_RECORDS
from ingestd.sources.kafka.retry import retry

# Until the broker aborts a transaction that was begun and not ended. Until then read_committed readers wait.
TIMEOUT_S = 60.0

_ANSWER_TIMEOUT_S = 60.0  # to connect, which waits for the end of a former transaction, and for each transaction
_CLOSE_S = 5.0  # to abort a transaction, and to close the connection
_RETRY_MAX_S = 1.0
_BATCH_BYTES = 64 << 10  # well below what a topic takes at once (max.message.bytes); a larger record goes alone
_REQUEST_BYTES = 256 << 20  # of one record: the topic's own limit applies
_RUN_AGAIN = "run it again: nothing is produced twice"
_REFUSALS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (kafka_errors.ProducerFenced, kafka_errors.InvalidProducerEpoch),
        f"another requeue to topic {{topic}} has begun, or a transaction took more than {TIMEOUT_S:g} s",
        f"see whether another one runs; {_RUN_AGAIN}",
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
        (kafka_errors.InvalidTimestampError,),  # all records of a transaction have the time of our clock
        "topic {topic} refuses the time of this machine's clock",
        "set the clocks of this machine and of the brokers, or raise message.timestamp.before.max.ms and "
        "message.timestamp.after.max.ms of the topic",
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


async def find_topic(config: KafkaConfig, topic: str) -> Cluster:
    """The cluster, and how many partitions `topic` has. ``SourceError`` where it has none, or no broker answers."""
    errors = ErrorState()
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            return await connect(config, client_options(config), [topic], errors)
    except TimeoutError:
        raise SourceError(f"{errors.error or 'Kafka does not answer'}, after {_ANSWER_TIMEOUT_S:g} s") from None


@asynccontextmanager
async def open_transactions(config: KafkaConfig, topic: str, name: str) -> AsyncIterator["Transactions"]:
    """Begin to produce to `topic` under the transactional id `name`; every other producer with that id is fenced.

    ``SourceError`` where the topic does not exist, or no broker answers, or a right is missing.
    """
    transactions = Transactions(config, topic, name)
    try:
        await transactions.start()
        yield transactions
    finally:
        await transactions.close()


class Transactions:
    """One transaction at a time. Errors are ``SourceError``; after one, nothing can be produced before a restart."""

    def __init__(self, config: KafkaConfig, topic: str, name: str) -> None:
        self._config = config
        self._topic = topic
        self._name = name
        self._producer = self._make_producer()

    async def start(self) -> None:
        """Fence every other producer with this id."""
        with _mapped(f"connecting to Kafka to produce to topic {self._topic}", self._topic, self._name):
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                await self._producer.start()

    async def restart(self) -> None:
        """Start with a new producer: after records were refused, aiokafka continues with sequence numbers of theirs."""
        await self.close()
        self._producer = self._make_producer()
        await self.start()

    async def close(self) -> None:
        """Close within a bound: aiokafka waits for ever for records that cannot be sent."""
        await self._producer.close(_CLOSE_S)

    def _make_producer(self) -> Producer:
        producer: Producer = Producer(
            bootstrap_servers=list(self._config.bootstrap_servers),
            transactional_id=self._name,
            transaction_timeout_ms=int(TIMEOUT_S * 1000),
            acks="all",
            compression_type="lz4",
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            **client_options(self._config),
        )
        return producer

    async def note(self) -> str | None:
        """The note of the last committed transaction of any producer with this id; None where Kafka has none."""
        what, errors = f"reading the offset of group {self._name}", ErrorState()
        with _mapped(what, self._topic, self._name):
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                return await retry(
                    self._stable_note,
                    what,
                    errors,
                    message=lambda error: f"{what} failed: {describe(error)}",
                    permanent=lambda error: _refusal(error, self._topic, self._name),
                    max_s=_RETRY_MAX_S,
                )

    async def produce(self, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
        """Commit records, each with its partition, in one transaction.

        ``RecordsRefused`` where none was produced because the topic does not accept one of them. After another error,
        the transaction may be committed.
        """
        with _mapped(f"producing to topic {self._topic}", self._topic, self._name):
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
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
        unacknowledged: list[Any] = []
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
                unacknowledged.append(await sent)
        finally:
            outcomes = await asyncio.gather(*unacknowledged, return_exceptions=True)
        if failed := [outcome for outcome in outcomes if isinstance(outcome, BaseException)]:
            raise min(failed, key=_rank)

    async def _abort(self) -> None:
        """Abort the transaction, where possible, so that readers need not wait until the broker does."""
        self._producer.discard_errors()
        # aiokafka asserts that there is something to abort.
        with contextlib.suppress(*FAILURES, AssertionError):
            async with asyncio.timeout(_CLOSE_S):
                await self._producer.abort_transaction()

    async def _stable_note(self) -> str | None:
        client = self._producer.client
        node = await client.coordinator_lookup(CoordinationType.GROUP, self._name)
        request = StableOffsetRequest(self._name, self._topic)
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        return StableOffsetRequest.metadata(answer, self._name)


@contextmanager
def _mapped(what: str, topic: str, name: str) -> Iterator[None]:
    """Turn every error of aiokafka into a ``SourceError``."""
    try:
        yield
    except FAILURES as error:
        if isinstance(error, TimeoutError):
            raise SourceError(f"{what}: no answer in {_ANSWER_TIMEOUT_S:g} s", hint=_RUN_AGAIN) from error
        raise _refusal(error, topic, name) or SourceError(
            f"{what} failed: {describe(error)}", hint=_RUN_AGAIN
        ) from error


def _rank(error: BaseException) -> int:
    """Which of a transaction's errors to raise: the lowest.

    A smaller transaction helps only where records were refused and nothing else is wrong. After a refused batch, the
    next batches of its partition fail by their sequence numbers.
    """
    if isinstance(error, kafka_errors.OutOfOrderSequenceNumber):
        return 2
    return 1 if type(error) in REFUSED_RECORDS else 0


def _refusal(error: BaseException, topic: str, name: str) -> SourceError | None:
    """The error to raise where retrying at once cannot help; None otherwise."""
    cause = error.__cause__ if isinstance(error.__cause__, FAILURES) else error
    if (refused := REFUSED_RECORDS.get(type(cause))) is not None:
        headers = ", with the headers that tell its origin" if refused.too_large else ""
        return RecordsRefused(f"{refused.reason.format(topic=topic)}{headers}", hint=refused.hint)
    for kinds, message, hint in _REFUSALS:
        if isinstance(cause, kinds):
            return SourceError(message.format(topic=topic, name=name), hint=hint)
    return permanent_error(cause)
