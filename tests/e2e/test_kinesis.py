"""The daemon on a Kinesis stream: each record in one row or in quarantine, whatever is killed, split or refused."""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e.daemon import Daemon, credentials
from tests.e2e.stream import Landing, Server, Stream, settings
from tests.services.kinesis import KinesisLocal
from tests.services.seaweed import S3Store

pytestmark = pytest.mark.services

BAD_EVERY = 100


class World:
    """A stream, a bucket, and daemons that bring the one into the other."""

    def __init__(self, server: Server, store: S3Store, bucket: str, folder: Path, shards: int) -> None:
        name = f"stream-{uuid.uuid4().hex[:12]}"
        server.create_stream(name, shards)
        self.stream = Stream(server, name)
        self.keys = settings(server.endpoint, store, bucket, name)
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


class MakeWorld(Protocol):
    def __call__(self, server: Server, shards: int = 2) -> World: ...


@pytest.fixture
def make_world(s3: S3Store, bucket: str, tmp_path: Path) -> Iterator[MakeWorld]:
    """A function that makes the world of a test; its daemons are killed after it."""
    made: list[World] = []

    def make(server: Server, shards: int = 2) -> World:
        made.append(World(server, s3, bucket, tmp_path, shards))
        return made[-1]

    yield make
    for world in made:
        for daemon in world.daemons:
            daemon.kill()
        world.stream.__exit__()


async def test_every_record_is_in_one_row_or_in_quarantine(make_world: MakeWorld, kinesis_local: KinesisLocal) -> None:
    world = make_world(kinesis_local, 3)
    world.stream.write(2_000)
    daemon = world.daemon("a")

    await daemon.start_ready()
    world.stream.write(1_000)
    await world.landed()

    assert await daemon.stop() == 0
    tally = world.landing.check(world.stream)
    assert (tally.records, tally.quarantined) == (3_000, 3_000 // BAD_EVERY)
