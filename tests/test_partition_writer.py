"""One partition's writer, step by step: what it asks its source and its sink, and what it makes of the answers."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar, cast

import pytest

from ingestd.config.model import BatchConfig, SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.batch import Batch, RecordRef
from ingestd.core.chain import ChainPolicy, Neighbours, PartitionState
from ingestd.core.flush_policy import FlushPolicy, FlushReason
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import EpochEnd, EpochRecords, LogRange, PlainRecord, Position, TopicPartition
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.core.validation import Validated
from ingestd.ops.metrics import Metrics
from ingestd.pipeline import chain_objects
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.neighbours import History
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.pipeline.shared_listing import SharedListing
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

T = TypeVar("T")
P = ParamSpec("P")

TP = TopicPartition("t", 0)
KEYS = ObjectKeys()
TAG = KEYS.commit_tag("s3://b")
LOG = LogRange(0, 1000)
NOON = 1_795_348_800_000
TURNS = 50  # of the event loop, until nothing more happens without an answer


class Immediate(Executor):
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Ports:
    """A source and a sink that ask the test for each answer."""

    def __init__(self, source_id: str) -> None:
        self.source_id = source_id
        self.question: tuple[str, tuple[object, ...]] | None = None
        self.seeks: list[int] = []
        self.follows: int | None = None  # the leader epoch of the last seek
        self.paused = False
        self.asking = asyncio.Event()
        self._answer: asyncio.Future[Any] = asyncio.Future()

    async def ask(self, kind: str, *arguments: object) -> Any:
        assert self.question is None, f"{kind} is asked before {self.question} is answered"
        self.question, self._answer = (kind, arguments), asyncio.get_running_loop().create_future()
        self.asking.set()
        return await self._answer

    def answer(self, value: object) -> None:
        self.question = None
        self.asking.clear()
        self._answer.set_result(value)

    def seek(self, _: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        self.seeks.append(offset)
        self.follows = leader_epoch

    def pause(self, _: TopicPartition) -> None:
        self.paused = True

    async def stream_id(self, _: TopicPartition) -> Any:
        return await self.ask("topic id")

    async def committed(self, _: TopicPartition) -> Any:
        return await self.ask("committed")

    async def resolve_start(self, _: TopicPartition) -> Any:
        return await self.ask("start")

    async def epoch_end(self, _: TopicPartition, leader_epoch: int) -> Any:
        return await self.ask("epoch end", leader_epoch)

    async def log_range(self, _: TopicPartition) -> Any:
        return await self.ask("log")

    async def commit(self, _: TopicPartition, position: Position) -> Any:
        return await self.ask("commit", position)

    async def head(self, key: str) -> Any:
        return await self.ask("head", key)

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Any:
        return await self.ask("put", key, body, metadata)


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def neighbours(listing: Any, _partition: object, offset: int) -> Any:
        return await listing.ask("neighbours", offset)

    async def history(listing: Any, _partition: object, offset: int) -> Any:
        return await listing.ask("history", offset)

    monkeypatch.setattr(chain_objects, "find_neighbours", neighbours)
    monkeypatch.setattr(chain_objects, "find_history", history)
    monkeypatch.setattr(chain_objects, "LOG_END_INTERVAL_S", 0.0)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.set_event_loop(None)
    loop.close()


class Play:
    """Runs a writer and answers its questions in turn."""

    def __init__(
        self,
        *,
        exactly_once: bool = True,
        skip_lost: bool = False,
        replayable: bool = True,
        fork: bool = False,
        topic_id: str = "",
        cluster: str = "cluster",
    ) -> None:
        self.loop = asyncio.get_event_loop()
        self.ports, self.metrics = Ports(cluster), Metrics()
        self.loop.run_until_complete(self._start(ObjectKeys(exactly_once=exactly_once), skip_lost, replayable, fork))
        self.answer("topic id", topic_id)

    async def _start(self, keys: ObjectKeys, skip_lost: bool, replayable: bool, fork: bool) -> None:
        dependencies = Dependencies(
            source=cast("Source", self.ports),
            sink=cast("Sink", self.ports),
            retrier=SinkRetrier(SinkConfig(retry_initial=Seconds(0.001)), self.metrics.upload_retried),
            metrics=self.metrics,
            executor=Immediate(),
            wall_clock=lambda: 0.0,
        )
        policy, listing = ChainPolicy(keys, TAG, skip_lost, replayable, fork), cast("SharedListing", self.ports)
        self.writer = PartitionWriter(
            TP, policy, FlushPolicy(BatchConfig()), dependencies, listing, on_freed=lambda: None
        )
        self.buffer = self.writer.buffer
        self.writer.task = asyncio.create_task(self.writer.run())
        await self._turns()

    async def _turns(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def run(self) -> "Play":
        """Let everything happen that needs no answer."""
        self.loop.run_until_complete(self._turns())
        return self

    def wait(self) -> None:
        """Until the backoff is over and there is a question again."""

        async def until_asked() -> None:
            async with asyncio.timeout(10):
                await self.ports.asking.wait()

        self.loop.run_until_complete(until_asked())

    def asked(self, kind: str) -> Any:
        """What the writer waits for; returns the arguments, or the only one."""
        assert self.ports.question is not None, f"expected {kind}, but {self.writer.state}: {self.writer.halt}"
        asked, arguments = self.ports.question
        assert asked == kind, f"expected {kind}, is {self.ports.question}"
        return arguments[0] if len(arguments) == 1 else arguments

    def answer(self, kind: str, value: Any = None) -> "Play":
        self.asked(kind)
        self.ports.answer(value)
        return self.run()

    def committing(self) -> Position:
        position = self.asked("commit")
        assert isinstance(position, Position)
        return position

    def halted(self) -> str:
        """The code of the halt; the message is ``self.writer.halt.message``."""
        assert self.writer.halt is not None, f"not halted: {self.writer.state}, {self.ports.question}"
        assert self.writer.state is PartitionState.HALTED
        assert self.ports.paused
        return self.writer.halt.code

    def message(self) -> str:
        assert self.writer.halt is not None
        return self.writer.halt.message

    def idle(self) -> bool:
        """Waiting for a batch."""
        return self.ports.question is None and self.writer.state is PartitionState.FILLING

    def at(self, committed: Position | None, log: LogRange = LOG) -> "Play":
        return self.answer("committed", committed).answer("log", log)

    def first(self, offset: int, timestamp: int = NOON, leader_epoch: int | None = None) -> "Play":
        """The first record comes."""
        self.buffer.first = RecordRef(offset, timestamp, leader_epoch)
        self.writer._changed.set()
        return self.run()

    def filling(self, start: int = 10) -> "Play":
        """At the end of a probe that found nothing."""
        return self.at(Position(start, TAG)).first(start).answer("head", None)

    def fill(self, *offsets: int, leader_epoch: int | None = None) -> Batch:
        records = [PlainRecord(offset, NOON, b"{}") for offset in offsets]
        validated = Validated([b"{}\n"] * len(offsets), {"t": len(offsets)}, [])

        async def add() -> None:
            self.writer.add(EpochRecords(records, leader_epoch), validated, b"")

        self.loop.run_until_complete(add())
        self.metrics.consumed(TP, len(offsets))
        assert self.buffer.open is not None
        return self.buffer.open

    def flush(self, reason: FlushReason = FlushReason.AGE) -> "Play":
        async def flush() -> None:
            self.writer.flush(reason)

        self.loop.run_until_complete(flush())
        return self.run()

    def uploading(self, *offsets: int, leader_epoch: int | None = None) -> tuple[str, bytes, Mapping[str, str]]:
        """Fill and flush a batch. Returns key, body and metadata of the PUT that the writer waits for."""
        self.fill(*offsets, leader_epoch=leader_epoch)
        self.flush()
        key, body, metadata = self.asked("put")
        return key, body, metadata


def thing(
    start: int,
    end: int,
    *,
    cluster: str | None = "cluster",
    timestamp: int = NOON,
    first: int | None = None,
    topic_id: str | None = None,
    leader_epoch: int | None = None,
    named: tuple[int, int] | None = None,
) -> ObjectInfo:
    """`named`: the offset and the leader epoch in its name."""
    landed = ObjectMetadata(
        topic="t", partition=0, start=start, end=end, rows=end - start, rejected=0, sha256="s", cluster=cluster,
        topic_id=topic_id, leader_epoch=leader_epoch, version="1", first_offset=start if first is None else first,
        first_timestamp=timestamp, last_timestamp=timestamp,
    )  # fmt: skip
    name, epoch = named or (start, None)
    return ObjectInfo(KEYS.data_key(TP, name, timestamp, end, epoch), 1, landed.to_user_metadata())


def key(start: int, leader_epoch: int | None = None) -> str:
    return KEYS.data_key(TP, start, NOON, start, leader_epoch)


def test_extends_the_chain_from_what_is_committed() -> None:
    play = Play().filling(10)
    play.uploading(10, 11, 14)
    play.answer("put", Stored.CREATED)
    assert play.committing() == Position(15, TAG)
    play.answer("commit", True)
    assert play.idle()
    assert (play.writer.landed, play.writer.committed, play.buffer.held_records) == (15, 15, 0)


def test_resumes_where_the_committed_position_is_not_where_the_first_record_is() -> None:
    play = Play().at(Position(10, TAG))
    assert play.ports.seeks[-1] == 10
    play.first(13)
    assert play.asked("head") == key(10)


def test_probe_adopts_an_object_that_is_there_already() -> None:
    play = Play().at(Position(10, TAG))
    play.fill(10, 11)
    play.first(10).answer("head", thing(10, 30)).answer("log", LOG)
    assert (play.metrics.counters.totals().adopted, play.metrics.counters.totals().released) == (1, 2)
    assert play.committing() == Position(30, TAG)
    play.answer("commit", True).answer("log", LOG)
    assert play.ports.seeks[-1] == 30


def test_adopts_the_winner_on_exists() -> None:
    play = Play().filling(10)
    play.uploading(10, 11)
    play.fill(12, 13)
    epoch = play.buffer.epoch
    play.answer("put", Stored.EXISTS)
    assert play.asked("head") == key(10)
    play.answer("head", thing(10, 11)).answer("log", LOG)
    assert (play.metrics.counters.totals().adopted, play.metrics.counters.totals().released) == (1, 4)
    assert play.buffer.epoch != epoch
    assert play.committing() == Position(11, TAG)


def test_an_object_with_our_end_is_our_own_attempt_whose_answer_was_lost() -> None:
    play = Play().filling(10)
    play.uploading(10, 11)
    held = play.fill(12)
    play.answer("put", Stored.EXISTS).answer("head", thing(10, 12)).answer("log", LOG)
    assert play.committing() == Position(12, TAG)
    assert play.buffer.open is held


def test_uploads_again_where_the_winner_has_vanished() -> None:
    play = Play().filling(10)
    put = play.uploading(10)
    play.answer("put", Stored.EXISTS).answer("head", None)
    play.wait()
    assert play.asked("put") == put


def test_without_a_mark_the_neighbours_are_asked() -> None:
    play = Play().at(Position(10)).first(10)
    assert play.asked("neighbours") == 10
    play.answer("neighbours", Neighbours())
    assert play.idle()


def test_halts_inside_of_an_object_and_names_the_right_offset() -> None:
    play = Play().at(Position(10)).first(10)
    play.answer("neighbours", Neighbours(before=(key(5),))).answer("head", thing(5, 17)).answer("log", LOG)
    assert play.halted() == "misaligned"
    assert "to 17" in play.message()


def test_halts_past_the_end_of_the_chain_and_names_it() -> None:
    """Going on would leave out what is between, and nothing would tell of it."""
    play = Play().at(Position(20)).first(20)
    play.answer("neighbours", Neighbours(before=(key(5),))).answer("head", thing(5, 17)).answer("log", LOG)
    assert play.halted() == "misaligned"
    assert "reset the group's offset for this partition to 17" in play.message()


def test_halts_before_objects_that_exist() -> None:
    play = Play().at(Position(10)).first(10)
    play.answer("neighbours", Neighbours(after=(key(12),))).answer("head", thing(12, 17))
    assert play.halted() == "misaligned"
    assert "an object that exists, 12-17" in play.message()


def test_a_mark_of_another_place_counts_as_none() -> None:
    play = Play().at(Position(10, "ingestd:1:elsewhere")).first(10)
    assert play.asked("neighbours") == 10


def without_offsets() -> Play:
    """At the probe of the chain's last object, 5 to 17."""
    play = Play().answer("committed", None).answer("neighbours", Neighbours(before=(key(5),)))
    play.answer("head", thing(5, 17)).answer("log", LOG)
    assert play.committing() == Position(5)
    play.answer("commit", True).answer("log", LOG)
    assert play.ports.seeks[-1] == 5
    return play


