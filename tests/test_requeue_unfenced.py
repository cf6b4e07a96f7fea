"""Requeue into Kinesis and SQS, which have no transactions: no record is put twice, and what is unclear is said."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence

import pytest

from ingestd.config.model import EventsConfig, SinkConfig
from ingestd.core import quarantine
from ingestd.core.errors import IngestdError, SinkUnavailable, SourceError
from ingestd.core.events import load_model
from ingestd.core.quarantine import Quarantined
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.row_origin import RowOrigin
from ingestd.core.validation import EventValidator, Rejected
from ingestd.requeue.attempts import Attempts, attempts_folder
from ingestd.requeue.batches import Selection, to_validate
from ingestd.requeue.documents import Documents
from ingestd.requeue.requeuer import RequeueCounts
from ingestd.requeue.unfenced import LandedObject, LineFormat, Put, UnfencedRequeuer
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.kinesis.port import KinesisUnavailable, PutEntry
from ingestd.sources.kinesis.sender import MAX_RECORD, PATIENCE, KinesisSender
from tests.fakes.memory_sink import Call, Fault, MemorySink
from tests.simulation import virtual_time

PLACE = TopicPartition("events", 3)
KEY = "quarantine/year=2026/month=01/day=01/events+00003+x+0123456789abcdef.jsonl.gz"
GOOD = b'{"event_type":"web_visit","event_id":"e","client_id":"c","event_timestamp":"2026-01-01T00:00:00Z"}'
FIRST = 10**55  # as large as a sequence number


class Target:
    """Takes records, but for those that it refuses; may fail after having taken them."""

    def __init__(self) -> None:
        self.put_ids: list[str] = []
        self.taken: list[Put] = []
        self.refuses: set[int] = set()
        self.fails_after_taking = False

    async def put(self, records: Sequence[Put]) -> list[str | None]:
        await asyncio.sleep(0.01)
        self.taken += records
        numbers = [int(record.unique_id.rpartition(":")[2]) for record in records]
        self.put_ids += [
            record.unique_id for record, number in zip(records, numbers, strict=True) if number not in self.refuses
        ]
        if self.fails_after_taking:
            raise SourceError("the answer was lost")
        return ["too large" if number in self.refuses else None for number in numbers]


class World:
    """A quarantine object of some records in a sink, and runs on it."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.sink = MemorySink()
        self.target = Target()
        records = [
            Rejected(
                number,
                PlainRecord(FIRST + number, 1000 + number, value, b"k", [("h", b"\xff")]),
                Reason.UNKNOWN_TYPE,
                "$",
                "no",
            )
            for number, value in enumerate(values)
        ]
        self.body = gzip.compress(quarantine.encode(PLACE, records, origin=RowOrigin.WIDE_OFFSET), mtime=0)

    async def run(
        self, *, dry: bool = False, repeat_unclear: bool = False, selection: Selection | None = None
    ) -> RequeueCounts:
        retrier = SinkRetrier(SinkConfig())
        documents = Documents(self.sink, retrier)
        counts = RequeueCounts()
        requeuer = UnfencedRequeuer(
            self._body,
            lambda key: Attempts(documents, attempts_folder("quarantine/", "events", key)),
            LineFormat(quarantine.decode, _to_validate),
            validator=EventValidator(EventsConfig(), load_model(None)),
            selection=selection or Selection(),
            counts=counts,
            target=None if dry else self.target,
            repeat_unclear=repeat_unclear,
        )
        await requeuer.run(self._objects())
        return counts

    async def _body(self, _key: str) -> bytes:
        return self.body

    async def _objects(self) -> AsyncIterator[LandedObject]:
        yield LandedObject(KEY, PLACE)


def _to_validate(line: quarantine.Quarantined | quarantine.QuarantinedMessage) -> PlainRecord:
    assert isinstance(line, Quarantined)
    return to_validate(line)


def test_records_are_put_once_however_often_it_runs() -> None:
    async def main() -> None:
        world = World([GOOD, b"{", GOOD])
        first, second = await world.run(), await world.run()
        assert (first.produced, first.failing) == (2, {Reason.TRUNCATED: 1})
        assert (second.produced, second.already_requeued) == (0, 2)
        assert len(world.target.put_ids) == len(set(world.target.put_ids)) == 2

    virtual_time.run(main())


def test_a_record_is_put_with_its_key_and_its_headers() -> None:
    async def main() -> None:
        world = World([GOOD])
        await world.run()
        [put_] = world.target.taken
        assert (put_.value, put_.key, [*put_.headers]) == (GOOD, b"k", [("h", b"\xff")])

    virtual_time.run(main())


def test_a_dry_run_puts_nothing_and_leaves_nothing() -> None:
    async def main() -> None:
        world = World([GOOD])
        counts = await world.run(dry=True)
        assert (counts.good, counts.produced) == (1, 0)
        assert counts.examples == [f"events[3] at {FIRST}, unknown_type"]
        assert world.sink.objects == {}
        assert world.target.put_ids == []

    virtual_time.run(main())


