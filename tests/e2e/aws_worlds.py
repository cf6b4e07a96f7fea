"""A Kinesis stream or an SQS queue, a bucket, and daemons that bring the one into the other."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e import message_queue, stream
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.message_queue import MessageQueue, QueueTally
from tests.e2e.stream import Landing, Server, Stream
from tests.services.elasticmq import ElasticMQ
from tests.services.seaweed import S3Store


class StreamWorld:
    """A stream, a bucket, and daemons that bring the one into the other."""

    def __init__(self, server: Server, store: S3Store, bucket: str, folder: Path, shards: int) -> None:
        name = f"stream-{uuid.uuid4().hex[:12]}"
        server.create_stream(name, shards)
        self.stream = Stream(server, name)
        self.keys = stream.settings(server.endpoint, store, bucket, name)
        self.landing = Landing(store, bucket, self.keys)
        self._environment = credentials(store)
        self._folder = folder
        self.daemons: list[Daemon] = []

    def daemon(self, name: str, more: Mapping[str, str] | None = None) -> Daemon:
        """One more, not started yet."""
        keys = {**self.keys, "kinesis.member_id": name, **(more or {})}
        self.daemons.append(Daemon(name, self._folder, keys, self._environment))
        return self.daemons[-1]

    async def landed(self) -> None:
        await self.landing.until(self.stream)

    @asynccontextmanager
    async def writing(self, rate: int = 1000) -> AsyncIterator[None]:
        """Events are written all the time."""
        quiet = asyncio.Event()
        task = asyncio.create_task(self.stream.write_until(quiet, rate=rate))
        try:
            yield
        finally:
            quiet.set()
            await task

    def close(self) -> None:
        """Kill the daemons."""
        for daemon in self.daemons:
            daemon.kill()
        self.stream.__exit__()


class QueueWorld:
    """A queue, a bucket, and daemons that bring the one into the other."""

    def __init__(self, server: ElasticMQ, store: S3Store, bucket: str, folder: Path, url: str) -> None:
        self.queue = MessageQueue(server, url)
        self.keys = message_queue.settings(url, store, bucket)
        self.daemons: list[Daemon] = []
        self._store, self._bucket, self._folder = store, bucket, folder
        self._environment = credentials(store)

    def daemon(self, name: str, more: Mapping[str, str] | None = None) -> Daemon:
        """One more, not started yet."""
        self.daemons.append(Daemon(name, self._folder, {**self.keys, **(more or {})}, self._environment))
        return self.daemons[-1]

    def forget_missing(self) -> int:
        """Messages that are nowhere were removed before anybody received them; how many."""
        missing = self.queue.tally(self._store, self._bucket).missing
        for each in missing:
            del self.queue.sent[each]
        return len(missing)

    def check(self) -> QueueTally:
        """Each message is in one row or in quarantine, and ``ingestd verify`` agrees."""
        tally = self.queue.check(self._store, self._bucket)
        report = stream.run_verify(self.keys, self._environment, "--read")
        assert report.ok, report.problems
        return tally

    @asynccontextmanager
    async def sending(self, rate: int = 200) -> AsyncIterator[None]:
        """Events are sent all the time."""
        quiet = asyncio.Event()
        task = asyncio.create_task(self.queue.send_until(quiet, rate=rate))
        try:
            yield
        finally:
            quiet.set()
            await task

    def close(self) -> None:
        """Kill the daemons."""
        for daemon in self.daemons:
            daemon.kill()
        self.queue.__exit__()
