"""Deliveries: when an event is safe, what is answered meanwhile, and in which order events arrive. In virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.collect.delivery import JournalDelivery, KafkaDelivery, Spool
from ingestd.collect.delivery import forwarder as forwarder_module
from ingestd.collect.delivery.records import REFUSED_HEADER, Admission
from ingestd.collect.messages import Acknowledgement, Collected, RefusedError, UnavailableError
from ingestd.core.records import UnsentRecord
from ingestd.sources.kafka.sending import Sending
from tests.fakes.journal import MemoryJournal
from tests.fakes.sender import MemorySender
from tests.simulation.virtual_time import run

ACK_TIMEOUT_S = 5.0
NOW_MS = 1_700_000_000_000


def event(value: str, key: str = "client") -> Collected:
    return Collected(value.encode(), key.encode())


def values(sender: MemorySender) -> list[str]:
    return [record.value.decode() for record in sender.topic]


def now() -> float:
    return asyncio.get_running_loop().time()


class World:
    """A sender, a delivery, and journals that outlive it."""

    def __init__(self, *, with_journal: bool = True) -> None:
        self.sender = MemorySender()
        self.waiting, self.refused = MemoryJournal(), MemoryJournal()
        self.spool = Spool(self.waiting, self.refused) if with_journal else None
        self.delivery = KafkaDelivery(self.sender, ACK_TIMEOUT_S, self.spool)

    async def deliver(self, *events: str, key: str = "client") -> Acknowledgement:
        return await self.delivery.deliver("web", NOW_MS, [event(value, key) for value in events])

    async def forwarded(self) -> None:
        """Until the journal is empty."""
        while self.waiting.records:  # noqa: ASYNC110 - nobody else waits for it
            await asyncio.sleep(0.01)


@asynccontextmanager
async def world(*, with_journal: bool = True) -> AsyncIterator[World]:
    made = World(with_journal=with_journal)
    await made.delivery.start()
    try:
        yield made
    finally:
        await made.delivery.stop()


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """The test in virtual time."""

    def in_virtual_time() -> None:
        async def main() -> None:
            await test()

        run(main())

    in_virtual_time.__name__, in_virtual_time.__doc__ = test.__name__, test.__doc__
    return in_virtual_time


# -- Kafka


@virtual
async def test_answers_only_after_the_acknowledgement() -> None:
    async with world() as it:
        it.sender.latency_s = lambda: 0.3
        began = now()
        assert await it.deliver("a", "b") == "kafka"
        assert now() - began >= 0.6
        assert values(it.sender) == ["a", "b"]
        assert it.delivery.counts.produced == 2


@virtual
async def test_a_request_without_events_is_answered_at_once() -> None:
    async with world() as it:
        began = now()
        assert await it.deliver() == "kafka"
        assert now() == began


@virtual
async def test_records_have_the_client_as_key_the_time_of_arrival_and_their_source() -> None:
    async with world() as it:
        await it.deliver("a")
        assert it.sender.topic == [UnsentRecord(NOW_MS, b"client", b"a", (("ingestd-source", b"web"),))]


@virtual
async def test_without_a_journal_answers_unavailable_within_the_timeout() -> None:
    async with world(with_journal=False) as it:
        it.sender.set_away(away=True)
        began = now()
        with pytest.raises(UnavailableError, match="away"):
            await it.deliver("a")
        assert now() - began <= ACK_TIMEOUT_S
        assert it.delivery.error == "away"


@virtual
async def test_without_a_journal_waits_for_a_broker_that_comes_back() -> None:
    async with world(with_journal=False) as it:
        it.sender.set_away(away=True)
        asyncio.get_running_loop().call_later(2.0, lambda: it.sender.set_away(away=False))
        assert await it.deliver("a") == "kafka"


@virtual
async def test_what_was_given_up_is_not_sent_later() -> None:
    async with world(with_journal=False) as it:
        it.sender.set_away(away=True)
        await asyncio.gather(*(it.deliver(str(number)) for number in range(60)), return_exceptions=True)
        it.sender.set_away(away=False)
        assert await it.deliver("later") == "kafka"
        assert len(it.sender.topic) <= 51  # those that were on their way


# -- Kafka, and the journal behind it


@virtual
async def test_events_go_to_the_journal_while_kafka_does_not_acknowledge() -> None:
    async with world() as it:
        it.sender.notices = False
        it.sender.set_away(away=True)
        began = now()
        assert await it.deliver("a") == "journal"
        assert ACK_TIMEOUT_S / 2 <= now() - began < ACK_TIMEOUT_S


@virtual
async def test_a_broker_that_is_known_to_be_away_lets_no_request_wait() -> None:
    async with world() as it:
        it.sender.set_away(away=True)
        began = now()
        assert await it.deliver("a") == "journal"
        assert now() - began < 0.1
        assert it.delivery.error is None
        assert it.delivery.kafka_error == "away"
        assert it.delivery.waiting == 1


@virtual
async def test_one_delivery_that_waited_too_long_takes_the_others_with_it() -> None:
    async with world() as it:
        it.sender.notices = False
        it.sender.set_away(away=True)
        first = asyncio.create_task(it.deliver("a"))
        await asyncio.sleep(2.4)
        began = now()
        assert await it.deliver("b") == "journal"
        assert now() - began < 0.2
        assert await first == "journal"


@virtual
async def test_what_waits_for_kafka_comes_into_the_journal_before_later_events() -> None:
    async with world() as it:
        it.sender.notices = False
        it.sender.set_away(away=True)
        first = [asyncio.create_task(it.deliver(value)) for value in ("a", "b", "c")]
        await asyncio.sleep(0.5)
        it.sender.error = "away"
        assert await it.deliver("d") == "journal"
        assert [await answer for answer in first] == ["journal"] * 3
        assert [record.value for record in it.waiting.records] == [b"a", b"b", b"c", b"d"]


@virtual
async def test_the_journal_is_forwarded_in_order_when_kafka_is_back() -> None:
    async with world() as it:
        it.sender.set_away(away=True)
        for number in range(120):
            assert await it.deliver(str(number)) == "journal"
        it.sender.set_away(away=False)
        await it.forwarded()
        assert values(it.sender) == [str(number) for number in range(120)]
        assert it.delivery.counts.forwarded == it.delivery.counts.journaled == 120


@virtual
async def test_later_events_do_not_overtake_those_in_the_journal() -> None:
    async with world() as it:
        it.sender.set_away(away=True)
        for number in range(3000):
            await it.deliver(str(number))
        it.sender.set_away(away=False)
        answers = [await it.deliver(str(number)) for number in range(3000, 3200)]
        await it.forwarded()
        assert answers[0] == "journal"
        assert values(it.sender) == [str(number) for number in range(3200)]


@virtual
async def test_later_events_do_not_overtake_those_that_are_being_written_to_the_journal() -> None:
    async with world() as it:
        it.sender.set_away(away=True)
        it.waiting.delay_s = 2.0  # longer than later events wait for the end of the journal
        first = asyncio.create_task(it.deliver("a"))
        await asyncio.sleep(0.1)
        it.sender.set_away(away=False)
        await it.deliver("b")
        await first
        await it.forwarded()
        assert values(it.sender) == ["a", "b"]


@virtual
async def test_no_event_overtakes_those_that_wait_for_the_end_of_the_journal() -> None:
    async with world() as it:
        it.sender.set_away(away=True)
        await it.deliver("a")
        it.sender.set_away(away=False)
        held = [asyncio.create_task(it.deliver(str(number))) for number in range(5)]
        # Before the former ones have been submitted.
        submit, late = it.sender.submit, list[asyncio.Task[Acknowledgement]]()

        def submit_first(records: Sequence[UnsentRecord]) -> Sending:
            if records[0].value == b"0":
                late.append(asyncio.create_task(it.deliver("late")))
            return submit(records)

        it.sender.submit = submit_first  # type: ignore[method-assign]
        assert [await answer for answer in held] == ["kafka"] * 5
        assert await late[0] == "kafka"
        assert values(it.sender) == ["a", "0", "1", "2", "3", "4", "late"]


@virtual
async def test_goes_back_to_kafka_under_load() -> None:
    async with world() as it:
        answers: list[Acknowledgement] = []
        order = iter(range(100_000))

        async def client() -> None:
            while now() < 10:
                answers.append(await it.deliver(str(next(order))))

        clients = [asyncio.create_task(client()) for _ in range(20)]
        await asyncio.sleep(1)
        it.sender.set_away(away=True)
        await asyncio.sleep(4)
        it.sender.set_away(away=False)
        await asyncio.gather(*clients)
        assert answers[-20:] == ["kafka"] * 20
        assert "journal" in answers
        first_of_each = list(dict.fromkeys(values(it.sender)))
        assert first_of_each == [str(number) for number in range(len(first_of_each))]


@virtual
async def test_a_new_process_forwards_what_the_former_has_left() -> None:
    async with world() as it:
        it.sender.set_away(away=True)
        for number in range(10):
            await it.deliver(str(number))
        await it.delivery.stop()
        sender = MemorySender()
        delivery = KafkaDelivery(sender, ACK_TIMEOUT_S, it.spool)
        await delivery.start()
        await it.forwarded()
        await delivery.stop()
        assert values(sender) == [str(number) for number in range(10)]


@virtual
async def test_a_full_journal_answers_unavailable_and_says_so() -> None:
    async with world() as it:
        it.waiting.capacity = 1
        it.sender.set_away(away=True)
        assert await it.deliver("a") == "journal"
        with pytest.raises(UnavailableError, match="the journal is full"):
            await it.deliver("b")
        assert "the journal is full" in (it.delivery.error or "")
        it.sender.set_away(away=False)
        await it.forwarded()
        assert it.delivery.error is None
        assert await it.deliver("c") == "kafka"
        assert values(it.sender) == ["a", "c"]


@virtual
async def test_a_journal_that_hangs_answers_unavailable_in_time() -> None:
    async with world() as it:
        it.sender.set_away(away=True)
        it.waiting.delay_s = 60
        began = now()
        with pytest.raises(UnavailableError):
            await it.deliver("a")
        assert now() - began <= ACK_TIMEOUT_S
        it.waiting.delay_s = 0


@virtual
async def test_a_request_that_goes_away_takes_no_other_with_it() -> None:
    async with world() as it:
        it.sender.notices = False
        it.sender.set_away(away=True)
        leaves = asyncio.create_task(it.deliver("a"))
        stays = asyncio.create_task(it.deliver("b"))
        await asyncio.sleep(2.5001)  # both are about to be written to the journal
        leaves.cancel()
        assert await stays == "journal"


@virtual
async def test_too_many_unacknowledged_records_go_to_the_journal() -> None:
    async with world() as it:
        first = asyncio.create_task(it.deliver("a"))
        await asyncio.sleep(0)
        it.sender.full = True
        assert await it.deliver("b") == "journal"
        it.sender.full = False
        await first
        await it.forwarded()
        assert list(dict.fromkeys(values(it.sender))) == ["a", "b"]


@virtual
async def test_beyond_its_bounds_a_delivery_is_unavailable_at_once() -> None:
    sender = MemorySender()
    for admission in (Admission(max_deliveries=3), Admission(max_bytes=25)):
        delivery = KafkaDelivery(sender, ACK_TIMEOUT_S, admission=admission)
        waiting = [asyncio.create_task(delivery.deliver("web", NOW_MS, [event("a")])) for _ in range(3)]
        await asyncio.sleep(0)
        began = now()
        with pytest.raises(UnavailableError, match="wait already"):
            await delivery.deliver("web", NOW_MS, [event("a" * 10)])
        assert now() == began
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (admission.deliveries, admission.bytes) == (0, 0)


# -- what a topic refuses for good


def refuse_bad(record: UnsentRecord) -> bool:
    return record.value.startswith(b"bad")


@virtual
async def test_refused_events_are_kept_apart_with_the_reason_and_the_others_produced() -> None:
    async with world() as it:
        it.sender.refuses = refuse_bad
        assert await it.deliver("a", "bad", "b") == "journal"
        assert values(it.sender) == ["a", "b"]
        [kept] = it.refused.records
        assert kept.value == b"bad"
        assert dict(kept.headers) == {"ingestd-source": b"web", REFUSED_HEADER: b"it is too large"}
        assert await it.deliver("c") == "kafka"
        assert (it.delivery.counts.produced, it.delivery.counts.refused) == (3, 1)


@virtual
async def test_refused_events_do_not_block_the_forwarder() -> None:
    async with world() as it:
        it.sender.refuses = refuse_bad
        it.sender.set_away(away=True)
        for value in ("a", "bad 1", "b", "bad 2"):
            await it.deliver(value)
        it.sender.set_away(away=False)
        await it.forwarded()
        assert values(it.sender) == ["a", "b"]
        assert [record.value for record in it.refused.records] == [b"bad 1", b"bad 2"]


@virtual
async def test_refused_events_are_kept_where_the_rest_of_their_request_goes_to_the_journal() -> None:
    async with world() as it:
        it.sender.refuses = refuse_bad
        names = ["bad", *(str(number) for number in range(80))]
        answer = asyncio.create_task(it.deliver(*names))
        while not it.sender.topic:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.002)  # the first batch was answered
        it.sender.set_away(away=True)
        assert await answer == "journal"
        it.sender.set_away(away=False)
        await it.forwarded()
        assert [record.value for record in it.refused.records] == [b"bad"]
        assert [*dict.fromkeys(values(it.sender))] == names[1:]


@virtual
async def test_refused_events_are_tried_again_until_the_topic_takes_them() -> None:
    async with world() as it:
        it.sender.refuses = refuse_bad
        await it.deliver("bad 1", "bad 2")
        await asyncio.sleep(forwarder_module.RETRY_REFUSED_S + 1)
        assert [record.value for record in it.refused.records] == [b"bad 1", b"bad 2"]
        it.sender.refuses = lambda _: False
        await asyncio.sleep(forwarder_module.RETRY_REFUSED_S)
        assert not it.refused.records
        assert [(record.value, record.headers) for record in it.sender.topic] == [
            (b"bad 1", (("ingestd-source", b"web"),)),
            (b"bad 2", (("ingestd-source", b"web"),)),
        ]


@virtual
async def test_where_refused_events_cannot_be_kept_the_answer_is_unavailable() -> None:
    async with world() as it:
        it.sender.refuses = refuse_bad
        it.refused.failure = "the disk is full"
        with pytest.raises(UnavailableError, match="the disk is full"):
            await it.deliver("a", "bad")


@virtual
async def test_the_forwarder_keeps_what_is_refused_while_it_cannot_be_kept_apart() -> None:
    async with world() as it:
        it.sender.refuses = refuse_bad
        it.sender.set_away(away=True)
        await it.deliver("a", "bad", "b")
        it.refused.failure = "the disk is full"
        it.sender.set_away(away=False)
        await asyncio.sleep(20)
        assert [record.value for record in it.waiting.records] == [b"a", b"bad", b"b"]
        assert "the disk is full" in (it.delivery.kafka_error or "")
        it.refused.failure = None
        await it.forwarded()
        assert it.delivery.kafka_error is None
        assert set(values(it.sender)) == {"a", "b"}
        assert [record.value for record in it.refused.records] == [b"bad"]


@virtual
async def test_without_a_journal_an_event_that_is_too_large_is_refused_and_the_others_are_safe() -> None:
    async with world(with_journal=False) as it:
        it.sender.refuses = refuse_bad
        with pytest.raises(RefusedError, match="refuses 1 of 3 events for good, and has the others") as caught:
            await it.deliver("a", "bad", "b")
        assert caught.value.status == 413
        assert values(it.sender) == ["a", "b"]


@virtual
async def test_without_a_journal_a_topic_that_refuses_sound_events_is_unavailable() -> None:
    async with world(with_journal=False) as it:
        it.sender.refuses, it.sender.too_large = refuse_bad, False
        with pytest.raises(UnavailableError, match="refuses 1 of 2"):
            await it.deliver("a", "bad")


# -- the journal alone


@virtual
async def test_the_journal_alone_answers_after_its_append() -> None:
    journal = MemoryJournal(delay_s=0.2)
    delivery = JournalDelivery(journal, ACK_TIMEOUT_S)
    began = now()
    assert await delivery.deliver("web", NOW_MS, [event("a"), event("b")]) == "journal"
    assert now() - began >= 0.2
    assert [record.value for record in journal.records] == [b"a", b"b"]
    assert delivery.waiting == delivery.counts.journaled == 2


@virtual
async def test_the_journal_alone_is_unavailable_when_full_or_late() -> None:
    journal = MemoryJournal(capacity=1)
    delivery = JournalDelivery(journal, ACK_TIMEOUT_S)
    await delivery.deliver("web", NOW_MS, [event("a")])
    with pytest.raises(UnavailableError, match="full"):
        await delivery.deliver("web", NOW_MS, [event("b")])
    assert delivery.error == "the journal is full"
    journal.capacity, journal.delay_s = 10, 60
    with pytest.raises(UnavailableError, match="did not answer within 5 s"):
        await delivery.deliver("web", NOW_MS, [event("b")])


# -- any order of faults


async def live(seed: int, *, with_journal: bool) -> None:
    """Clients, a broker that comes and goes, processes that end: each acknowledged event arrives, in its order."""
    chance = random.Random(seed)
    it = World(with_journal=with_journal)
    it.waiting.capacity = chance.choice([20, 1000])
    it.sender.refuses = lambda record: record.value.endswith(b"bad")
    it.sender.latency_s = lambda: chance.choice([0.001, 0.01, 0.01, 0.5])
    answered: dict[str, list[str]] = {}
    ended = False

    async def client(name: str) -> None:
        number = 0
        while not ended:
            batch = [f"{name} {number + at}{' bad' * (chance.random() < 0.02)}" for at in range(chance.choice([1, 7]))]
            number += len(batch)
            try:
                await it.deliver(*batch, key=name)
            except (UnavailableError, RefusedError):
                pass
            else:
                answered.setdefault(name, []).extend(batch)
            await asyncio.sleep(chance.random() * 0.1)

    await it.delivery.start()
    clients = [asyncio.create_task(client(f"c{number}")) for number in range(4)]
    for _ in range(12):
        await asyncio.sleep(chance.random() * 3)
        it.sender.notices = chance.random() < 0.7
        it.sender.set_away(away=chance.random() < 0.5)
        it.waiting.failure = "broken" if chance.random() < 0.1 else None
        it.sender.full = chance.random() < 0.1
    ended, it.sender.full, it.waiting.failure = True, False, None
    it.sender.set_away(away=False)
    await asyncio.gather(*clients)
    await it.forwarded()
    await it.delivery.stop()

    topic = values(it.sender)
    safe = {*topic, *((record.value or b"").decode() for record in it.refused.records)}
    assert answered
    arrived = {value: at for at, value in reversed([*enumerate(topic)])}  # the first of each
    for sent in answered.values():
        assert {*sent} <= safe
        places = [arrived[value] for value in sent if value in arrived]
        assert places == sorted(places)
    if with_journal:
        counts = it.delivery.counts
        assert counts.forwarded + counts.refused + counts.produced >= sum(map(len, answered.values()))
        assert counts.forwarded <= counts.journaled


@settings(max_examples=60)
@given(st.integers(), st.booleans())
def test_no_acknowledged_event_is_lost_or_overtaken(seed: int, with_journal: bool) -> None:
    run(live(seed, with_journal=with_journal))
