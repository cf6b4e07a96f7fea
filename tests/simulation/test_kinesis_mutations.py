"""Rules of the chain and of the source on Kinesis, taken out one at a time: the simulation must notice each."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from ingestd.core.records import EpochRecords, TopicPartition
from ingestd.pipeline.ingest import Pipeline
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.sources.kinesis import aggregates, assignment, continuity, reader, source
from ingestd.sources.kinesis import log as shard_log
from ingestd.sources.kinesis.assignment import Assignment
from ingestd.sources.kinesis.continuity import CaughtUp, Place, Start, Verdict, WasOpen
from ingestd.sources.kinesis.log import ShardLogs
from ingestd.sources.kinesis.port import KinesisRecord, Page, Shard
from ingestd.sources.kinesis.reader import ShardReader
from ingestd.sources.kinesis.shards import shard_number
from ingestd.sources.kinesis.state import StreamState
from tests.simulation import chain_mutations, virtual_time
from tests.simulation.chain_mutations import all_bad_batch_without_an_object, exists_taken_as_success, unconditional_put
from tests.simulation.kinesis_world import KinesisWorld, scale

SEEDS = 30
#: Where the first seeds do not show it: one that does.
FIRST_SEEDS = {
    "every_iterator_goes_on_where_the_last_page_ended": 15,
    "starts_are_not_pinned": 8,
    "parents_that_are_not_listed_are_waited_for": 5,
    "closed_shards_are_not_read": 10,
    "a_child_counts_as_complete_when_it_is_found": 57,
    "a_retention_that_was_raised_counts_for_the_time_before": 226,
}


def wall_clock_date_in_the_key(patch: pytest.MonkeyPatch) -> None:
    chain_mutations.wall_clock_date_in_the_key(patch, KinesisWorld.clock_s)


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
        self.caught_up = CaughtUp(self._position, began_ms, self._connection.retention.since(began_ms))

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


def parents_that_are_not_listed_are_waited_for(patch: pytest.MonkeyPatch) -> None:
    def readable(shards: Mapping[int, Shard], done: Collection[int]) -> list[int]:
        return [
            number
            for number, shard in shards.items()
            if number not in done and all(shard_number(parent) in done for parent in shard.parents)
        ]

    patch.setattr(assignment, "readable", readable)
    patch.setattr(KinesisWorld, "retention_ends", True)


def a_hole_is_read_from_before_its_end(patch: pytest.MonkeyPatch) -> None:
    """Where no record is, and nobody knows whether AWS has an iterator for its number."""

    def place_of(position: int, first: int | None, start: Start | None) -> Place:
        place = continuity.place_of(position, first, start)
        return Place(position - 1) if first == position and place == Place() else place

    patch.setattr(source, "place_of", place_of)


def a_shard_is_done_once_it_is_read(patch: pytest.MonkeyPatch) -> None:
    """Before its end has landed."""
    original = Assignment._finish_ended

    async def finish_ended(self: Assignment) -> None:
        for number in self._ended:
            if (it := self.readers.get(number)) is not None:
                was_open = (
                    None if it.last_ms is None else WasOpen(it.last_ms, self._connection.retention.since(it.read_ms))
                )
                await self._state.mark_done(it.created, number, it.ended_at or 0, was_open)
        await original(self)

    patch.setattr(Assignment, "_finish_ended", finish_ended)


def closed_shards_are_not_read(patch: pytest.MonkeyPatch) -> None:
    def readable(shards: Mapping[int, Shard], done: Collection[int]) -> list[int]:
        return [number for number, shard in shards.items() if not shard.closed]

    patch.setattr(assignment, "readable", readable)


def shards_are_gone_while_they_are_revoked(patch: pytest.MonkeyPatch) -> None:
    """Each time, which else is rare. Nothing is taken out."""
    original = Pipeline.on_revoked

    async def on_revoked(self: Pipeline, partitions: Collection[TopicPartition]) -> None:
        revoking = asyncio.create_task(original(self, partitions))
        await asyncio.sleep(0)
        for partition in partitions:
            self.on_out_of_range(partition)
        await revoking

    patch.setattr(Pipeline, "on_revoked", on_revoked)


def a_partition_that_is_given_up_is_restarted(patch: pytest.MonkeyPatch) -> None:
    original = PartitionWriter.finish_and_restart

    def finish_and_restart(self: PartitionWriter, restart: Callable[[], None]) -> None:
        self._finishing = False
        original(self, restart)

    patch.setattr(PartitionWriter, "finish_and_restart", finish_and_restart)
    shards_are_gone_while_they_are_revoked(patch)


def events_of_another_shard_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """As AWS's own client library does: in silence."""
    original = aggregates.split_record

    def split_record(record: KinesisRecord, shard: Shard) -> Sequence[KinesisRecord]:
        found = original(record, shard)
        return [each for each in found if each.refused is None] or found[-1:]

    for module in (aggregates, reader, shard_log):
        patch.setattr(module, "split_record", split_record)


def a_child_begins_when_it_is_found(patch: pytest.MonkeyPatch) -> None:
    """And not at its first record."""
    original = ShardLogs._policy

    async def policy(self: ShardLogs, shard: Shard) -> tuple[Start, int | None]:
        start, arrival_ms = await original(self, shard)
        return (start._replace(time_ms=self._connection.now_ms()) if shard.parents else start), arrival_ms

    patch.setattr(ShardLogs, "_policy", policy)


def a_child_counts_as_complete_when_it_is_found(patch: pytest.MonkeyPatch) -> None:
    """Also where nobody knows a time at which its parents were open."""
    original = ShardLogs._policy

    async def policy(self: ShardLogs, shard: Shard) -> tuple[Start, int | None]:
        start, arrival_ms = await original(self, shard)
        return (start._replace(seen_ms=self._connection.now_ms()) if shard.parents else start), arrival_ms

    patch.setattr(ShardLogs, "_policy", policy)


def a_retention_that_was_raised_counts_for_the_time_before(patch: pytest.MonkeyPatch) -> None:
    """For children of shards that were open then."""
    original = StreamState.was_open

    async def was_open(self: StreamState, created: str, shard: int) -> WasOpen | None:
        found = await original(self, created, shard)
        return None if found is None else WasOpen(found.at_ms)

    patch.setattr(StreamState, "was_open", was_open)
    patch.setattr(KinesisWorld, "retention_ends", True)


def an_empty_page_ends_a_shard(patch: pytest.MonkeyPatch) -> None:
    original = ShardReader._get

    async def get(self: ShardReader, iterator: str, expected: int) -> Page:
        page = await original(self, iterator, expected)
        return page if page.records else page._replace(next_iterator=None)

    patch.setattr(ShardReader, "_get", get)


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
    parents_that_are_not_listed_are_waited_for,
    a_hole_is_read_from_before_its_end,
    a_shard_is_done_once_it_is_read,
    closed_shards_are_not_read,
    a_partition_that_is_given_up_is_restarted,
    events_of_another_shard_are_dropped,
    a_child_begins_when_it_is_found,
    a_child_counts_as_complete_when_it_is_found,
    a_retention_that_was_raised_counts_for_the_time_before,
    an_empty_page_ends_a_shard,
]


async def world(seed: int) -> None:
    await KinesisWorld(seed).run()


def test_nothing_is_lost_where_shards_are_gone_while_they_are_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    scale(monkeypatch)
    shards_are_gone_while_they_are_revoked(monkeypatch)
    for seed in range(5):
        virtual_time.run(world(seed))


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