def test_records_whose_answer_was_lost_are_unclear_until_the_operator_repeats_them() -> None:
    async def main() -> None:
        world = World([GOOD, GOOD])
        world.target.fails_after_taking = True
        with pytest.raises(SourceError):
            await world.run()
        world.target.fails_after_taking = False
        again = await world.run()
        assert (again.unclear, again.produced) == (2, 0)
        repeated = await world.run(repeat_unclear=True)
        assert (repeated.unclear, repeated.produced) == (0, 2)
        assert (await world.run()).already_requeued == 2

    virtual_time.run(main())


def test_a_refused_record_stays_in_the_quarantine_and_is_tried_by_the_next_run() -> None:
    async def main() -> None:
        world = World([GOOD, GOOD])
        world.target.refuses = {1}
        first = await world.run()
        assert (first.produced, first.refused) == (1, 1)
        assert str(first.refused_records[0]) == f"events[3] at {FIRST + 1} in {KEY}: too large"
        world.target.refuses = set()
        assert (await world.run()).produced == 1

    virtual_time.run(main())


def test_of_two_runs_at_once_one_puts_the_records_and_the_other_ends() -> None:
    async def main() -> None:
        world = World([GOOD] * 3)
        found = await asyncio.gather(world.run(), world.run(), return_exceptions=True)
        errors = [it for it in found if isinstance(it, BaseException)]
        assert [type(it) for it in errors] == [IngestdError]
        assert "another requeue" in str(errors[0])
        assert len(world.target.put_ids) == 3

    virtual_time.run(main())


def test_an_intent_whose_own_answer_was_lost_is_taken_for_ours() -> None:
    async def main() -> None:
        world = World([GOOD])
        lost = [True]

        def rule(call: Call) -> Fault | None:
            if lost and "-intent" in call.key and call.operation == "put_new":
                lost.clear()
                return Fault(SinkUnavailable, applied=True)
            return None

        world.sink.fail_when(rule)
        assert (await world.run()).produced == 1

    virtual_time.run(main())


def test_only_what_is_selected_is_put() -> None:
    async def main() -> None:
        world = World([GOOD] * 5)
        counts = await world.run(selection=Selection(since=1001, until=1003))
        assert (counts.read, counts.matched, counts.produced) == (5, 2, 2)
        assert (await world.run()).produced == 3, "the others, afterwards"

    virtual_time.run(main())


# -- the sender of Kinesis


class Client:
    """Answers requests as they are scripted; the rest succeeds."""

    def __init__(self, *script: list[str | None] | Exception) -> None:
        self.script = list(script)
        self.requests: list[list[PutEntry]] = []

    async def put_records(self, entries: Sequence[PutEntry]) -> Sequence[str | None]:
        self.requests.append(list(entries))
        answer = self.script.pop(0) if self.script else [None] * len(entries)
        if isinstance(answer, Exception):
            raise answer
        return answer


def put(client: Client, *records: tuple[bytes, bytes | None, str]) -> list[str | None]:
    return virtual_time.run(KinesisSender(client).put([(*record, ()) for record in records]))  # type: ignore[arg-type]


def test_throttled_records_are_put_again_and_the_others_are_not() -> None:
    client = Client([None, "ProvisionedThroughputExceededException"])
    assert put(client, (b"a", b"k", "1"), (b"b", b"k", "2")) == [None, None]
    assert [[entry.value for entry in request] for request in client.requests] == [[b"a", b"b"], [b"b"]]


def test_a_lost_answer_is_no_reason_to_put_again() -> None:
    client = Client(KinesisUnavailable("cut", code="ConnectionClosed"))
    with pytest.raises(KinesisUnavailable):
        put(client, (b"a", b"k", "1"))
    assert len(client.requests) == 1


def test_a_throttled_request_is_repeated_for_a_while_only() -> None:
    throttled = KinesisUnavailable("slow down", code="ProvisionedThroughputExceededException")
    assert put(Client(throttled, throttled), (b"a", None, "1")) == [None]
    with pytest.raises(SourceError, match="takes no records"):
        put(Client(*[throttled] * PATIENCE), (b"a", None, "1"))


def test_requests_stay_within_the_limits_of_kinesis() -> None:
    client = Client()
    put(client, *[(b"x" * 600_000, b"k", str(number)) for number in range(20)], *[(b"y", b"k", "z")] * 600)
    assert all(len(request) <= 500 for request in client.requests)
    assert all(sum(len(entry.value) + 1 for entry in request) <= 5 << 20 for request in client.requests)
    assert sum(map(len, client.requests)) == 620


def test_a_record_that_is_too_large_is_refused_and_the_others_are_put() -> None:
    client = Client()
    answers = put(client, (b"x" * MAX_RECORD, b"k", "1"), (b"a", b"k", "2"))
    assert answers[1] is None
    assert "more than" in str(answers[0])


def test_a_record_keeps_its_key_and_gets_one_where_it_has_none() -> None:
    client = Client()
    put(client, (b"a", "k\u00fc".encode(), "1"), (b"b", None, "name:2"), (b"c", b"\xff", "name:3"))
    assert [entry.partition_key for entry in client.requests[0]] == ["k\u00fc", "name:2", "name:3"]
