"""A Kinesis stream or an SQS queue, a bucket, and daemons that bring the one into the other."""

import asyncio
import json
import os
import sys
import time
import uuid
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e import message_queue, stream
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.message_queue import MessageQueue, QueueTally
from tests.e2e.stream import Landing, Server, Stream
from tests.services.elasticmq import ElasticMQ
from tests.services.seaweed import S3Store

_CREATION_S = 1.1  # between two times of creation, which are in whole seconds
_FIRST_AGAIN = 1_000_000  # number of the first event in a stream that was created again


@asynccontextmanager
async def _until_left(run: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run it as a task; its event is set at the end."""
    quiet = asyncio.Event()
    task = asyncio.create_task(run(quiet))
    try:
        yield
    finally:
        quiet.set()
        await task


class StreamWorld:
    """A stream, a bucket, and daemons that bring the one into the other."""

    def __init__(self, server: Server, store: S3Store, bucket: str, folder: Path, shards: int) -> None:
        name = f"stream-{uuid.uuid4().hex[:12]}"
        server.create_stream(name, shards)
        self.stream = Stream(server, name)
        self.keys = stream.settings(server.endpoint, store, bucket, name)
        self.landing = Landing(store, bucket, self.keys)
        self.daemons: list[Daemon] = []
        self._server, self._store, self._bucket, self._folder = server, store, bucket, folder
        self._environment = credentials(store)

    def daemon(self, name: str, more: Mapping[str, str] | None = None) -> Daemon:
        """One more, not started yet."""
        keys = {**self.keys, "kinesis.member_id": name, **(more or {})}
        self.daemons.append(Daemon(name, self._folder, keys, self._environment))
        return self.daemons[-1]

    async def landed(self) -> None:
        await self.landing.until(self.stream)

    def create_again(self, shards: int, lineage: str) -> tuple[Stream, Landing]:
        """Delete the stream and create another under its name, for daemons of another lineage; what was before."""
        former, name = (self.stream, self.landing), self.stream.name
        self._server.delete_stream(name)
        time.sleep(_CREATION_S)
        self._server.create_stream(name, shards)
        self.stream.__exit__()
        self.stream = Stream(self._server, name, first=_FIRST_AGAIN)
        self.keys["sink.lineage"] = lineage
        self.landing = Landing(self._store, self._bucket, self.keys)
        return former

    @asynccontextmanager
    async def writing(self, rate: int = 1000) -> AsyncIterator[None]:
        """Events are written all the time."""
        async with _until_left(partial(self.stream.write_until, rate=rate)):
            yield

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

    async def dry_run(self) -> dict[str, Any]:
        """What ``ingestd check --dry-run`` says: the last document of each kind."""
        flags = [part for key, value in self.keys.items() for part in ("--set", f"{key}={value}")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingestd", "check", "--dry-run", "--json", *flags,
            env={**os.environ, **self._environment}, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert process.returncode in {0, 4}, errors.decode()
        return {said["kind"]: said for said in map(json.loads, output.splitlines())}

    def objects(self) -> list[str]:
        """The keys of all objects, but for those of the check itself."""
        with closing(self._store.client()) as client:
            found = client.list_objects_v2(Bucket=self._bucket).get("Contents", [])
        return [entry["Key"] for entry in found if not entry["Key"].startswith(".ingestd/check-")]

    def check(self) -> QueueTally:
        """Each message is in one row or in quarantine, and ``ingestd verify`` agrees."""
        tally = self.queue.check(self._store, self._bucket)
        report = stream.run_verify(self.keys, self._environment, "--read")
        assert report.ok, report.problems
        return tally

    @asynccontextmanager
    async def sending(self, rate: int = 200) -> AsyncIterator[None]:
        """Events are sent all the time."""
        async with _until_left(partial(self.queue.send_until, rate=rate)):
            yield

    def close(self) -> None:
        """Kill the daemons."""
        for daemon in self.daemons:
            daemon.kill()
        self.queue.__exit__()
