"""`ingestd requeue` where the topic refuses records: these stay in the quarantine, all others are produced once."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Collection

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestd.cli import requeue as command
from ingestd.cli.requeue import Options
from ingestd.config.load import Settings
from ingestd.core.errors import SourceError
from ingestd.core.records import PlainRecord
from ingestd.requeue import batches, requeuer
from tests.requeue_world import TOPIC, Life, Place, World, dies, event

REASON = "the topic does not accept it (change the topic)"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def refuse(world: World, places: Collection[Place]) -> None:
    """Let the topic refuse the records with these origins."""

    def refuses(record: PlainRecord) -> bool:
        headers = dict(record.headers)
        return (int(headers["ingestd-origin-partition"]), int(headers["ingestd-origin-offset"])) in places

    world.log.refuses = refuses


def a_quarantine(world: World) -> list[Place]:
    """Ten valid records of two partitions, in the order in which they are produced."""
    for partition in range(2):
        world.attempt(partition, 0, [event(number) for number in range(3)])
        world.attempt(partition, 3, [event(number) for number in range(2)])
    return [(partition, offset) for partition in range(2) for offset in range(5)]


async def test_a_refused_record_stays_with_its_reason_and_the_others_go(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    places = a_quarantine(world)
    refuse(world, [(0, 3)])
    counts = await world.run()
    assert world.log.places() == world.receipts == [place for place in places if place != (0, 3)]
    assert (counts.good, counts.produced, counts.refused) == (10, 9, 1)
    [record] = counts.refused_records
    assert (record.topic, record.partition, record.offset, record.reason) == (TOPIC, 0, 3, REASON)
    assert record.object in world.sink.objects
    assert f"{TOPIC}+00000+{3:020d}" in record.object
    assert str(record) in caplog.text


async def test_a_record_is_produced_when_the_topic_accepts_it(world: World) -> None:
    places = a_quarantine(world)
    refuse(world, [(0, 3), (1, 0)])
    await world.run()
    refuse(world, [])
    counts = await world.run()
    assert (counts.already_requeued, counts.produced, counts.refused) == (8, 2, 0)
    assert world.log.places() == world.receipts == places


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(refused=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 19))), limit=st.integers(1, 40))
def test_exactly_the_others_are_produced_in_their_order(
    monkeypatch: pytest.MonkeyPatch, refused: set[Place], limit: int
) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", limit)
    world = World(monkeypatch)
    for partition in range(2):
        world.attempt(partition, 0, [event(number) for number in range(20)])
    refuse(world, refused)
    counts = asyncio.run(world.run())
    others = [
        (partition, offset) for partition in range(2) for offset in range(20) if (partition, offset) not in refused
    ]
    assert [(partition, record.offset) for partition, record in world.log.committed[TOPIC]] == others
    assert world.receipts == others
    assert {(record.partition, record.offset) for record in counts.refused_records} == refused
    assert counts.refused == len(refused)
    assert world.log.restarts <= len(refused) * (math.ceil(math.log2(min(limit, 20))) + 1)


async def test_without_a_refusal_nothing_is_restarted(world: World) -> None:
    a_quarantine(world)
    await world.run()
    assert world.log.restarts == 0


async def test_one_of_many_costs_few_restarts(world: World) -> None:
    world.attempt(0, 0, [event(number) for number in range(2000)])
    refuse(world, [(0, 1234)])
    assert (await world.run()).produced == 1999
    assert 10 <= world.log.restarts <= 12


async def test_where_all_are_refused_each_is_tried_alone(world: World) -> None:
    world.attempt(0, 0, [event(number) for number in range(16)])
    refuse(world, [(0, offset) for offset in range(16)])
    counts = await world.run()
    assert (counts.produced, counts.refused) == (0, 16)
    assert world.log.restarts == 2 * 16 - 1 - 1  # none after the last


async def test_the_report_names_some_and_the_log_all(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(requeuer, "MAX_REFUSED", 3)
    places = a_quarantine(world)
    refuse(world, places)
    counts = await world.run()
    assert (counts.refused, len(counts.refused_records)) == (10, 3)
    assert caplog.text.count(REASON) == 10


# -- killed


async def test_killed_at_any_moment_and_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 4)
    refused = [(0, 1), (0, 4), (1, 0)]
    step, died = 0, True
    while died:
        step += 1
        world = World(monkeypatch)
        others = [place for place in a_quarantine(world) if place not in refused]
        refuse(world, refused)
        died = await dies(world, step)
        assert Counter(world.log.places()) <= Counter(others)
        counts = await world.run()
        assert counts.refused == len(refused)
        assert world.log.places() == world.receipts == others, f"killed at step {step}"
    assert step > 80


# -- two at once


async def test_stops_where_another_run_has_produced_meanwhile(world: World) -> None:
    others = [place for place in a_quarantine(world) if place != (0, 0)]
    refuse(world, [(0, 0)])
    second: list[asyncio.Task[object]] = []

    async def pace() -> None:
        # When the first record was refused, and before the restart.
        if len(world.log.transactions) == 0 and world.log.attempts == 1 and not second:
            second.append(asyncio.create_task(world.run()))
            await second[0]

    with pytest.raises(SourceError, match="another requeue to the topic has begun, and has produced records"):
        await world.run(Life(pace=pace))
    assert second
    assert world.log.places() == world.receipts == others


async def test_goes_on_where_another_run_has_begun_and_produced_nothing(world: World) -> None:
    others = [place for place in a_quarantine(world) if place != (0, 0)]
    refuse(world, [(0, 0)])
    second: list[asyncio.Task[bool]] = []

    async def pace() -> None:
        if world.log.attempts == 1 and not second:
            second.append(asyncio.create_task(dies(world, 12)))
            await second[0]
            assert max(world.log.epochs.values()) == 2

    await world.run(Life(pace=pace))
    assert second
    assert world.log.places() == world.receipts == others


@pytest.mark.parametrize("seed", range(60))
async def test_two_at_once_produce_each_record_once(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 4)
    rng, world = random.Random(seed), World(monkeypatch)
    places = a_quarantine(world)
    refused = rng.sample(places, rng.randint(1, 4))
    others = [place for place in places if place not in refused]
    refuse(world, refused)
    await world.run_three_at_once(rng)
    assert Counter(world.log.places()) <= Counter(others)
    await world.run()
    assert world.log.places() == world.receipts == others


# -- the command


def run(world: World, monkeypatch: pytest.MonkeyPatch, options: Options) -> int:
    original = command.Requeue.run

    async def lively(process: command.Requeue) -> None:
        world.begin(Life())
        await original(process)

    monkeypatch.setattr(command.Requeue, "run", lively)
    return command.run(Settings(world.config, {}), options)


def test_reports_for_people(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(requeuer, "MAX_REFUSED", 1)
    a_quarantine(world)
    refuse(world, [(1, 0), (1, 1)])
    assert run(world, monkeypatch, Options()) == 1
    key = next(key for key in world.sink.objects if "quarantine/" in key and f"+00001+{0:020d}" in key)
    out = capsys.readouterr().out
    assert "  produced    8 records\n" in out
    assert out.endswith(
        "  refused     2 records by the topic, left in the quarantine for another run\n"
        f"  refused     {TOPIC}[1] at 0 in {key}: {REASON}\n"
        "  refused     1 more record: see the log\n"
    )


def test_reports_for_programs(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_quarantine(world)
    refuse(world, [(1, 0)])
    assert run(world, monkeypatch, Options(json=True)) == 1
    report = msgspec.json.decode(capsys.readouterr().out)
    assert (report["produced"], report["refused"]) == (9, 1)
    [record] = report["refused_records"]
    assert record.pop("object") in world.sink.objects
    assert record == {"topic": TOPIC, "partition": 1, "offset": 0, "reason": REASON}
