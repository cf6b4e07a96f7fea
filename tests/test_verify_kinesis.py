"""`ingestd verify` compares the chains of shards with what is on record of them, and with the stream."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from ingestd.config.load import Flag, load
from ingestd.config.model import Config
from ingestd.sources.kinesis.inspector import KinesisInspector, open_kinesis_inspector
from ingestd.verify.findings import VerifyReport
from ingestd.verify.report import text
from ingestd.verify.run import VerifyOptions, verify
from tests.fakes.kinesis import FakeKinesisClient
from tests.simulation import virtual_time
from tests.simulation.kinesis_world import KEYS, STREAM, KinesisWorld, scale
from tests.simulation.store import Connection

SETTINGS = load(
    environ={},
    flags=[
        Flag("--source", "source", "kinesis"),
        Flag("--set", "kinesis.stream", STREAM),
        Flag("--sink", "sink.url", "x"),
    ],
)


class Verified(KinesisWorld):
    """Two shards with records that have landed; one of them was split, and all of it has landed."""

    def __init__(self) -> None:
        super().__init__(5)
        self.kinesis.retention_h = 24
        self.calm = self.store.calm = True

    async def fill(self) -> None:
        self.kinesis.create(2)
        daemon = self._spawn(skip_lost=False)
        for number in range(60):
            self.kinesis.put(self._event(number), shard=number % 2)
            await asyncio.sleep(0.5)
        self.kinesis.split(0)
        for number in range(60, 80):
            self.kinesis.put(self._event(number), shard=number % 2 + 1)
            await asyncio.sleep(0.5)
        await asyncio.sleep(30)
        assert not self._left()
        daemon.source.finish()
        await daemon.task

    async def verify(self, options: VerifyOptions = VerifyOptions()) -> VerifyReport:  # noqa: B008  frozen
        return await verify(SETTINGS, options, Connection(self.store), self._open)

    @asynccontextmanager
    async def _open(self, config: Config) -> AsyncIterator[KinesisInspector]:
        state = self.daemons[0].state
        async with open_kinesis_inspector(
            config.kinesis, state, lambda: FakeKinesisClient(self.kinesis), lambda: self.kinesis.now_ms() / 1000
        ) as inspector:
            yield inspector

    def keys(self, shard: int) -> list[str]:
        """Of the shard's objects, in the order of the chain."""
        found = [key for key in self.store.objects if (name := KEYS.parse(key)) and name.partition.partition == shard]
        return sorted(found)


def delete_first(world: Verified) -> None:
    del world.store.objects[world.keys(1)[0]]


def delete_middle(world: Verified) -> None:
    del world.store.objects[world.keys(1)[1]]


def delete_last_of_the_closed_shard(world: Verified) -> None:
    del world.store.objects[world.keys(0)[-1]]


def create_again(world: Verified) -> None:
    world.kinesis.create(2)


def lose_unread(world: Verified) -> None:
    """Retention removes all that was read, and what came after it."""
    world.kinesis.put(b"{}", shard=2)
    world.kinesis.trim(world.kinesis.now_ms() + 1)
    world.kinesis.put(b"{}", shard=2)
    for key in [key for key in world.store.objects if key.startswith(".members/")]:
        del world.store.objects[key]


def change_times(world: Verified) -> None:
    for record in world.kinesis.shard(1).records:
        record.arrival += 5


@pytest.mark.parametrize(
    ("damage", "codes"),
    [
        (lambda _: None, {}),
        (delete_first, {"before_first"}),
        (delete_middle, {"gap"}),
        (delete_last_of_the_closed_shard, {"lost"}),
        (create_again, {"recreated_topic"}),
        (lose_unread, {"lost_upstream"}),
        (change_times, {"recreated_topic"}),
    ],
    ids=["none", "first", "middle", "last", "created_again", "retention", "other_records"],
)
def test_verify_finds_what_is_wrong_with_shards_and_nothing_else(
    damage: Callable[[Verified], None], codes: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        scale(monkeypatch)
        world = Verified()
        await world.fill()
        damage(world)
        report = await world.verify()
        assert set(report.problem_counts) == set(codes), report.problems
        assert "Kafka" not in text(report)
        assert report.cluster == f"arn:aws:kinesis:eu-central-1:000000000000:stream/{STREAM}"
        assert {it.partition for it in report.partitions} >= {0, 1, 2}

    virtual_time.run(main())


def test_a_quiet_shard_of_which_all_records_are_too_old_has_lost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        scale(monkeypatch)
        world = Verified()
        await world.fill()
        world.kinesis.trim(world.kinesis.now_ms() + 1)
        assert (await world.verify()).ok
        world.kinesis.put(b"{}", shard=1)
        assert (await world.verify()).ok, "a daemon has seen it empty"

    virtual_time.run(main())