def test_a_group_without_offsets_goes_on_at_the_end_of_the_chain() -> None:
    play = without_offsets().first(5)
    play.answer("neighbours", Neighbours(at=(key(5),))).answer("head", thing(5, 17)).answer("log", LOG)
    assert play.committing() == Position(17, TAG)


def test_a_source_that_keeps_no_log_goes_on_at_the_end_of_the_chain_without_looking_back() -> None:
    play = Play(replayable=False).answer("committed", None).answer("neighbours", Neighbours(before=(key(5),)))
    play.answer("head", thing(5, 17)).answer("log", LOG)
    assert play.committing() == Position(17)


def test_a_group_without_offsets_halts_at_a_topic_that_was_created_again_and_is_longer() -> None:
    play = without_offsets().first(5, NOON + 1)
    play.answer("neighbours", Neighbours(at=(key(5),))).answer("head", thing(5, 17)).answer("log", LOG)
    assert play.halted() == "recreated_topic"


def test_commits_and_writes_down_which_topic_it_is() -> None:
    play = Play(topic_id="A").filling(10)
    _, _, metadata = play.uploading(10, 11)
    play.answer("put", Stored.CREATED)
    assert play.committing() == Position(12, TAG, "A")
    assert metadata["topic-id"] == "A"


@pytest.mark.parametrize("before", ["", "A"], ids=["not known then", "the same"])
def test_a_boundary_of_this_topic_is_trusted(before: str) -> None:
    play = Play(topic_id="A").at(Position(10, TAG, before))
    assert play.ports.seeks[-1] == 10


