"""`ingestd requeue` tells records apart that have the same offset: Kafka lost one of them, and wrote the other."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import EventsConfig
from ingestd.core.gzip import compress
from ingestd.requeue.batches import SPAN
from ingestd.requeue.receipts import _Offsets
from tests.requeue_world import NOON, TOPIC, Killed, Life, World, event


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def produced(world: World) -> list[str]:
    """The ids of the events."""
    return sorted(json.loads(record.value or b"")["event_id"] for _, record in world.log.committed[TOPIC])


def forked(world: World, *, in_lines: bool = True) -> None:
    """Offsets 10-14 of leader epoch 1 were lost, and 12-13 of epoch 3 took their place."""
    world.attempt(0, 10, [event(number) for number in range(5)], leader_epoch=1, in_lines=in_lines)
    world.attempt(
        0, 12, [event(20), event(21)], time=NOON + 1, leader_epoch=3, named=12, in_lines=in_lines
    )  # fmt: skip


@pytest.mark.parametrize("in_lines", [True, False])
async def test_both_records_of_one_offset_are_produced_once(world: World, *, in_lines: bool) -> None:
    forked(world, in_lines=in_lines)
    assert (await world.run()).produced == 7
    assert produced(world) == ["e0", "e1", "e2", "e20", "e21", "e3", "e4"]
    counts = await world.run()
    assert (counts.produced, counts.already_requeued, counts.unclear) == (0, 7, 0)
    epochs = sorted(dict(record.headers)["ingestd-origin-leader-epoch"] for _, record in world.log.committed[TOPIC])
    assert epochs == [b"1"] * 5 + [b"3"] * 2


async def test_the_same_offsets_of_two_epochs_have_a_receipt_each(world: World) -> None:
    world.attempt(0, 10, [event(1), event(2)], leader_epoch=1)
    world.attempt(0, 10, [event(3), event(4)], time=NOON + 1, leader_epoch=3, named=10)
    world.attempt(0, 10, [event(5), event(6)], time=NOON + 2, leader_epoch=4, named=10)
    assert (await world.run()).produced == 6
    assert len([key for key in world.sink.objects if key.startswith("requeued/") and "identity" not in key]) == 3
    assert (await world.run()).produced == 0
    assert produced(world) == ["e1", "e2", "e3", "e4", "e5", "e6"]


async def test_records_of_two_epochs_do_not_share_a_transaction(world: World) -> None:
    world.attempt(0, 10, [event(1), event(2)], leader_epoch=1)
    world.attempt(0, 12, [event(3), event(4)], leader_epoch=3)
    await world.run()
    assert world.log.transactions == [2, 2]
    world.attempt(0, 12, [event(5), event(6)], time=NOON + 1, leader_epoch=1)
    assert (await world.run()).produced == 2


@given(st.lists(st.integers(0, SPAN - 1)))
def test_a_set_of_offsets_has_those_that_were_added(added: list[int]) -> None:
    found = _Offsets()
    for offset in added:
        found.add(offset)
    near = {offset + step for offset in [0, SPAN, *added] for step in (-9, -8, -1, 0, 1, 8, 9)}
    assert {offset for offset in near if found.has(offset)} == set(added)


async def test_killed_at_any_moment_each_record_is_produced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for last in range(1, 200):
        world = World(monkeypatch)
        world.attempt(0, 10, [event(1), event(2)], leader_epoch=1)
        world.attempt(0, 10, [event(3), event(4)], time=NOON + 1, leader_epoch=3, named=10)
        try:
            await world.run(Life(last))
        except Killed:
            ended = False
        else:
            ended = True
        await world.run()
        assert produced(world) == ["e1", "e2", "e3", "e4"], last
        if ended:
            return
    raise AssertionError("it never came to its end")


async def test_an_object_named_after_the_beginning_of_its_epoch_has_landed(world: World) -> None:
    """Its range begins before, with offsets of no record."""
    world.attempt(0, 10, [event(1)], leader_epoch=1)
    await world.run()
    world.attempt(0, 11, [event(2)], leader_epoch=2, named=11)
    key = next(key for key in world.sink.objects if key.startswith("events/") and "epoch" in key)
    assert key.endswith("+epoch0000000002.jsonl.gz")
    for each, (body, metadata) in list(world.sink.objects.items()):
        if metadata.get("leader-epoch") == "2":
            world.sink.objects[each] = body, {**metadata, "start": "9"}
    counts = await world.run()
    assert (counts.produced, counts.unreadable_objects, counts.unlanded_objects) == (1, 0, 0)


async def test_an_attempt_that_did_not_land_is_superseded_under_either_name(world: World) -> None:
    accepting = EventsConfig(unknown_types="accept")
    world.attempt(0, 10, [event(1), b"{"], leader_epoch=1, named=10, lands=False)
    world.attempt(0, 10, [event(1), b"{"], leader_epoch=1, named=10, events=accepting)
    counts = await world.run()
    assert (counts.superseded_objects, counts.unlanded_objects, counts.produced) == (1, 0, 0)


# -- without leader epochs


async def test_records_of_older_versions_are_produced_once(world: World) -> None:
    world.attempt(0, 10, [event(1), event(2)])
    assert (await world.run()).produced == 2
    assert (await world.run()).already_requeued == 2
    (receipt,) = (body for key, body in world.sink.objects.items() if key.endswith("+00000000000000000011.json.gz"))
    assert b"leader_epoch" not in receipt[0]


@pytest.mark.parametrize(("first", "second"), [(None, 3), (3, None)])
async def test_records_that_cannot_be_told_apart_are_counted_and_not_produced(
    world: World, first: int | None, second: int | None
) -> None:
    """The same record, or two that have one offset: neither twice, nor left out without a word."""
    world.attempt(0, 10, [event(1), event(2)], leader_epoch=first)
    assert (await world.run()).produced == 2
    world.attempt(0, 11, [event(12), event(13)], time=NOON + 1, leader_epoch=second)
    counts = await world.run()
    assert (counts.already_requeued, counts.unclear, counts.produced) == (2, 1, 1)
    assert produced(world) == ["e1", "e13", "e2"]


async def test_a_receipt_of_an_older_version_is_read(world: World) -> None:
    world.attempt(0, 10, [event(1), event(2)])
    await world.run()
    (key,) = (key for key in world.sink.objects if key.endswith("+00000000000000000011.json.gz"))
    old = b'{"topic":"marketing_events","partition":0,"offsets":[10,11]}\n'
    world.sink.objects[key] = compress(old).data, world.sink.objects[key][1]
    assert (await world.run()).already_requeued == 2
