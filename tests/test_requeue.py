"""`ingestd requeue`: which records are produced again, and that none is produced twice."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ingestd import wiring
from ingestd.cli import requeue as command
from ingestd.cli.requeue import Options
from ingestd.config.load import Settings
from ingestd.config.model import Config, EventsConfig, SinkConfig
from ingestd.config.validate import TOPIC_MAX
from ingestd.core.errors import ConfigError, SinkForbidden, SinkUnavailable, SourceError
from ingestd.core.object_keys import QUARANTINE
from ingestd.core.rejections import Reason
from ingestd.requeue import batches
from ingestd.requeue.batches import SPAN
from ingestd.sinks.local import LocalSink
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_sink import Call, Fault, MemorySink
from tests.requeue_world import DAY_MS, NOON, TOPIC, Life, Place, World, dies, event

BROKEN = b"<html>502 Bad Gateway</html>"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch, repaired=3, other=2)


# -- which records


async def test_produces_records_that_are_valid_now_and_leaves_the_rest(world: World) -> None:
    world.attempt(1, 100, [event(0), BROKEN, event(1, "web_visit"), event(2), None])
    counts = await world.run()
    assert world.log.places() == [(1, 100), (1, 103)]
    assert (counts.objects, counts.read, counts.matched, counts.good, counts.produced) == (1, 4, 4, 2, 2)
    assert counts.failing == {"not_json": 1, "null_value": 1}


async def test_a_record_goes_back_to_its_partition_unchanged(world: World) -> None:
    world.attempt(3, 7, [event(0)])
    await world.run()
    [(partition, record)] = world.log.committed[TOPIC]
    assert partition == 3
    assert (record.key, record.value) == (b"key 0", event(0))
    assert record.headers[0] == ("trace", b"\xfe")
    assert record.timestamp > NOON


async def test_another_topic_with_less_partitions_takes_all_of_them(world: World) -> None:
    for partition in range(4):
        world.attempt(partition, 0, [event(0)])
    await world.run(to="repaired")
    assert [partition for partition, _ in world.log.committed["repaired"]] == [0, 1, 2, 0]
    assert not world.log.committed[TOPIC]


async def test_each_target_has_its_own_receipts(world: World) -> None:
    world.attempt(1, 0, [event(0)])
    for target in ("repaired", None, "repaired", None):
        await world.run(to=target)
    assert world.log.places("repaired") == world.log.places() == [(1, 0)]


async def test_a_topic_with_the_same_prefix_is_not_read(world: World) -> None:
    world.attempt(0, 0, [event(0)], topic=f"{TOPIC}.old")
    assert (await world.run()).read == 0


async def test_selects_by_reason(world: World) -> None:
    world.attempt(0, 0, [event(0), BROKEN])
    counts = await world.run(reason=[Reason.NOT_JSON])
    assert (counts.read, counts.matched, counts.failing) == (2, 1, {"not_json": 1})
    counts = await world.run(reason=[Reason.UNKNOWN_TYPE, Reason.NOT_JSON])
    assert (counts.matched, counts.produced) == (2, 1)


async def test_selects_by_time(world: World) -> None:
    for day in range(5):
        world.attempt(0, 10 * day, [event(0), event(1)], time=NOON + day * DAY_MS, step=1000)
    await world.run(since=NOON + DAY_MS + 1, until=NOON + 3 * DAY_MS + 1)
    assert world.log.places() == [(0, 11), (0, 20), (0, 21), (0, 30)]


async def test_lists_no_day_after_the_last_one(world: World) -> None:
    for day in range(5):
        world.attempt(0, day, [event(0)], time=NOON + day * DAY_MS)
    calls: list[Call] = []
    world.sink.fail_when(calls.append)
    await world.run(until=NOON + 1)
    listed = [call.key for call in calls if call.operation == "list" and call.key.startswith(QUARANTINE)]
    assert listed == [f"quarantine/year=2024/month=10/day=04/{TOPIC}+"]


async def test_finds_records_in_an_object_that_began_days_before(world: World) -> None:
    world.attempt(0, 0, [event(0)], time=NOON - DAY_MS)
    world.attempt(0, 10, [event(0), event(1), event(2)], time=NOON, step=3 * DAY_MS)
    world.attempt(1, 10, [event(0)], time=NOON)
    await world.run(since=NOON + 2 * DAY_MS)
    assert world.log.places() == [(0, 11), (0, 12)]


# -- which objects count


async def test_an_attempt_that_did_not_land_is_superseded_by_the_one_that_did(world: World) -> None:
    world.attempt(0, 0, [event(0), BROKEN], lands=False)
    world.attempt(0, 0, [event(0), event(1, "web_visit"), event(2)])
    counts = await world.run()
    assert world.log.places() == [(0, 0), (0, 2)]
    assert (counts.objects, counts.superseded_objects, counts.superseded_records) == (1, 1, 2)


async def test_what_became_a_row_in_the_attempt_that_landed_is_not_produced(world: World) -> None:
    world.attempt(0, 0, [event(0), BROKEN], lands=False)
    world.attempt(0, 0, [event(0), BROKEN], events=EventsConfig())
    counts = await world.run()
    assert not world.log.places()
    assert (counts.superseded_records, counts.failing) == (2, {"not_json": 1})


async def test_records_that_have_not_landed_are_not_produced(world: World) -> None:
    world.attempt(0, 0, [event(0)], lands=False)
    counts = await world.run()
    assert not world.log.places()
    assert (counts.unlanded_objects, counts.unlanded_records) == (1, 1)


async def test_the_last_attempt_on_an_earlier_day_is_looked_at_with_all_its_rivals(world: World) -> None:
    world.attempt(0, 0, [event(0), event(1)], step=2 * DAY_MS)
    for number in range(20):
        world.attempt(0, 0, [event(0), BROKEN + b"%d" % number], lands=False)
    await world.run(since=NOON + DAY_MS)
    assert world.log.places() == [(0, 1)]


async def test_at_least_once_a_record_in_two_objects_is_produced_once(world: World) -> None:
    world.config = msgspec.structs.replace(world.config, sink=SinkConfig(delivery="at-least-once"))
    world.attempt(0, 0, [event(0), event(1)])
    world.attempt(0, 0, [event(0), event(1), event(2)])
    counts = await world.run()
    assert world.log.places() == [(0, 0), (0, 1), (0, 2)]
    assert (counts.objects, counts.already_requeued) == (2, 2)


async def test_a_damaged_object_does_not_stop_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.attempt(0, 0, [event(0)])
    world.attempt(1, 0, [event(1), event(2)])
    world.attempt(2, 0, [event(3)])
    key = next(key for key in world.sink.objects if key.startswith(QUARANTINE) and "+00001+" in key)
    body, metadata = world.sink.objects[key]
    world.sink.objects[key] = body[:-9], metadata
    counts = await world.run()
    assert {(0, 0), (2, 0)} <= set(world.log.places())
    assert counts.unreadable_objects == 1
    assert key in caplog.text


async def test_an_object_without_metadata_is_skipped(world: World) -> None:
    world.attempt(0, 0, [event(0)])
    key = next(key for key in world.sink.objects if key.startswith(QUARANTINE))
    world.sink.objects[key] = world.sink.objects[key][0], {}
    counts = await world.run()
    assert (counts.unreadable_objects, counts.read) == (1, 0)


# -- none twice


async def test_a_second_run_produces_nothing(world: World) -> None:
    world.attempt(1, 100, [event(0), BROKEN, event(2)])
    await world.run()
    counts = await world.run()
    assert world.log.places() == world.receipts == [(1, 100), (1, 102)]
    assert (counts.already_requeued, counts.produced, counts.failing) == (2, 0, {"not_json": 1})


async def test_what_failed_once_is_produced_when_it_is_good(world: World) -> None:
    world.attempt(0, 0, [event(0), BROKEN, event(1, "web_visit").replace(b"Z", b"")])
    world.config = msgspec.structs.replace(
        world.config, events=EventsConfig(unknown_types="reject", naive_timestamps="reject")
    )
    world.attempt(1, 0, [event(0)])
    assert (await world.run()).produced == 0
    world.config = msgspec.structs.replace(world.config, events=EventsConfig())
    assert (await world.run()).produced == 2
    assert world.log.places() == world.receipts == [(0, 0), (1, 0)]


async def test_many_transactions_over_spans_and_objects(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 3)
    expected = []
    for partition in (0, 1):
        for start in (SPAN - 10, SPAN - 5, 5 * SPAN - 2):
            world.attempt(partition, start, [event(number) for number in range(5)])
            expected += [(partition, offset) for offset in range(start, start + 5)]
    await world.run()
    await world.run()
    assert world.log.places() == world.receipts == sorted(expected)
    assert max(world.log.transactions) == 3


async def test_records_of_several_small_objects_share_a_transaction(world: World) -> None:
    for start in range(0, 100, 10):
        world.attempt(0, start, [event(0), event(1, "web_visit")])
    await world.run()
    assert world.log.transactions == [10]


async def test_each_lineage_has_its_own_receipts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.attempt(0, 0, [event(0)])
    await world.run()
    world.config = msgspec.structs.replace(world.config, sink=SinkConfig(lineage="2026-02"))
    world.attempt(0, 0, [event(1)])
    await world.run()
    assert [record.value for _, record in world.log.committed[TOPIC]] == [event(0), event(1)]


async def test_two_groups_that_share_a_sink_produce_under_one_name(world: World) -> None:
    world.attempt(0, 0, [event(0)])
    await world.run()
    world.config = msgspec.structs.replace(
        world.config, kafka=msgspec.structs.replace(world.config.kafka, group_id="by-mistake")
    )
    await world.run()
    assert len(world.log.epochs) == 1


async def test_two_sinks_that_share_a_group_do_not_overwrite_each_other_s_notes(world: World) -> None:
    world.attempt(0, 0, [event(0)])
    step = 0
    while not world.log.committed[TOPIC]:
        step += 1
        await dies(world, step)
    first, world.sink = world.sink, MemorySink()
    world.attempt(0, 1, [event(1)])
    await world.run()
    world.sink = first
    await world.run()
    assert world.log.places() == [(0, 0), (0, 1)]
    assert world.receipts == [(0, 0)]


async def test_another_cluster_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.attempt(0, 0, [event(0)])
    await world.run()
    monkeypatch.setattr("tests.requeue_world.CLUSTER", "another")
    with pytest.raises(ConfigError, match="of another Kafka cluster, a-cluster"):
        await world.run()


async def test_a_note_that_another_program_overwrote_is_an_error(world: World) -> None:
    world.attempt(0, 0, [event(0)])
    await world.run()
    world.log.notes = dict.fromkeys(world.log.notes, "")
    with pytest.raises(SourceError, match="another program overwrote its committed offset"):
        await world.run()


# -- killed


def a_quarantine(world: World) -> set[Place]:
    """Of three partitions with some attempts that did not land; returns what must be produced."""
    for partition in range(3):
        world.attempt(partition, 0, [event(0), event(1), BROKEN], lands=False)
        world.attempt(partition, 0, [event(number) for number in range(4)])
        world.attempt(partition, 4, [event(number) for number in range(3)])
    return {(partition, offset) for partition in range(3) for offset in range(7)}


async def test_killed_at_any_moment_and_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 3)
    step = 0
    while True:
        step += 1
        world = World(monkeypatch)
        expected = a_quarantine(world)
        died = await dies(world, step)
        assert Counter(world.log.places()) <= Counter(expected)
        await world.run()
        assert world.log.places() == world.receipts == sorted(expected), f"killed at step {step}"
        if not died:
            break
    assert step > 60


@pytest.mark.parametrize("seed", range(30))
async def test_killed_again_and_again(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 2)
    rng, world = random.Random(seed), World(monkeypatch)
    expected = a_quarantine(world)
    while await dies(world, rng.randint(1, 90)):
        assert Counter(world.log.places()) <= Counter(expected)
    assert world.log.places() == world.receipts == sorted(expected)


async def test_a_dry_run_knows_what_a_killed_one_produced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 3)
    step, died = 0, True
    while died:
        step += 1
        world = World(monkeypatch)
        expected = a_quarantine(world)
        died = await dies(world, step)
        before = dict(world.sink.objects)
        counts = await world.run(dry_run=True)
        assert counts.good == len(expected) - len(world.log.places())
        assert counts.already_requeued == len(world.log.places())
        assert world.sink.objects == before


# -- two at once


@pytest.mark.parametrize("seed", range(60))
async def test_two_at_once_produce_each_record_once(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 2)
    rng, world = random.Random(seed), World(monkeypatch)
    expected = a_quarantine(world)
    await world.run_three_at_once(rng)
    assert Counter(world.log.places()) <= Counter(expected)
    await world.run()
    assert world.log.places() == world.receipts == sorted(expected)


# -- the sink


async def test_a_fault_of_the_sink_is_tried_again(world: World) -> None:
    expected = a_quarantine(world)
    world.config = msgspec.structs.replace(world.config, sink=SinkConfig(retry_initial=Config().sink.retry_initial))
    world.sink.fail(3, applied=True)
    await world.run()
    assert world.log.places() == world.receipts == sorted(expected)


async def test_gives_up_an_unavailable_sink_and_the_next_run_continues(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 3)
    monkeypatch.setattr(SinkRetrier.call_briefly, "__kwdefaults__", {"patience_s": 0.2})
    expected = a_quarantine(world)

    def no_receipts(call: Call) -> Fault | None:
        return Fault() if call.operation == "put_new" and len(world.log.transactions) == 2 else None

    world.sink.fail_when(no_receipts)
    with pytest.raises(SinkUnavailable):
        await world.run()
    assert len(world.log.places()) == 6
    assert len(world.receipts) == 3
    world.sink.fail_when(None)
    await world.run()
    assert world.log.places() == world.receipts == sorted(expected)


async def test_a_directory_is_a_sink_too(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = a_quarantine(world)
    directory = LocalSink(tmp_path / "data")
    await directory.start()
    for key, (body, metadata) in world.sink.objects.items():
        await directory.put_new(key, body, metadata)
    monkeypatch.setattr(wiring, "make_sink", lambda _: directory)
    assert [(await world.run()).produced for _ in range(2)] == [len(expected), 0]
    assert world.log.places() == sorted(expected)


async def test_a_dry_run_needs_no_right_to_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = a_quarantine(world)

    def read_only(call: Call) -> Fault | None:
        return Fault(SinkForbidden) if call.operation == "put_new" else None

    world.sink.fail_when(read_only)
    monkeypatch.setattr(MemorySink, "start", None)
    assert (await world.run(dry_run=True)).good == len(expected)


async def test_a_listing_that_breaks_off_is_continued(world: World) -> None:
    expected = a_quarantine(world)
    failed: list[Call] = []

    def once(call: Call) -> Fault | None:
        if call.operation != "list" or call in failed:
            return None
        failed.append(call)
        return Fault()

    world.sink.fail_when(once)
    await world.run()
    assert failed
    assert world.log.places() == sorted(expected)


# -- the command


def settings(world: World) -> Settings:
    return Settings(world.config, {})


@pytest.fixture
def life() -> Life:
    return Life()


@pytest.fixture
def started(world: World, monkeypatch: pytest.MonkeyPatch, life: Life) -> Callable[[Options], int]:
    """The command, from its start to its end."""

    async def lively(process: command.Requeue) -> None:
        world.begin(life)
        await original(process)

    original = command.Requeue.run
    monkeypatch.setattr(command.Requeue, "run", lively)
    return lambda options: command.run(settings(world), options)


def test_reports_for_people(
    world: World, started: Callable[[Options], int], capsys: pytest.CaptureFixture[str]
) -> None:
    world.attempt(0, 0, [event(0), BROKEN], lands=False)
    world.attempt(0, 0, [event(0), BROKEN, event(1)])
    world.attempt(1, 0, [event(0)], lands=False)
    assert started(Options()) == 0
    assert capsys.readouterr().out == (
        "requeue to marketing_events\n"
        "\n"
        "  read        3 records in 1 quarantine object\n"
        "  matched     3 records\n"
        "  before      0 records already requeued\n"
        "  valid now   2 records\n"
        "  produced    2 records\n"
        "  rejected    1: not_json 1\n"
        "  superseded  2 records in 1 object of attempts that failed: they are in another object, or are rows\n"
        "  not landed  1 record in 1 object without a data object: not landed yet, or deleted\n"
    )


def test_a_dry_run_shows_some_and_writes_nothing(
    world: World, started: Callable[[Options], int], capsys: pytest.CaptureFixture[str]
) -> None:
    world.attempt(3, 100, [event(number) for number in range(50)])
    before = dict(world.sink.objects)
    assert started(Options(dry_run=True, to="repaired")) == 0
    out = capsys.readouterr().out
    assert "  produced    nothing (dry run)\n" in out
    assert "  would be    marketing_events[3] at 100, unknown_type: to partition 0\n" in out
    assert out.count("would be") == 10
    assert world.sink.objects == before
    assert not world.log.epochs


def test_reports_for_programs(
    world: World, started: Callable[[Options], int], capsys: pytest.CaptureFixture[str]
) -> None:
    world.attempt(0, 0, [event(0), BROKEN])
    assert started(Options(json=True)) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {
        "dry_run": False,
        "to": [TOPIC],
        "objects": 1,
        "superseded_objects": 0,
        "superseded_records": 0,
        "unlanded_objects": 0,
        "unlanded_records": 0,
        "unreadable_objects": 0,
        "read": 2,
        "matched": 2,
        "already_requeued": 0,
        "unclear": 0,
        "good": 1,
        "produced": 1,
        "refused": 0,
        "refused_records": [],
        "skipped": 0,
        "failing": {"not_json": 1},
        "examples": [],
    }


def test_exits_with_1_where_an_object_cannot_be_read(world: World, started: Callable[[Options], int]) -> None:
    world.attempt(0, 0, [event(0)])
    key = next(key for key in world.sink.objects if key.startswith(QUARANTINE))
    world.sink.objects[key] = b"no gzip", world.sink.objects[key][1]
    assert started(Options()) == 1


def test_sigterm_ends_it_like_ctrl_c(world: World, started: Callable[[Options], int], life: Life) -> None:
    expected = a_quarantine(world)

    async def pace() -> None:
        if life.steps == 40:
            signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.001)

    life.pace = pace
    with pytest.raises(KeyboardInterrupt):
        started(Options())
    assert len(world.log.places()) < len(expected)


def test_a_topic_that_does_not_exist_is_an_error(started: Callable[[Options], int]) -> None:
    with pytest.raises(SourceError, match=r"topic nowhere does not exist \(create it, or correct --to\)"):
        started(Options(to="nowhere"))


def test_a_receipt_without_room_is_refused_before_anything_is_produced(
    world: World, started: Callable[[Options], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemorySink, "url", f"memory:///{'p' * 400}")
    kafka = msgspec.structs.replace(world.config.kafka, topics=("o" * TOPIC_MAX,))
    world.config = msgspec.structs.replace(world.config, kafka=kafka, sink=SinkConfig(lineage="l" * 249))
    with pytest.raises(ConfigError, match=r"would have keys of 1\d\d\d characters, more than 1024"):
        started(Options(to="t" * TOPIC_MAX))
    assert not world.sink.calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(since=2, until=2), "--since is not before --until"),
        (Options(to="a/b"), "--to 'a/b' is not a topic name"),
        (Options(to=".."), "not a topic name"),
        (Options(to="x" * (TOPIC_MAX + 1)), "not a topic name"),
    ],
)
def test_refuses_options_that_make_no_sense(world: World, options: Options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        command.run(settings(world), options)