def test_halts_where_the_committed_offset_is_of_another_topic_of_that_name() -> None:
    """One that was created again, and to which what was still held of the former one has been committed."""
    play = Play(topic_id="B").answer("committed", Position(10, TAG, "A"))
    assert play.halted() == "recreated_topic"
    assert "set a new sink.lineage" in play.message()


def test_what_another_tool_commits_says_nothing_of_the_topic() -> None:
    play = Play(topic_id="B").answer("committed", Position(10, "of its own", "A"))
    play.asked("log")


def test_halts_where_the_tip_is_of_another_topic_of_that_name_whatever_its_records() -> None:
    play = Play(topic_id="B").answer("committed", None).answer("neighbours", Neighbours(before=(key(5),)))
    play.answer("head", thing(5, 17, topic_id="A"))
    assert play.halted() == "recreated_topic"


def test_an_object_without_a_topics_id_is_judged_by_its_records() -> None:
    play = Play(topic_id="B").answer("committed", None).answer("neighbours", Neighbours(before=(key(5),)))
    play.answer("head", thing(5, 17)).answer("log", LOG)
    assert play.committing() == Position(5)


def test_the_start_policy_applies_where_there_is_no_chain_and_is_committed_first() -> None:
    play = Play().answer("committed", None).answer("neighbours", Neighbours()).answer("start", Position(40))
    assert play.committing() == Position(40, "")
    play.answer("commit", True).answer("log", LOG)
    assert play.ports.seeks[-1] == 40


