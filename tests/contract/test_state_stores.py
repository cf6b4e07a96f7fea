"""The contract of a source's state in the sink, over each sink there is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.config.model import SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import SinkForbidden
from ingestd.core.gzip import compress
from ingestd.core.object_keys import ObjectKeys
from ingestd.sinks.base import Sink
from ingestd.sinks.local import LocalSink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sinks.state_store import SinkStateStore
from ingestd.sources.state_store import StateStore
from tests.contract.state_store_contract import StateStoreContract
from tests.fakes.memory_sink import MemorySink


def store_in(sink: Sink, lineage: str | None = None, *, exactly_once: bool = True) -> SinkStateStore:
    retrier = SinkRetrier(SinkConfig(retry_initial=Seconds(0.001), retry_max=Seconds(0.01)))
    return SinkStateStore(sink, retrier, ObjectKeys(lineage, exactly_once=exactly_once), "kinesis")


class OverSink(StateStoreContract):
    """A subclass gives the fixture `sink`."""

    @pytest.fixture
    def state(self, sink: Sink) -> StateStore:
        return store_in(sink)

    @pytest.fixture
    def other(self, sink: Sink) -> StateStore:
        return store_in(sink)


class TestInMemory(OverSink):
    @pytest.fixture
    def sink(self) -> MemorySink:
        return MemorySink()

    async def test_a_call_is_repeated_until_it_is_answered(self, sink: MemorySink) -> None:
        state = store_in(sink)
        sink.fail(2)
        assert await state.create("a", b"1") == b"1"
        sink.fail(1, applied=True)
        assert await state.create("b", b"2") == b"2"
        sink.fail(1)
        await state.replace("members/c", b"3")
        sink.fail(1)
        assert await state.read("a") == b"1"
        sink.fail(1)
        assert sorted(await state.versions("")) == ["a", "b"]
        assert sorted(await state.versions("members/")) == ["members/c"]

    async def test_lineages_have_nothing_in_common(self, sink: MemorySink) -> None:
        for lineage in (None, "start", "done"):
            await store_in(sink, lineage).create("start/s", str(lineage).encode())
        for lineage in (None, "start", "done"):
            assert await store_in(sink, lineage).read("start/s") == str(lineage).encode()
            assert list(await store_in(sink, lineage).versions("start/")) == ["start/s"]

    async def test_nothing_is_where_snowpipe_looks(self, sink: MemorySink) -> None:
        await store_in(sink, "spring").create("start/s", b"")
        await store_in(sink, "spring").replace("members/s/a", b"")
        assert list(sink.objects) == [
            ".ingestd/kinesis/lineage=spring/start/s.gz",
            ".members/kinesis/lineage=spring/s/a.gz",
        ]

    async def test_nothing_but_a_heartbeat_is_written_again(self, sink: MemorySink) -> None:
        with pytest.raises(ValueError, match="written once"):
            await store_in(sink).replace("start/s", b"")

    async def test_a_store_without_conditions_keeps_the_first_of_two_writes_as_well(self) -> None:
        sink = MemorySink(conditional=False)
        assert await store_in(sink, exactly_once=False).create("a", b"1") == b"1"
        assert await store_in(sink, exactly_once=False).create("a", b"2") == b"1"

    @pytest.mark.parametrize(
        "content", [b"no gzip", compress(b"no line").data, compress(bytes(2 << 20)).data], ids=["raw", "line", "long"]
    )
    async def test_what_is_not_ours_is_named_and_not_read(self, sink: MemorySink, content: bytes) -> None:
        sink.objects[".ingestd/kinesis/a.gz"] = content, {}
        failed = asyncio.Event()
        retrier = SinkRetrier(SinkConfig(), lambda _: failed.set())
        reading = asyncio.create_task(SinkStateStore(sink, retrier, ObjectKeys(), "kinesis").read("a"))
        await failed.wait()
        reading.cancel()
        assert isinstance(retrier.error, SinkForbidden)
        assert ".ingestd/kinesis/a.gz is not what ingestd has written there" in retrier.error.message


class TestInADirectory(OverSink):
    @pytest.fixture
    async def sink(self, tmp_path: Path) -> AsyncIterator[Sink]:
        sink = LocalSink(tmp_path / "data")
        await sink.start()
        yield sink
        await sink.close()


class TestInS3(OverSink):
    @pytest.fixture
    def sink(self, s3_sink: Sink) -> Sink:
        return s3_sink
