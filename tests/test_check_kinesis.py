"""What `ingestd check` asks a Kinesis stream, and what it says of the answers."""

from collections.abc import Callable

import pytest

from ingestd.config.model import BreakerConfig, EventsConfig, KinesisConfig
from ingestd.config.types import Seconds
from ingestd.core.events import load_model
from ingestd.core.records import TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.preflight import CheckFinding, Verdict, kinesis_probe, records, stream
from ingestd.preflight.stream import StreamFacts
from ingestd.sources.kinesis.port import KinesisRefused, KinesisUnavailable, Shard, Stream
from tests.fakes.kinesis import FakeKinesis, FakeKinesisClient
from tests.simulation import virtual_time

EVENT = b'{"event_type":"web_visit","event_id":"e","client_id":"c","event_timestamp":"2026-01-01T00:00:00Z"}'
CONFIG = KinesisConfig(stream="events")
DAY_MS = 86_400_000
STREAM = Stream("arn:aws:kinesis:eu-central-1:123456789012:stream/events", 1, 7 * DAY_MS, 1000)
SHARDS = [Shard(f"shardId-{number:012}", (), 0, 1, closed=number == 0) for number in range(3)]


def asked(prepare: Callable[[FakeKinesis], None]) -> StreamFacts:
    async def main() -> StreamFacts:
        service = FakeKinesis(2)
        prepare(service)
        return await kinesis_probe.look(CONFIG, FakeKinesisClient(service))

    return virtual_time.run(main())


def judged(facts: StreamFacts, config: KinesisConfig = CONFIG) -> dict[str, CheckFinding]:
    return {it.check: it for it in stream.findings(facts, config)}


def raising(operation: str, error: Exception, times: int) -> Callable[[str, str], None]:
    left = [times]

    def fail(called: str, _shard: str) -> None:
        if called == operation and left[0] > 0:
            left[0] -= 1
            raise error

    return fail


def test_recent_records_of_each_shard_are_validated() -> None:
    def prepare(service: FakeKinesis) -> None:
        service.put(EVENT, shard=0)
        service.put(b"{", shard=1)

    facts = asked(prepare)
    assert isinstance(facts.records, dict)
    assert {place: len(found) for place, found in facts.records.items()} == {
        TopicPartition("events", 0): 1,
        TopicPartition("events", 1): 1,
    }
    sample = records.take(facts.records, EventValidator(EventsConfig(), load_model(None)))
    found = {it.check: it for it in records.findings(sample, BreakerConfig(), "kinesis")}
    assert found["kinesis.read"].seen.startswith("2 records read")
    assert "truncated" in found["events.sample"].seen


def test_old_records_are_read_where_there_are_no_recent_ones() -> None:
    def prepare(service: FakeKinesis) -> None:
        service.put(EVENT, shard=1, arrived_ms=service.now_ms() - 3_600_000)

    facts = asked(prepare)
    assert isinstance(facts.records, dict)
    assert list(facts.records) == [TopicPartition("events", 1)]


def test_a_stream_that_cannot_be_described_is_the_only_finding() -> None:
    def prepare(service: FakeKinesis) -> None:
        service.exists = False

    facts = asked(prepare)
    assert isinstance(facts.stream, KinesisRefused)
    assert [(it.check, it.verdict) for it in stream.findings(facts, CONFIG)] == [("kinesis.stream", Verdict.WRONG)]


def test_a_throttled_read_is_tried_again_and_at_last_reported() -> None:
    throttled = KinesisUnavailable("throttled", code="ProvisionedThroughputExceededException")

    def prepare(times: int) -> Callable[[FakeKinesis], None]:
        def it(service: FakeKinesis) -> None:
            service.put(EVENT, shard=0)
            service.fails = raising("GetRecords", throttled, times)

        return it

    assert isinstance(asked(prepare(2)).records, dict)
    assert isinstance(asked(prepare(100)).records, KinesisUnavailable)


def test_a_stream_with_nothing_to_note_is_ok() -> None:
    found = judged(StreamFacts(STREAM, 1000, SHARDS))
    assert {it.verdict for it in found.values()} == {Verdict.OK}
    assert found["kinesis.shards"].seen == "2 open shards, 1 closed; as many daemons can share the open ones"


@pytest.mark.parametrize(
    ("facts", "config", "check", "verdict"),
    [
        (StreamFacts(STREAM._replace(retention_ms=DAY_MS), 1000), CONFIG, "kinesis.retention", Verdict.NOTE),
        (StreamFacts(STREAM, 401_000), CONFIG, "kinesis.clock", Verdict.WRONG),
        (StreamFacts(STREAM, 1000, SHARDS), KinesisConfig(poll_interval=Seconds(0.2)), "kinesis.shards", Verdict.NOTE),
        (StreamFacts(STREAM, 1000, KinesisRefused("no", code="x")), CONFIG, "kinesis.shards", Verdict.WRONG),
    ],
    ids=["a day of retention", "clock", "polls that leave others nothing", "no right to list"],
)
def test_what_can_lose_records_or_stop_a_run_is_named(
    facts: StreamFacts, config: KinesisConfig, check: str, verdict: Verdict
) -> None:
    assert judged(facts, config)[check].verdict is verdict