def test_halts_where_the_committed_offset_is_past_the_log() -> None:
    play = Play().at(Position(2000, TAG))
    while play.writer.halt is None:
        play.answer("log", LOG)
    assert play.halted() == "recreated_topic"


def test_waits_for_a_new_leader_that_does_not_know_the_logs_end_yet() -> None:
    play = Play().at(Position(2000, TAG)).answer("log", LogRange(0, 2000))
    assert play.ports.seeks[-1] == 2000


def test_halts_where_retention_was_faster() -> None:
    play = Play().at(Position(10, TAG), LogRange(50, 1000)).answer("neighbours", Neighbours())
    assert play.halted() == "lost_upstream"
    assert "40 offsets" in play.message()


def test_seals_the_hole_where_loss_is_allowed() -> None:
    play = Play(skip_lost=True).at(Position(10, TAG), LogRange(50, 1000)).answer("neighbours", Neighbours())
    assert play.ports.seeks[-1] == 50
    play.first(52).answer("neighbours", Neighbours())
    hole = play.buffer.flushed[0]
    assert (hole.start, hole.end, hole.records, hole.flush_reason) == (10, 50, 0, FlushReason.HOLE)
    assert play.asked("put")[0] == key(10)
    play.answer("put", Stored.CREATED)
    assert play.committing() == Position(50, TAG)


