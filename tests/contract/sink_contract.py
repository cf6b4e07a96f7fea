"""What every sink promises, run on each of them."""

import asyncio
import gzip
import random

import pytest

from ingestd.core.errors import SinkUnavailable
from ingestd.core.gzip import compress
from ingestd.core.stored import Stored
from ingestd.sinks.base import Sink

ROWS = b'{"event_id":"1"}\n'
BODY = compress(ROWS).data
METADATA = {"topic": "marketing_events", "start": "0", "end": "17", "first_offset": "0", "note": "a b=c;d, e~"}
KEY = "events/year=2026/month=02/day=03/marketing_events+00000+00000000000000000000.jsonl.gz"
BAD_KEYS: tuple[str, ...] = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "a/..",
    ".",
    "./a",
    "a\0b",
    "a\nb",
    "\ud800",
    "k" * 256,
)
BAD_KEYS += ("a/" * 512 + "b",)
BAD_METADATA: tuple[tuple[str, str], ...] = (
    ("Upper", "a"),
    ("", "a"),
    ("a b", "a"),
    ("a:", "a"),
    ("a", "ü"),
    ("a", "x\r\ny: z"),
    ("a", " x"),
)
BAD_METADATA += (("a", "x "), ("a", ""), ("a", "x" * 2048))


async def listed(sink: Sink, prefix: str) -> list[str]:
    return [key async for key in sink.list(prefix)]


