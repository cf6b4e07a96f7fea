"""The contract of a sink, on each sink there is."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.core.errors import SinkForbidden, SinkUnavailable
from ingestd.core.stored import Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.local import LocalSink
from tests.contract.sink_contract import BODY, KEY, METADATA, SinkContract
from tests.fakes.memory_sink import Call, Fault, MemorySink


class TestMemorySink(SinkContract):
    @pytest.fixture
    def sink(self) -> Sink:
        return MemorySink()

    async def test_fails_as_often_as_asked(self) -> None:
        sink = MemorySink()
        sink.fail(2, kind=SinkForbidden)
        for _ in range(2):
            with pytest.raises(SinkForbidden):
                await sink.put_new(KEY, BODY, METADATA)
        assert sink.objects == {}
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
        assert sink.calls == {"put_new": 3}

    async def test_a_lost_reply_leaves_the_object(self) -> None:
        sink = MemorySink()
        sink.fail(applied=True)
        with pytest.raises(SinkUnavailable, match="reply"):
            await sink.put_new(KEY, BODY, METADATA)
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.EXISTS

    async def test_a_rule_decides_by_call(self) -> None:
        sink = MemorySink()
        sink.fail_when(lambda call: Fault(code="SlowDown") if call == Call("head", KEY) else None)
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
        with pytest.raises(SinkUnavailable) as failure:
            await sink.head(KEY)
        assert failure.value.code == "SlowDown"
        sink.fail_when(None)
        assert await sink.head(KEY) is not None

    async def test_an_unconditional_store_overwrites_and_tells(self) -> None:
        sink = MemorySink(conditional=False)
        for body in (BODY, BODY, b"other"):
            assert await sink.put_new(KEY, body, METADATA) is Stored.CREATED
        assert sink.objects[KEY][0] == b"other"
        assert sink.overwritten == {KEY: [BODY]}


class TestLocalSink(SinkContract):
    @pytest.fixture
    async def sink(self, tmp_path: Path) -> AsyncIterator[Sink]:
        sink = LocalSink(tmp_path / "data")
        await sink.start()
        yield sink
        await sink.close()


class TestS3Sink(SinkContract):
    @pytest.fixture
    def sink(self, s3_sink: Sink) -> Sink:
        return s3_sink
