"""What a dry run tells is what a run would write."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ingestd import collector_wiring, inspection, wiring
from ingestd.config.model import (
    BatchConfig,
    BreakerConfig,
    CollectConfig,
    Config,
    EventsConfig,
    KinesisConfig,
    SinkConfig,
)
from ingestd.config.types import Seconds, Size
from ingestd.core.errors import JournalInUseError, SinkUnavailable
from ingestd.core.events import load_model
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import PlainRecord, Position, TopicPartition, UnsentRecord
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.core.validation import EventValidator, Validator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.preflight.dry_run import DryRun, Summary, WouldBe
from ingestd.sinks import dry_run as dry_module
from ingestd.sinks.base import Sink
from ingestd.sinks.dry_run import DrySink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source
from ingestd.sources.journal.source import JournalSource
from ingestd.sources.kinesis.source import KinesisSource
from tests.contract.sink_contract import BAD_KEYS, BAD_METADATA, BODY, KEY, METADATA
from tests.fakes.kinesis import FakeKinesis, FakeKinesisClient, MemoryState
from tests.fakes.memory_sink import Fault, MemorySink
from tests.fakes.memory_source import MemoryLog, MemorySource
from tests.test_ingest import records

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
CONFIG = Config(
    batch=BatchConfig(records=40),
    sink=SinkConfig(retry_initial=Seconds(0.01), retry_max=Seconds(0.01)),
    grace=Seconds(30),
)


# -- the sink


class Heard:
    """A dry sink over one in memory, and what it would have written."""

    def __init__(self) -> None:
        self.real = MemorySink()
        self.told: list[ObjectInfo] = []
        self.sink = DrySink(self.real, self.told.append)


async def test_a_write_is_told_and_not_done() -> None:
    heard = Heard()
    assert await heard.sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
    assert heard.told == [ObjectInfo(KEY, len(BODY), METADATA)]
    assert heard.real.objects == {}
    assert heard.real.calls["put_new"] == 0


async def test_a_name_is_taken_once_it_was_told() -> None:
    heard = Heard()
    results = await asyncio.gather(*(heard.sink.put_new(KEY, BODY, {"by": str(n)}) for n in range(9)))
    assert sorted(it.value for it in results) == ["created"] + ["exists"] * 8
    assert len(heard.told) == 1
    assert await heard.sink.head(KEY) == heard.told[0]


async def test_a_name_that_is_taken_in_the_sink_is_not_told() -> None:
    heard = Heard()
    await heard.real.put_new(KEY, BODY, METADATA)
    assert await heard.sink.put_new(KEY, BODY, {"other": "x"}) is Stored.EXISTS
    assert heard.told == []
    info = await heard.sink.head(KEY)
    assert info is not None
    assert info.metadata == METADATA


async def test_what_is_in_the_sink_is_read_from_there() -> None:
    heard = Heard()
    await heard.real.put_new(KEY, BODY, METADATA)
    assert heard.sink.url == heard.real.url
    assert await heard.sink.get(KEY) == BODY
    assert await heard.sink.folders("events/") == ["events/year=2026/"]
    assert [key async for key in heard.sink.list("events/")] == [KEY]
    assert await heard.sink.head("events/free") is None


async def test_errors_of_the_sink_are_passed_on() -> None:
    heard = Heard()
    heard.real.fail()
    with pytest.raises(SinkUnavailable):
        await heard.sink.put_new(KEY, BODY, METADATA)
    assert heard.told == []


async def test_the_names_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_module, "MAX_NAMES", 3)
    heard = Heard()
    for number in range(5):
        assert await heard.sink.put_new(f"a/{number}", BODY, {}) is Stored.CREATED
    assert [await heard.sink.head(f"a/{number}") is not None for number in range(5)] == [False, False, True, True, True]


async def test_what_no_sink_takes_is_refused() -> None:
    heard = Heard()
    for key in BAD_KEYS:
        with pytest.raises(ValueError, match="key"):
            await heard.sink.put_new(key, BODY, {})
    for name, value in BAD_METADATA:
        with pytest.raises(ValueError, match="metadata"):
            await heard.sink.put_new(KEY, BODY, {name: value})
    assert heard.told == []


# -- the run


def log() -> MemoryLog:
    """Two partitions with a hundred records each, of which one in ten is bad."""
    some = [PlainRecord(it.offset, it.timestamp, b"bad" if it.offset % 10 == 9 else it.value) for it in records(100)]
    return MemoryLog({P0: some, P1: some})


def validator() -> Validator:
    return EventValidator(EventsConfig(), load_model(None))


async def dry_run(
    source: MemorySource, sink: Sink | None = None, config: Config = CONFIG
) -> tuple[Summary, list[WouldBe]]:
    told: list[WouldBe] = []
    summary = await DryRun(config, source, sink or MemorySink(), validator(), told.append).run()
    return summary, told


async def really(source: Source, sink: Sink, config: Config = CONFIG) -> None:
    """As the daemon does it, to the end of the log."""
    metrics = Metrics()
    with ThreadPoolExecutor(1) as executor:
        dependencies = Dependencies(
            source=source, sink=sink, retrier=SinkRetrier(config.sink, metrics.upload_retried), metrics=metrics,
            executor=executor, wall_clock=lambda: 0.0,
        )  # fmt: skip
        pipeline = wiring.make_pipeline(config, dependencies, validator())
        task = asyncio.create_task(pipeline.run())
        await pipeline.started.wait()
        async with asyncio.timeout(30):
            while any(writer.buffer.position != source.end_offset(it) for it, writer in pipeline.writers.items()):  # noqa: ASYNC110 - the pipeline has no event for it
                await asyncio.sleep(0.01)
        source.finish()
        await task


async def test_reads_the_shards_of_a_stream_to_their_ends_and_writes_nothing() -> None:
    service, state = FakeKinesis(2), MemoryState()
    for number, record in enumerate(records(40)):
        service.put(record.value or b"", shard=number % 2)
    source = KinesisSource(
        KinesisConfig(stream="events"), state, None, read_only=True, connect=lambda: FakeKinesisClient(service),
        wall_clock=lambda: service.now_ms() / 1000,
    )  # fmt: skip
    told: list[WouldBe] = []
    config = replace(CONFIG, source="kinesis")
    summary = await DryRun(
        config, source, MemorySink(), wiring.make_validator(config, load_model(None)), told.append
    ).run()
    assert (summary.problem, summary.caught_up, summary.rows, summary.halted) == (None, True, 40, {})
    assert sum(it.rows for it in told) == 40
    assert state.objects == {}


async def test_tells_what_a_run_would_write() -> None:
    summary, told = await dry_run(MemorySource(log()))
    real = MemorySink()
    await really(MemorySource(log()), real)

    assert {it.key: it.bytes for it in told} == {key: len(body) for key, (body, _) in real.objects.items()}
    for it in told:
        landed = ObjectMetadata.from_metadata(real.objects[it.key][1])
        assert landed is not None
        assert (it.topic, it.partition, it.start, it.end) == (landed.topic, landed.partition, landed.start, landed.end)
        assert (it.rows, it.rejected) == (0 if it.quarantine else landed.rows, landed.rejected)
        assert it.quarantine == it.key.startswith("quarantine/")
    assert (summary.objects, summary.object_bytes) == (len(told), sum(it.bytes for it in told))


async def test_sums_up_and_ends_when_it_has_caught_up() -> None:
    summary, _ = await dry_run(MemorySource(log()))
    assert (summary.records, summary.rows, summary.rejected) == (200, 180, 20)
    assert summary.rejected_by_reason == {"not_json": 20}
    assert (summary.caught_up, summary.problem, summary.halted, summary.adopted) == (True, None, {}, 0)


async def test_begins_where_the_group_is() -> None:
    read = log()
    read.commits[P0] = Position(100, "m")
    read.commits[P1] = Position(70, "m")
    summary, told = await dry_run(MemorySource(read))
    assert summary.records == 30
    assert {(it.partition, it.start, it.end) for it in told} == {(1, 70, 100)}


async def test_a_log_without_records_is_caught_up_at_once() -> None:
    summary, told = await dry_run(MemorySource({P0: [], P1: []}))
    assert (summary.records, summary.caught_up, told) == (0, True, [])


async def test_goes_on_for_as_long_as_it_is_told() -> None:
    read = log()
    told: list[WouldBe] = []

    def append_once(it: WouldBe) -> None:
        if not told:
            read.append(P0, *records(10, start=100))
        told.append(it)

    config = replace(CONFIG, duration=Seconds(0.5), batch=BatchConfig(records=10))
    summary = await DryRun(config, MemorySource(read), MemorySink(), validator(), append_once).run()
    assert summary.records == 210


async def test_objects_that_are_there_already_are_adopted() -> None:
    sink = MemorySink()
    await really(MemorySource(log()), sink, replace(CONFIG, batch=BatchConfig(records=60)))
    before = dict(sink.objects)
    read = log()
    read.commits[P0] = read.commits[P1] = Position(0)
    summary, told = await dry_run(MemorySource(read), sink)
    assert told == []
    assert summary.adopted == 4
    assert sink.objects == before


async def test_a_partition_that_a_run_would_halt_is_told_and_the_others_go_on() -> None:
    read = log()
    read.trim(P0, 50)
    read.commits[P0] = Position(10, "m")
    summary, told = await dry_run(MemorySource(read))
    assert list(summary.halted) == ["t[0]"]
    assert "retention has removed 40 offsets" in summary.halted["t[0]"]
    assert {it.partition for it in told} == {1}
    assert (summary.caught_up, summary.problem) == (True, None)


async def test_a_storm_of_bad_events_is_told() -> None:
    bad = [PlainRecord(offset, 0, b"bad") for offset in range(100)]
    config = replace(CONFIG, breaker=BreakerConfig(max_consecutive=50))
    summary, _ = await dry_run(MemorySource({P0: bad}), config=config)
    assert "50 records in a row were rejected" in (summary.problem or "")


async def test_a_sink_that_does_not_answer_ends_it() -> None:
    sink = MemorySink()
    sink.fail_when(lambda _: Fault())
    config = replace(CONFIG, duration=Seconds(0.1), grace=Seconds(0.1))
    summary, told = await dry_run(MemorySource(log()), sink, config)
    assert "the request was lost" in (summary.problem or "")
    assert told == []


async def test_an_unexpected_error_is_not_hidden() -> None:
    class Broken(MemorySource):
        async def fetch(self) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as failure:
        await dry_run(Broken(log()))
    assert failure.group_contains(ZeroDivisionError)


async def test_a_signal_ends_it_with_a_summary() -> None:
    read = log()
    config = replace(CONFIG, duration=Seconds(600), batch=BatchConfig(records=10))
    told: list[WouldBe] = []

    def interrupt_once(it: WouldBe) -> None:
        told.append(it)
        if len(told) == 1:
            signal.raise_signal(signal.SIGINT)

    summary = await DryRun(config, MemorySource(read), MemorySink(), validator(), interrupt_once).run()
    assert summary.problem is None
    assert summary.records > 0


async def test_what_a_dry_run_would_write_twice_is_told_once() -> None:
    """The source is rebuilt, or a rebalance comes: it reads on from what it has pretended to commit."""
    source = MemorySource(log())
    told: list[WouldBe] = []

    def rebuild_once(it: WouldBe) -> None:
        told.append(it)
        if len(told) == 1:
            rebuilds.append(asyncio.ensure_future(source.rebuild()))

    rebuilds: list[asyncio.Future[None]] = []
    summary = await DryRun(CONFIG, source, MemorySink(), validator(), rebuild_once).run()
    await asyncio.gather(*rebuilds)
    assert summary.problem is None
    assert len({it.key for it in told}) == len(told)
    for number in (0, 1):
        data = sorted((it.start, it.end) for it in told if it.partition == number and not it.quarantine)
        assert [start for start, _ in data] == [0, *(end for _, end in data[:-1])]
        assert data[-1][1] == 100


async def test_a_dry_run_of_a_journal_leaves_all_of_it_to_the_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    collect = CollectConfig(topic="events", journal=str(path), journal_bytes=Size(1 << 20))
    config = replace(CONFIG, source="collector", collect=collect)
    journal = collector_wiring.make_journal(collect)
    await journal.open()
    await journal.append([UnsentRecord(it.timestamp, b"c", it.value or b"") for it in records(100)])
    with pytest.raises(JournalInUseError):
        async with inspection.open_read_only_source(config, MemorySink()):
            pass
    await journal.close()

    async with inspection.open_read_only_source(config, MemorySink()) as source:
        told: list[WouldBe] = []
        summary = await DryRun(config, source, MemorySink(), validator(), told.append).run()
    assert (summary.records, summary.rows, summary.caught_up, summary.problem) == (100, 100, True, None)

    await journal.open()
    assert (journal.first_offset, journal.next_offset, journal.committed()) == (0, 100, None)
    real = MemorySink()
    await really(JournalSource(journal, "events"), real, config)
    await journal.close()
    assert {it.key: it.bytes for it in told} == {key: len(body) for key, (body, _) in real.objects.items()}
