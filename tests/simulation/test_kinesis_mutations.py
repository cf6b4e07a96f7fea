"""Rules of the chain and of the source on Kinesis, taken out one at a time: the simulation must notice each."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from ingestd.core import object_keys as layout
from ingestd.core.records import EpochRecords
from ingestd.pipeline.chain_objects import ChainObjects
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.sources.kinesis import aggregates, assignment, reader
from ingestd.sources.kinesis import log as shard_log
from ingestd.sources.kinesis.assignment import Assignment
from ingestd.sources.kinesis.continuity import CaughtUp, Place, Start, Verdict
from ingestd.sources.kinesis.port import KinesisRecord, Shard
from ingestd.sources.kinesis.reader import ShardReader
from ingestd.sources.kinesis.state import StreamState
from tests.simulation import virtual_time
from tests.simulation.kinesis_world import KinesisWorld, scale
from tests.simulation.store import Store

SEEDS = 30
#: Where the first seeds do not show it: one that does.
FIRST_SEEDS = {
    "starts_are_not_pinned": 8,
    "closed_shards_are_not_read": 10,
    "a_partition_that_is_given_up_is_restarted": 13,
}


def unconditional_put(patch: pytest.MonkeyPatch) -> None:
    original = Store.__init__

    def init(self: Store, *arguments: Any) -> None:
        original(self, *arguments)
        self.conditional = False

    patch.setattr(Store, "__init__", init)


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
    def day(_: int) -> str:
        now = datetime.fromtimestamp(KinesisWorld.clock_s(), UTC)
        return f"year={now.year:04d}/month={now.month:02d}/day={now.day:02d}/"

    patch.setattr(layout, "day_folder", day)


def batches_end_inside_of_aggregates(patch: pytest.MonkeyPatch) -> None:
    original = aggregates.split_page

    def split_page(records: Sequence[KinesisRecord], shard: Shard) -> EpochRecords:
        return original(records, shard)._replace(cuts=None)

    patch.setattr(reader, "split_page", split_page)


def positions_of_aggregates_count_up(patch: pytest.MonkeyPatch) -> None:
    original = aggregates.split_record

    def split_record(record: KinesisRecord, shard: Shard) -> Sequence[KinesisRecord]:
        found = original(record, shard)
        for index, each in enumerate(found):
            each.offset = record.offset + index
        return found

    for module in (aggregates, reader, shard_log):
        patch.setattr(module, "split_record", split_record)


def reads_after_the_last_landed_record(patch: pytest.MonkeyPatch) -> None:
    """AFTER_SEQUENCE_NUMBER passes over what retention has removed."""
    patch.setattr(reader, "judge", lambda *_: Verdict.NEXT)


def every_iterator_goes_on_where_the_last_page_ended(patch: pytest.MonkeyPatch) -> None:
    """However long ago that page was read."""
    patch.setattr(ShardReader, "_is_fresh", lambda _: True)


def an_expired_iterator_is_replaced_by_the_newest(patch: pytest.MonkeyPatch) -> None:
    original = ShardReader._open

    async def open_(self: ShardReader, place: Place) -> str:
        if place.number is not None and self._position == place.number + 1 and self._arrived_ms:
            self._verified, place = True, Place(None, self._connection.now_ms())
        return await original(self, place)

    patch.setattr(ShardReader, "_open", open_)


def caught_up_however_far_behind(patch: pytest.MonkeyPatch) -> None:
    original = ShardReader._add

    def add(self: ShardReader, page: Any, began_ms: int) -> None:
        original(self, page, began_ms)
        self.caught_up = CaughtUp(self._position, began_ms, self._connection.retention_ms)

    patch.setattr(ShardReader, "_add", add)


def proofs_never_grow_old(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CaughtUp, "proves", lambda self, position, *_: self.position <= position)


def starts_are_not_pinned(patch: pytest.MonkeyPatch) -> None:
    async def pin_start(_: StreamState, __: str, ___: int, start: Start, ____: int | None) -> Start:
        return start

    patch.setattr(StreamState, "pin_start", pin_start)


def children_do_not_wait_for_their_parents(patch: pytest.MonkeyPatch) -> None:
    def readable(shards: Mapping[int, Shard], done: Collection[int]) -> list[int]:
        return [number for number in shards if number not in done]

    patch.setattr(assignment, "readable", readable)


def a_shard_is_done_once_it_is_read(patch: pytest.MonkeyPatch) -> None:
    """Before its end has landed."""
    original = Assignment._finish_ended

    async def finish_ended(self: Assignment) -> None:
        for number in self._ended:
            if (it := self.readers.get(number)) is not None:
                await self._state.mark_done(it.created, number, it.ended_at or 0, it.last_ms)
        await original(self)

    patch.setattr(Assignment, "_finish_ended", finish_ended)


def closed_shards_are_not_read(patch: pytest.MonkeyPatch) -> None:
    def readable(shards: Mapping[int, Shard], done: Collection[int]) -> list[int]:
        return [number for number, shard in shards.items() if not shard.closed]

    patch.setattr(assignment, "readable", readable)


def a_partition_that_is_given_up_is_restarted(patch: pytest.MonkeyPatch) -> None:
    original = PartitionWriter.finish_and_restart

    def finish_and_restart(self: PartitionWriter, restart: Callable[[], None]) -> None:
        self._finishing = False
        original(self, restart)

    patch.setattr(PartitionWriter, "finish_and_restart", finish_and_restart)


MUTATIONS = [
    unconditional_put,
    exists_taken_as_success,
    all_bad_batch_without_an_object,
    wall_clock_date_in_the_key,
    batches_end_inside_of_aggregates,
    positions_of_aggregates_count_up,
    reads_after_the_last_landed_record,
    every_iterator_goes_on_where_the_last_page_ended,
    an_expired_iterator_is_replaced_by_the_newest,
    caught_up_however_far_behind,
    proofs_never_grow_old,
    starts_are_not_pinned,
    children_do_not_wait_for_their_parents,
    a_shard_is_done_once_it_is_read,
    closed_shards_are_not_read,
    a_partition_that_is_given_up_is_restarted,
]


async def world(seed: int) -> None:
    await KinesisWorld(seed).run()


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_simulation_of_kinesis_notices(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scale(monkeypatch)
    mutation(monkeypatch)
    first = FIRST_SEEDS.get(mutation.__name__, 0)
    for seed in range(first, first + SEEDS):
        try:
            virtual_time.run(world(seed))
        except (AssertionError, ExceptionGroup):
            return
    pytest.fail(f"{mutation.__name__} went unnoticed in {SEEDS} seeds")
