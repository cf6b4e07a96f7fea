"""Create-only writes: the start-up test of the store, and what a taken name leads to."""

import asyncio
import logging
import random
from collections.abc import Mapping

import pytest

from ingestd.config.model import SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.sinks.create_only import create_or_find, require_create_only
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_sink import Call, Fault, MemorySink
from tests.simulation import virtual_time

KEY, BODY, METADATA = "events/a.gz", b"body", {"a": "b"}


def make_retrier(retries: list[str]) -> SinkRetrier:
    return SinkRetrier(SinkConfig(retry_initial=Seconds(1), retry_max=Seconds(60)), retries.append, random.Random(1))


class LaggingSink(MemorySink):
    """Its HEAD finds nothing for `lag_s` after the first call, although its PUT refuses the name as taken."""

    lag_s = 600.0

    async def head(self, key: str) -> ObjectInfo | None:
        found = await super().head(key)
        return found if asyncio.get_running_loop().time() >= self.lag_s else None


@pytest.mark.parametrize("starts", [1, 2])
async def test_a_store_that_refuses_the_second_write_is_accepted(starts: int) -> None:
    sink = MemorySink()
    for _ in range(starts):
        await require_create_only(sink, make_retrier([]))


async def test_a_store_that_overwrites_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="at-least-once"):
        await require_create_only(MemorySink(conditional=False), make_retrier([]))


class ForgetfulSink(MemorySink):
    """Keeps bodies, and drops metadata."""

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        return await super().put_new(key, body, {})


@pytest.mark.parametrize("starts", [1, 2])
async def test_a_store_that_drops_metadata_is_refused_at_each_start(starts: int) -> None:
    sink = ForgetfulSink()
    for _ in range(starts):
        with pytest.raises(ConfigError, match="x-amz-meta"):
            await require_create_only(sink, make_retrier([]))


async def test_a_free_name_is_created_with_one_call() -> None:
    sink = MemorySink()
    assert await create_or_find(sink, make_retrier([]), KEY, BODY, METADATA) is None
    assert sink.calls == {"put_new": 1}


async def test_a_taken_name_gives_the_object_that_has_it() -> None:
    sink = MemorySink()
    await sink.put_new(KEY, b"other", {"by": "another"})
    found = await create_or_find(sink, make_retrier([]), KEY, BODY, METADATA)
    assert found == ObjectInfo(KEY, 5, {"by": "another"})
    assert sink.calls == {"put_new": 2, "head": 1}


def test_a_name_that_is_taken_and_yet_not_there_is_tried_again_slowly(caplog: pytest.LogCaptureFixture) -> None:
    """A 412 and then a 404 repeats the upload: it backs off, is logged once, counted, and shown as an outage."""
    sink, retries = LaggingSink(), list[str]()

    async def main() -> None:
        retrier = make_retrier(retries)
        await sink.put_new(KEY, BODY, METADATA)
        upload = asyncio.create_task(create_or_find(sink, retrier, KEY, BODY, METADATA))
        await asyncio.sleep(300)
        assert retrier.error is not None
        assert retrier.error.code == "412-then-404"
        found = await upload
        assert found is not None
        assert retrier.error is None

    with caplog.at_level(logging.INFO, "ingestd.sinks.retry"):
        virtual_time.run(main())
    assert sink.calls["put_new"] < 40
    assert set(retries) == {"412-then-404"}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_failed_look_does_not_repeat_the_upload() -> None:
    sink = MemorySink()

    async def main() -> None:
        await sink.put_new(KEY, BODY, METADATA)
        sink.fail_when(lambda call: Fault() if call == Call("head", KEY) and sink.calls["head"] < 20 else None)
        assert await create_or_find(sink, make_retrier([]), KEY, BODY, METADATA) is not None

    virtual_time.run(main())
    assert sink.calls == {"put_new": 2, "head": 20}
