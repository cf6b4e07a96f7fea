"""A proxy before the broker that tells one request from another, by the frames of Kafka's protocol."""

import struct
from asyncio import IncompleteReadError, StreamReader
from collections import Counter, deque
from collections.abc import AsyncIterator
from random import Random

from tests.chaos.tcp_proxy import TcpProxy

FETCH, COMMIT = 1, 8  # kinds of requests: Kafka's API keys

_SIZE, _KIND = struct.Struct(">i"), struct.Struct(">h")


class KafkaProxy(TcpProxy):
    """It can cut a connection where the broker has got a request: before its answer, or within it.

    `fired` counts the answers that were cut, by the kind of the request.
    """

    def __init__(self, port: int, upstream: int) -> None:
        super().__init__(port, upstream)
        self.fired: Counter[int] = Counter()
        self._kind, self._share, self._passes, self._rng = 0, 0.0, 0.0, Random(0)

    def cuts_answers(self, kind: int, share: float, rng: Random, *, passes: float = 0.0) -> None:
        """A share of the answers to such requests is cut after the part of them that passes."""
        self._kind, self._share, self._passes, self._rng = kind, share, passes, rng

    async def heal(self) -> None:
        self._share = 0.0
        await super().heal()

    def _streams(
        self, client: StreamReader, upstream: StreamReader
    ) -> tuple[AsyncIterator[bytes], AsyncIterator[bytes]]:
        asked: deque[int] = deque()  # answers come in the order of requests
        return _noted(client, asked), self._cut(upstream, asked)

    async def _cut(self, answers: StreamReader, asked: deque[int]) -> AsyncIterator[bytes]:
        async for frame in _frames(answers):
            kind = asked.popleft()
            if kind == self._kind and self._rng.random() < self._share:
                self.fired[kind] += 1
                yield frame[: int(len(frame) * self._passes)]
                raise ConnectionResetError
            yield frame


async def _noted(requests: StreamReader, asked: deque[int]) -> AsyncIterator[bytes]:
    async for frame in _frames(requests):
        asked.append(_KIND.unpack_from(frame, _SIZE.size)[0])
        yield frame


async def _frames(reader: StreamReader) -> AsyncIterator[bytes]:
    """Each with its size before it, until the end."""
    try:
        while True:
            size = await reader.readexactly(_SIZE.size)
            yield size + await reader.readexactly(_SIZE.unpack(size)[0])
    except IncompleteReadError:
        return