def test_adopts_what_it_had_written_before_retention_took_the_records() -> None:
    """The day in the name is that of a record which is gone: only a listing finds the object."""
    play = Play().at(Position(10, TAG), LogRange(50, 1000)).answer("neighbours", Neighbours(at=(key(10),)))
    play.answer("head", thing(10, 60)).answer("log", LogRange(50, 1000))
    assert play.committing() == Position(60, TAG)


@pytest.mark.parametrize(
    "foreign",
    [
        thing(10, 30, cluster="another"),
        thing(10, 2000),
        thing(10, 30, timestamp=NOON + 1),
        thing(10, 10),
        ObjectInfo(key(10), 1, {}),
        ObjectInfo(key(10), 1, thing(11, 30).metadata),
    ],
    ids=["cluster", "past the log's end", "another timestamp", "no range", "no metadata", "another start"],
)
def test_halts_at_an_object_that_is_not_of_this_log(foreign: ObjectInfo) -> None:
    play = Play().at(Position(10, TAG)).first(10).answer("head", foreign)
    while play.writer.halt is None:
        play.answer("log", LOG)
    assert play.halted() in {"foreign_object", "recreated_topic"}


@pytest.mark.parametrize(("cluster", "halts"), [(None, False), ("cluster", True)])
def test_the_objects_of_a_cluster_without_an_id_have_none(cluster: str | None, *, halts: bool) -> None:
    play = Play(cluster="").at(Position(10, TAG)).first(10).answer("head", thing(10, 30, cluster=cluster))
    assert (play.writer.halt is not None) is halts
    if halts:
        assert "of cluster cluster, not t[0] of cluster without an id" in play.message()


def test_an_earlier_first_record_than_the_objects_is_no_sign_of_another_log() -> None:
    """Retention overtook the writer of the object, not us."""
    play = Play().at(Position(10, TAG)).first(10)
    play.answer("head", thing(10, 50, first=52)).answer("log", LOG)
    assert play.committing() == Position(50, TAG)


def test_at_least_once_asks_the_store_for_nothing() -> None:
    play = Play(exactly_once=False).at(Position(10)).first(10)
    assert play.idle()
    key, _, _ = play.uploading(10, 11)
    assert "+00000000000000000012" in key


def test_a_batch_opens_at_the_position_not_at_the_first_record() -> None:
    play = Play().filling(10)
    play.uploading(10)
    play.fill(15)
    assert play.buffer.open is not None
    assert play.buffer.open.start == 11


def test_reset_discards_everything_and_wants_no_records() -> None:
    play = Play().filling(10)
    play.fill(10, 11)
    play.buffer.flush(FlushReason.AGE)
    play.fill(12)
    assert play.buffer.reset() == 3
    assert (play.buffer.position, play.buffer.batches, play.buffer.first) == (None, [], None)


def test_flushing_nothing_makes_no_batch() -> None:
    play = Play().filling(10)
    assert play.buffer.flush(FlushReason.SHUTDOWN) is None
    assert not play.buffer.flushed


# -- leader epochs


def after_epoch_5(end: EpochEnd, *, fork: bool = False) -> Play:
    """The committed position is 100, and the last record before it is of epoch 5, which ends there in today's log."""
    play = Play(topic_id="A", fork=fork).answer("committed", Position(100, TAG, "A", 5))
    assert play.asked("epoch end") == 5
    return play.answer("epoch end", end)


