"""One partition's writer, step by step: what it asks its source and its sink, and what it makes of the answers."""

from collections.abc import Iterator

import pytest

from ingestd.core.chain import Neighbours
from ingestd.core.flush_policy import FlushReason
from ingestd.core.records import LogRange, Position
from ingestd.core.stored import ObjectInfo, Stored
from tests.partition_writer_world import LOG, NOON, TAG, Play, key, scripted, thing


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from scripted(monkeypatch)


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
