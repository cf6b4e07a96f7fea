"""Rules that look optional, taken out one at a time: the simulation must notice each, or it proves nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from ingestd.core import object_keys as layout
from ingestd.core.batch import RecordRef
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.partition_buffer import PartitionBuffer
from ingestd.core.records import Position, TopicPartition
from ingestd.pipeline.chain_objects import ChainObjects
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.sinks.create_only import create_or_find
from tests.simulation import virtual_time
from tests.simulation.broker import Member
from tests.simulation.store import Store
from tests.simulation.world import START, World

SEEDS = 60  # the rarest of these shows within the first dozens
SECONDS = 75  # over a midnight


def unconditional_put(patch: pytest.MonkeyPatch) -> None:
    original = Store.__init__

    def init(self: Store, *arguments: Any) -> None:
        original(self, *arguments)
        self.conditional = False

    patch.setattr(Store, "__init__", init)


def no_epoch(patch: pytest.MonkeyPatch) -> None:
    """What was fetched before a rewind is taken after it."""
    original = PartitionBuffer.reset

    def reset(self: PartitionBuffer) -> int:
        epoch = self.epoch
        released = original(self)
        self.epoch = epoch
        return released

    patch.setattr(PartitionBuffer, "reset", reset)


def no_seek_after_adopt(patch: pytest.MonkeyPatch) -> None:
    original = Member.seek

    def seek(self: Member, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        if self._positions.get(partition) is None:
            original(self, partition, offset, leader_epoch)

    patch.setattr(Member, "seek", seek)


def exists_taken_as_success(patch: pytest.MonkeyPatch) -> None:
    original = ChainObjects.upload

    async def upload(self: ChainObjects, encoded: Any) -> None:
        await original(self, encoded)

    patch.setattr(ChainObjects, "upload", upload)


def all_bad_batch_without_an_object(patch: pytest.MonkeyPatch) -> None:
    original = ChainObjects.upload

    async def upload(self: ChainObjects, encoded: Any) -> Any:
        return None if encoded.metadata.rows == 0 else await original(self, encoded)

    patch.setattr(ChainObjects, "upload", upload)


def wall_clock_date_in_the_key(patch: pytest.MonkeyPatch) -> None:
    import asyncio  # noqa: PLC0415

    def day(_: int) -> str:
        now = datetime.fromtimestamp(START + asyncio.get_running_loop().time(), UTC)
        return f"year={now.year:04d}/month={now.month:02d}/day={now.day:02d}/"

    patch.setattr(layout, "day_folder", day)


def end_in_the_key(patch: pytest.MonkeyPatch) -> None:
    original = ObjectKeys.data_key

    def data_key(self: ObjectKeys, partition: TopicPartition, start: int, first_timestamp: int, end: int) -> str:
        return original(self, partition, start, first_timestamp, end).replace(".jsonl.gz", f"+{end:020d}.jsonl.gz")

    patch.setattr(ObjectKeys, "data_key", data_key)


def no_alignment_guard(patch: pytest.MonkeyPatch) -> None:
    """A position inside of an object is taken for a boundary."""
    original = World._roll_back

    def roll_back(self: World) -> None:
        original(self)
        for partition, position in self.broker.committed.items():
            self.broker.committed[partition] = Position(max(0, position.offset - 1), position.commit_tag)

    patch.setattr(World, "_roll_back", roll_back)


def commit_before_the_put(patch: pytest.MonkeyPatch) -> None:
    original = PartitionWriter._land

    async def land(self: PartitionWriter, batch: Any) -> Any:
        await self._commit(self._rules.boundary(batch.end, batch.leader_epoch))
        return await original(self, batch)

    patch.setattr(PartitionWriter, "_land", land)


def data_before_quarantine(patch: pytest.MonkeyPatch) -> None:
    """The other order, with a crash in between, loses a record that a changed validator rejects."""
    original = ChainObjects.upload

    async def upload(self: ChainObjects, encoded: Any) -> Any:
        data, metadata = encoded.data, encoded.metadata.to_user_metadata()
        existing = await create_or_find(self._sink, self._retrier, encoded.data_key, data, metadata)
        if existing is None:
            await original(self, encoded)
        return existing

    patch.setattr(ChainObjects, "upload", upload)


def start_of_the_first_record(patch: pytest.MonkeyPatch) -> None:
    """The first surviving record's offset taken as the start, instead of the position."""
    original = PartitionWriter.add

    def add(self: PartitionWriter, chunk: Any, validated: Any, quarantine: bytes) -> None:
        original(self, chunk, validated, quarantine)
        batch = self.buffer.open
        if batch is not None and batch.first == RecordRef(
            chunk.records[0].offset, chunk.records[0].timestamp, chunk.leader_epoch
        ):
            batch.start = chunk.records[0].offset

    patch.setattr(PartitionWriter, "add", add)


MUTATIONS = [
    unconditional_put,
    no_epoch,
    no_seek_after_adopt,
    exists_taken_as_success,
    all_bad_batch_without_an_object,
    wall_clock_date_in_the_key,
    end_in_the_key,
    no_alignment_guard,
    commit_before_the_put,
    data_before_quarantine,
    start_of_the_first_record,
]


def noticed() -> bool:
    for seed in range(SEEDS):
        try:
            virtual_time.run(World(seed).run(SECONDS))
        except (AssertionError, ExceptionGroup):
            return True
    return False


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_simulation_notices(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert noticed(), f"{mutation.__name__} went unnoticed in {SEEDS} seeds"


def test_the_simulation_notices_nothing_where_nothing_is_wrong() -> None:
    assert not noticed()
