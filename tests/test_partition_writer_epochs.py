"""One partition's writer where the log was truncated: what leader epochs tell of it, and forks."""

from collections.abc import Iterator

import pytest

from ingestd.core.chain import Neighbours
from ingestd.core.flush_policy import FlushReason
from ingestd.core.records import EpochEnd, LogRange, Position
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.pipeline.neighbours import History
from tests.partition_writer_world import LOG, TAG, Play, key, scripted, thing


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from scripted(monkeypatch)


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