def test_goes_on_after_the_epoch_of_the_last_record_and_commits_that_of_the_next() -> None:
    play = after_epoch_5(EpochEnd(5, 100)).answer("log", LOG)
    assert (play.ports.seeks[-1], play.ports.follows) == (100, 5)
    play.first(100, leader_epoch=5).answer("head", None).answer("head", None)
    _, _, metadata = play.uploading(100, 101, leader_epoch=5)
    assert metadata["leader-epoch"] == "5"
    play.answer("put", Stored.CREATED)
    assert play.committing() == Position(102, TAG, "A", 5)


@pytest.mark.parametrize("end", [EpochEnd(5, 70), EpochEnd(4, 70), EpochEnd(4, 400)], ids=["cut", "lost", "longer"])
def test_halts_where_the_log_has_lost_what_was_read(end: EpochEnd) -> None:
    play = after_epoch_5(end)
    assert play.halted() == "log_truncated"
    assert f"truncated at {end.end}, and leader epoch 5 had reached 100" in play.message()
    assert 'set kafka.on_truncation = "fork"' in play.message()


def test_a_start_is_kept_where_a_replica_with_more_of_an_earlier_epoch_replaced_the_epoch_before_it() -> None:
    """No record was read yet, so none is lost; where the log is shorter, new records take offsets before the start."""
    play = Play(topic_id="A").answer("committed", Position(100, "", "A", 5))
    play.answer("epoch end", EpochEnd(4, 400)).answer("log", LOG)
    assert (play.ports.seeks[-1], play.ports.follows) == (100, 4)
    play = Play(topic_id="A").answer("committed", Position(100, "", "A", 5)).answer("epoch end", EpochEnd(4, 90))
    assert play.halted() == "log_truncated"


def test_halts_where_the_log_knows_no_such_epoch() -> None:
    """A cluster that was restored. The source has asked again: a former leader says the same for a while."""
    play = after_epoch_5(EpochEnd(-1, -1))
    assert play.halted() == "log_truncated"
    assert "knows no leader epoch 5" in play.message()
    assert "set a new sink.lineage" in play.message()


def test_a_new_leader_that_reports_an_earlier_end_still_has_the_records() -> None:
    """Below min.insync.replicas it does not advance the high watermark, which is the end that it reports."""
    play = after_epoch_5(EpochEnd(5, 100)).answer("log", LogRange(0, 90))
    assert play.ports.seeks[-1] == 100


def test_flushes_where_the_leader_epoch_changes() -> None:
    play = Play().filling(10)
    play.fill(10, 11, leader_epoch=5)
    batch = play.fill(12, leader_epoch=7)
    assert [(each.start, each.end, each.flush_reason) for each in play.buffer.flushed] == [
        (10, 12, FlushReason.LEADER_EPOCH)
    ]
    assert (batch.start, batch.leader_epoch) == (12, 7)


def forked() -> Play:
    """The log was truncated at 70; the first record of its new history is 72, in epoch 8."""
    play = after_epoch_5(EpochEnd(5, 70), fork=True)
    play.answer("epoch end", EpochEnd(5, 70)).answer("log", LOG)
    assert (play.ports.seeks[-1], play.ports.follows) == (70, 5)
    return play.first(72, leader_epoch=8)


def test_a_fork_goes_on_where_the_log_was_truncated_under_a_name_with_its_epoch() -> None:
    play = forked().answer("neighbours", Neighbours()).answer("neighbours", Neighbours())
    play.fill(72, 73, leader_epoch=8)
    play.flush()
    assert play.asked("epoch end") == 7  # epoch 8 begins where it ends
    play.answer("epoch end", EpochEnd(5, 71))
    assert play.asked("epoch end") == 8
    play.answer("epoch end", EpochEnd(8, 90))
    name, _, metadata = play.asked("put")
    assert name == key(71, 8)
    assert (metadata["start"], metadata["leader-epoch"]) == ("70", "8")
    play.answer("put", Stored.CREATED)
    assert play.committing() == Position(74, TAG, "A", 8)
    play.answer("commit", True)
    name, _, _ = play.uploading(74, leader_epoch=8)
    assert name == key(74, 8)


