"""Sends records to one topic for the collector: acks=all, idempotent, for as long as it takes."""

import asyncio
import logging
from collections.abc import Sequence

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import IngestdError, SourceError
from ingestd.core.records import UnsentRecord
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import Producer
from ingestd.sources.kafka.auth import client_options
from ingestd.sources.kafka.bootstrap import connect
from ingestd.sources.kafka.errors import FAILURES, describe, log_level, permanent_error
from ingestd.sources.kafka.producer_session import BATCH_BYTES, ProducerSession
from ingestd.sources.kafka.retry import Backoff
from ingestd.sources.kafka.sending import Entry, Sending

MAX_BYTES = 64 << 20  # of records that are neither acknowledged nor refused nor withdrawn
LINGER_S = 0.002
_CLOSE_S = 2.0  # to wait for batches on their way when a producer is replaced
_CONNECT, _PRODUCE = "connect", "produce"


class KafkaSender:
    """Sends each record until the topic has it or refuses it for good. Nothing else is given up.

    Records with the same key arrive in the order of `submit`, in the partition that Kafka's default partitioner
    chooses. aiokafka repeats a request with its sequence numbers, so that the log has each record once. A producer that
    cannot go on is replaced: then what had no answer, one batch of a partition at most, may be in the log twice.
    """

    def __init__(
        self, config: KafkaConfig, topic: str, *, linger_s: float = LINGER_S, max_bytes: int = MAX_BYTES
    ) -> None:
        self._config = config
        self._topic = topic
        self._linger_s = linger_s
        self._max_bytes = max_bytes
        self._bytes = 0
        self._number = 0
        self._errors = ErrorState()
        self._waiting: list[Entry] = []  # while there is no session
        self._session: ProducerSession | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def error(self) -> str | None:
        """Why the topic does not acknowledge records now, for people; None while it does."""
        return self._errors.error or (None if self._session else f"not connected to Kafka for topic {self._topic}")

    @property
    def unacknowledged_bytes(self) -> int:
        """Of all records whose end is not known."""
        return self._bytes

    async def start(self) -> None:
        """Begin to connect; returns at once. ``ConfigError`` where the configuration cannot be used."""
        client_options(self._config)
        self._task = asyncio.create_task(self._run())

    async def stop(self, timeout_s: float) -> None:
        """Close within a bound. Sendings that are not done by then fail: a part of them may be in the topic."""
        if (task := self._task) is None:
            return
        self._task = None
        task.cancel()
        await asyncio.wait([task])
        if (session := self._session) is not None:
            self._session = None
            self._waiting += await session.end(timeout_s)
        for entry in self._waiting:
            entry.sending.fail(SourceError("the sender was stopped"))
        self._waiting.clear()

    async def send(self, records: Sequence[UnsentRecord]) -> Sending:
        """Submit records and wait until each is acknowledged or refused. Withdraws them where it is cancelled."""
        sending = self.submit(records)
        try:
            await sending.done
        finally:
            if not sending.done.done() or sending.done.cancelled():
                sending.withdraw()
        return sending

    def submit(self, records: Sequence[UnsentRecord]) -> Sending:
        """Send records after all that were submitted before. ``SourceError`` where too many are unacknowledged."""
        size = sum(len(record.value) + len(record.key or b"") for record in records)
        if self._bytes + size > self._max_bytes:
            raise SourceError(f"{self._bytes} bytes wait for topic {self._topic}, more than {self._max_bytes} may not")
        self._bytes += size
        sending = Sending(records, size, self._release)
        first, self._number = self._number, self._number + len(records)
        entries = [Entry(first + at, sending, at) for at in range(len(records))]
        if self._session is not None:
            self._session.add(entries)
        else:
            self._waiting += entries
        return sending

    def _release(self, size: int) -> None:
        self._bytes -= size

    async def _run(self) -> None:
        delay = Backoff()
        while True:
            session = await self._connect(delay)
            waiting, self._waiting = self._waiting, []
            session.add(entry for entry in waiting if entry.sending.is_open(entry.at))
            self._session = session
            error = await session.failure
            self._errors.begin(_PRODUCE, f"producing to topic {self._topic} failed: {describe(error)}")
            self._session = None
            self._waiting = sorted(await session.end(_CLOSE_S) + self._waiting)
            if session.acknowledged:
                delay.reset()
            await delay.wait()

    async def _connect(self, delay: Backoff) -> ProducerSession:
        """A session with a new producer; retries until there is one: an operator may mend what is wrong meanwhile."""
        while True:
            try:
                return await self._open_session()
            except (*FAILURES, IngestdError) as error:
                final = error if isinstance(error, IngestdError) else permanent_error(error)
                level = log_level(error) if final is None else logging.ERROR
                message = f"connecting to Kafka to produce to topic {self._topic} fails: {final or describe(error)}"
                self._errors.begin(_CONNECT, message, level=level)
            await delay.wait()

    async def _open_session(self) -> ProducerSession:
        options = client_options(self._config)
        partitions = (await connect(self._config, options, [self._topic], self._errors)).partitions[self._topic]
        producer = Producer(
            bootstrap_servers=list(self._config.bootstrap_servers),
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=16 * BATCH_BYTES,  # the session bounds them
            **options,
        )
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await producer.start()
                await producer.partitions_for(self._topic)
        except BaseException:
            await producer.close(_CLOSE_S)
            raise
        self._errors.end(_CONNECT)
        self._errors.end(_PRODUCE)
        return ProducerSession(producer, self._topic, partitions, self._linger_s, self._errors)