class SinkContract:
    """A subclass gives the fixture `sink`: started, and empty."""

    async def test_creates_and_reads_back(self, sink: Sink) -> None:
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
        assert gzip.decompress(await sink.get(KEY)) == ROWS

    async def test_reads_the_first_bytes_only_where_a_limit_is_given(self, sink: Sink) -> None:
        await sink.put_new(KEY, BODY, METADATA)
        whole = await sink.get(KEY)
        assert await sink.get(KEY, 10) == whole[:10]
        assert await sink.get(KEY, 1 << 20) == whole

    async def test_metadata_and_size_come_back_as_they_were(self, sink: Sink) -> None:
        await sink.put_new(KEY, BODY, METADATA)
        info = await sink.head(KEY)
        assert info is not None
        assert (info.key, dict(info.metadata)) == (KEY, METADATA)
        assert info.size == len(await sink.get(KEY))

    async def test_takes_no_metadata(self, sink: Sink) -> None:
        await sink.put_new(KEY, BODY, {})
        info = await sink.head(KEY)
        assert info is not None
        assert dict(info.metadata) == {}

    async def test_a_taken_name_keeps_its_body_and_metadata(self, sink: Sink) -> None:
        await sink.put_new(KEY, BODY, METADATA)
        before = await sink.get(KEY)
        assert await sink.put_new(KEY, compress(b'{"event_id":"2"}\n').data, {"end": "99"}) is Stored.EXISTS
        assert await sink.get(KEY) == before
        info = await sink.head(KEY)
        assert info is not None
        assert dict(info.metadata) == METADATA

    async def test_one_of_many_concurrent_writers_wins(self, sink: Sink) -> None:
        bodies = {str(writer): compress(f'{{"writer":{writer}}}\n'.encode()).data for writer in range(16)}
        results = await asyncio.gather(*(sink.put_new(KEY, body, {"by": by}) for by, body in bodies.items()))
        assert sorted(stored.value for stored in results) == ["created"] + ["exists"] * 15
        winner = str(results.index(Stored.CREATED))
        info = await sink.head(KEY)
        assert info is not None
        assert dict(info.metadata) == {"by": winner}
        assert gzip.decompress(await sink.get(KEY)) == gzip.decompress(bodies[winner])

    async def test_a_replaced_object_has_the_last_contents(self, sink: Sink) -> None:
        for number in range(3):
            await sink.replace(KEY, compress(f"{number}\n".encode()).data, {"by": str(number)})
            assert gzip.decompress(await sink.get(KEY)) == f"{number}\n".encode()
            info = await sink.head(KEY)
            assert info is not None
            assert dict(info.metadata) == {"by": str(number)}
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.EXISTS

    async def test_a_version_changes_with_the_contents_and_with_nothing_else(self, sink: Sink) -> None:
        await sink.put_new("a/kept", BODY, {})
        await sink.put_new("b", BODY, {})
        seen: set[tuple[str, str]] = set()
        for number in range(3):
            await sink.replace("a/changed", compress(f"{number}\n".encode()).data, {})
            found = {key: version async for key, version in sink.versions("a/")}
            assert found == {key: version async for key, version in sink.versions("a/")}
            assert list(found) == ["a/changed", "a/kept"]
            seen.update(found.items())
        assert len(seen) == 4

    async def test_many_writers_of_one_replaced_object_leave_one_of_their_bodies(self, sink: Sink) -> None:
        bodies = [f"{writer}\n".encode() for writer in range(16)]
        await asyncio.gather(*(sink.replace(KEY, compress(body).data, {}) for body in bodies))
        assert gzip.decompress(await sink.get(KEY)) in bodies
        assert await listed(sink, "") == [KEY]

    async def test_head_of_a_free_name_is_none(self, sink: Sink) -> None:
        await sink.put_new(KEY, BODY, METADATA)
        for free in ("nothing/at/all", KEY + "x", KEY[:-1], "events", f"{KEY}/below"):
            assert await sink.head(free) is None

    async def test_get_of_a_free_name_is_unavailable(self, sink: Sink) -> None:
        with pytest.raises(SinkUnavailable, match="nothing/at/all"):
            await sink.get("nothing/at/all")

    async def test_holds_a_gzip_of_no_rows(self, sink: Sink) -> None:
        assert await sink.put_new(KEY, compress(b"").data, METADATA) is Stored.CREATED
        assert gzip.decompress(await sink.get(KEY)) == b""

    async def test_holds_a_large_body(self, sink: Sink) -> None:
        rows = random.Random(7).randbytes(20 << 20)
        assert await sink.put_new(KEY, gzip.compress(rows, 0), METADATA) is Stored.CREATED
        assert gzip.decompress(await sink.get(KEY)) == rows

    async def test_lists_at_any_depth_what_was_just_written(self, sink: Sink) -> None:
        keys = ["a/b/c", "a/bc", "a/b-c", "a/b=1/x", "a/B", "aa", "b", "A"]
        for number, key in enumerate(keys, 1):
            await sink.put_new(key, BODY, {})
            assert sorted(await listed(sink, "")) == sorted(keys[:number])

    async def test_lists_a_folder_in_order(self, sink: Sink) -> None:
        names = [
            "topic+00001+2",
            "topic+00000+10",
            "topic+00000+9",
            "topic-b+00000+1",
            "topic.b+00000+1",
            "Topic+00000+1",
        ]
        for name in names:
            await sink.put_new(f"day=01/{name}", BODY, {})
        assert await listed(sink, "day=01/") == [f"day=01/{name}" for name in sorted(names)]

    async def test_a_listed_prefix_need_not_end_at_a_segment(self, sink: Sink) -> None:
        for key in ("a/bc", "a/b/c", "a/c", "ab", "a/ab"):
            await sink.put_new(key, BODY, {})
        assert await listed(sink, "a/b") == ["a/b/c", "a/bc"]
        assert await listed(sink, "a/b/") == ["a/b/c"]
        assert await listed(sink, "a/bc") == ["a/bc"]
        assert await listed(sink, "a/bcd") == []
        assert await listed(sink, "x") == []

    async def test_folders_are_the_next_segments(self, sink: Sink) -> None:
        for key in ("e/year=2025/month=12/a", "e/year=2026/month=01/a", "e/year=2026/month=02/a", "e/file", "x"):
            await sink.put_new(key, BODY, {})
        assert await sink.folders("") == ["e/"]
        assert await sink.folders("e/") == ["e/year=2025/", "e/year=2026/"]
        assert await sink.folders("e/year=2026/") == ["e/year=2026/month=01/", "e/year=2026/month=02/"]
        assert await sink.folders("e/year=2026/month=01/") == []
        assert await sink.folders("nothing/") == []

    async def test_refuses_a_key_that_is_no_plain_path(self, sink: Sink) -> None:
        for key in BAD_KEYS:
            with pytest.raises(ValueError, match="key"):
                await sink.put_new(key, BODY, {})
            with pytest.raises(ValueError, match="key"):
                await sink.replace(key, BODY, {})
            with pytest.raises(ValueError, match="key"):
                await sink.head(key)
            with pytest.raises(ValueError, match="key"):
                await sink.get(key)
        assert await listed(sink, "") == []

    async def test_refuses_metadata_that_no_header_keeps(self, sink: Sink) -> None:
        for name, value in BAD_METADATA:
            with pytest.raises(ValueError, match="metadata"):
                await sink.put_new(KEY, BODY, {name: value})
            with pytest.raises(ValueError, match="metadata"):
                await sink.replace(KEY, BODY, {name: value})
        assert await listed(sink, "") == []

    async def test_refuses_folders_of_half_a_segment(self, sink: Sink) -> None:
        for prefix in ("a", "/", "../", "a//"):
            with pytest.raises(ValueError, match="prefix"):
                await sink.folders(prefix)

    async def test_starts_again_on_what_is_there(self, sink: Sink) -> None:
        await sink.put_new(KEY, BODY, METADATA)
        await sink.close()
        await sink.start()
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.EXISTS
        assert await listed(sink, "") == [KEY]