def test_records_that_the_log_has_lost_before_they_landed_are_void() -> None:
    """Their epoch is gone, and with it the offset at which it began: nobody could tell its first object's name."""
    play = forked().answer("neighbours", Neighbours()).answer("neighbours", Neighbours())
    play.fill(72, 73, leader_epoch=8)
    play.flush()
    play.answer("epoch end", EpochEnd(5, 72)).answer("epoch end", EpochEnd(5, 72))
    play.answer("epoch end", EpochEnd(5, 72))  # of the position
    play.asked("topic id")
    assert play.buffer.held_records == 0


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (key(71, 8), thing(70, 90, first=72, leader_epoch=8, named=(71, 8), topic_id="A")),
        (key(70), thing(70, 90, first=72, leader_epoch=8, topic_id="A")),
    ],
    ids=["by a fork", "by a daemon with halt"],
)
def test_a_fork_adopts_what_was_written_of_the_new_history(name: str, found: ObjectInfo) -> None:
    play = forked().answer("neighbours", Neighbours(before=(name,))).answer("neighbours", Neighbours(before=(name,)))
    play.answer("head", found).answer("epoch end", EpochEnd(8, 90)).answer("log", LOG)
    assert play.committing() == Position(90, TAG, "A", 8)


def test_a_log_that_got_the_lost_records_back_does_not_fork() -> None:
    play = after_epoch_5(EpochEnd(5, 70), fork=True).answer("epoch end", EpochEnd(5, 70)).answer("log", LOG)
    play.first(70, leader_epoch=5)
    play.asked("topic id")  # it loads again


def test_a_log_that_goes_back_to_an_earlier_epoch_is_read_on_from_where_that_was_read_last() -> None:
    """Its records of epoch 4 from 60 on were never read: epoch 5 had begun there."""
    play = after_epoch_5(EpochEnd(4, 400), fork=True)
    play.answer("history", History(0, {4: key(40, 4), 5: key(80, 5)}, ()))
    play.answer("head", thing(40, 60, leader_epoch=4, named=(40, 4), topic_id="A"))
    play.answer("epoch end", EpochEnd(4, 400)).answer("log", LOG)
    assert (play.ports.seeks[-1], play.ports.follows) == (60, 4)


def test_halts_where_names_do_not_tell_up_to_where_the_log_is_the_same() -> None:
    play = after_epoch_5(EpochEnd(4, 400), fork=True).answer("history", History(0, {}, (key(80),)))
    play.answer("head", thing(80, 100, leader_epoch=5, topic_id="A"))
    assert play.halted() == "log_truncated"
    assert "set a new sink.lineage" in play.message()


def test_a_winner_with_records_of_another_epoch_is_not_taken_for_ours_although_it_ends_at_the_same_offset() -> None:
    """The log has the winner's records, so ours are lost: the partition is loaded again, and adopts it then."""
    play = Play().filling(10)
    play.uploading(10, 11, leader_epoch=5)
    play.answer("put", Stored.EXISTS).answer("head", thing(10, 12, leader_epoch=7))
    play.answer("epoch end", EpochEnd(7, 90)).answer("log", LOG)
    play.asked("topic id")
    assert (play.writer.landed, play.buffer.held_records) == (None, 0)


def test_an_object_whose_records_the_log_has_lost_is_not_adopted() -> None:
    play = Play().filling(10)
    play.uploading(10, 11, leader_epoch=7)
    play.answer("put", Stored.EXISTS).answer("head", thing(10, 30, leader_epoch=5)).answer("epoch end", EpochEnd(5, 10))
    assert play.halted() == "log_truncated"


def test_without_epochs_a_log_of_the_same_topic_that_ends_before_the_position_was_truncated() -> None:
    play = Play(topic_id="A").answer("committed", Position(2000, TAG, "A"))
    while play.writer.halt is None:
        play.answer("log", LOG)
    assert play.halted() == "log_truncated"


def test_a_reset_past_the_end_of_the_log_is_told_from_a_truncation() -> None:
    play = Play(topic_id="A").answer("committed", Position(2000))
    while play.ports.question is not None and play.ports.question[0] == "log":
        play.answer("log", LOG)
    play.answer("neighbours", Neighbours(before=(key(5),))).answer("head", thing(5, 17)).answer("log", LOG)
    assert play.halted() == "misaligned"
    assert "ingestd did not commit it; reset the group's offset for this partition to 17" in play.message()
