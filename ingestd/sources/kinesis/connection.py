"""The stream as all parts of the source see it: its client, its identity, AWS' clock, calls that are repeated."""

import asyncio
import random
from collections.abc import Callable, Sequence

from ingestd.sources.error_state import ErrorState
from ingestd.sources.kinesis.continuity import CaughtUp, Retention
from ingestd.sources.kinesis.port import KinesisClient, KinesisError, Page, Shard, Stream
from ingestd.sources.kinesis.retry import Retrier

READ_SPACING_S = 0.25  # AWS allows five reads of a shard in a second, which do not take equally long

_GONE = "ResourceNotFoundException"


class Connection:
    """A client, which `reconnect` replaces. `on_gone` is called where a shard or the stream is not there."""

    def __init__(
        self,
        connect: Callable[[], KinesisClient],
        errors: ErrorState,
        wall_clock: Callable[[], float],
        rng: random.Random,
        on_gone: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._client = connect()
        self._retrier = Retrier(errors, rng)
        self._wall_clock = wall_clock
        self._clock_error_ms = 0  # of this machine's clock
        self._on_gone = on_gone
        self._describing = asyncio.Lock()
        self._described_at = 0.0
        self.stream: Stream | None = None  # as it was last described
        self.retention = Retention()
        self.times_gone = 0  # answers that a shard or the stream is not there

    @property
    def created(self) -> str:
        """When the stream was created, in milliseconds: its id."""
        return str(self._known.created_ms)

    @property
    def arn(self) -> str:
        return self.stream.arn if self.stream is not None else ""

    @property
    def _known(self) -> Stream:
        if self.stream is None:
            raise RuntimeError("start() comes first")
        return self.stream

    def now_ms(self) -> int:
        """AWS' clock."""
        return round(self._wall_clock() * 1000) - self._clock_error_ms

    def holds(self, proof: CaughtUp, position: int) -> bool:
        """Whether retention cannot have removed a record at or after `position` yet."""
        return proof.proves(position, self.now_ms(), self.retention.since(proof.at_ms))

    async def close(self) -> None:
        await self._client.close()

    async def reconnect(self) -> None:
        """Give up all connections, and the credentials."""
        former, self._client = self._client, self._connect()
        await former.close()

    async def describe(self, *, max_age_s: float = 0.0, must_exist: bool = False) -> Stream:
        """The stream as it was at most so long ago. Calls at one time share a request.

        With `must_exist`, ``KinesisRefused`` is raised where there is none.
        """

        def refused(error: KinesisError) -> None:
            if must_exist and error.code == _GONE:
                raise error

        loop = asyncio.get_running_loop()
        not_before = loop.time() - max_age_s
        async with self._describing:
            if self.stream is not None and self._described_at >= not_before:
                return self.stream
            began = loop.time()
            stream = await self._retrier.call("describing the stream", self._describe, on_refused=refused)
            self._clock_error_ms = round(self._wall_clock() * 1000) - stream.now_ms
            if self.stream is not None and self.stream.created_ms != stream.created_ms:
                self.retention = Retention()
            self.retention.see(stream.now_ms, stream.retention_ms)
            self.stream, self._described_at = stream, began
            return stream

    async def _describe(self) -> Stream:
        return await self._client.describe()

    async def _list_shards(self) -> Sequence[Shard]:
        return await self._client.list_shards()

    async def list_shards(self) -> Sequence[Shard]:
        return await self._retrier.call("listing the shards", self._list_shards)

    async def iterator(self, shard: str, number: int | None, at_ms: int | None) -> str:
        return await self._retrier.call(
            "getting a shard's iterator",
            lambda: self._client.iterator(shard, number=number, at_ms=at_ms),
            on_refused=self._refused,
        )

    async def get_records(self, iterator: str, limit: int) -> Page:
        return await self._retrier.call(
            "reading a shard", lambda: self._client.get_records(iterator, limit), on_refused=self._refused
        )

    def _refused(self, error: KinesisError) -> None:
        if error.code == _GONE:
            self.times_gone += 1
            self._on_gone()
