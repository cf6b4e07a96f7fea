"""Freed memory goes back to the OS now and then, not each time, and the collector of cycles runs seldom."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingestd.config.model import SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import SinkUnavailable
from ingestd.ops import gc_tuning
from ingestd.ops.gc_tuning import COLLECT_AFTER, EVERY_BYTES, HeapTrimmer, calm_collector
from ingestd.sinks.retry import SinkRetrier


class Body(list[object]): ...


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="compress") as made:
        yield made


def test_heap_is_returned_in_a_thread_after_so_many_bytes(
    monkeypatch: pytest.MonkeyPatch, executor: ThreadPoolExecutor
) -> None:
    calls: list[tuple[int, str]] = []

    def malloc_trim(pad: int) -> int:
        calls.append((pad, threading.current_thread().name))
        return 1

    monkeypatch.setattr(gc_tuning, "_find_trim", lambda: malloc_trim)
    heap = HeapTrimmer()
    for _ in range(8):
        heap.freed(EVERY_BYTES // 4, executor)
    executor.shutdown()
    assert calls == [(0, "compress_0")] * 2


def test_a_system_without_malloc_trim_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, executor: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr(gc_tuning, "_find_trim", lambda: None)
    HeapTrimmer().freed(2 * EVERY_BYTES, executor)


def test_a_cycle_is_freed_after_so_many_bytes_on_the_callers_thread(executor: ThreadPoolExecutor) -> None:
    """aiohttp's clients and sockets must be finalised on the thread of the event loop."""
    finalised_on: list[threading.Thread] = []
    with calm_collector():
        body = Body()
        body.append(body)
        weakref.finalize(body, lambda: finalised_on.append(threading.current_thread()))
        del body
        heap = HeapTrimmer()
        heap.freed(EVERY_BYTES - 1, executor)
        assert finalised_on == []
        heap.freed(1, executor)
        assert finalised_on == [threading.current_thread()]


async def test_a_failing_upload_does_not_keep_its_body_in_old_cycles(executor: ThreadPoolExecutor) -> None:
    """The last error of a call lives as long as the call fails, and grows old: collect(1) misses it then."""
    failing, heap = asyncio.Event(), HeapTrimmer()

    async def put(body: Body) -> None:
        if not failing.is_set():
            failing.set()
            error = SinkUnavailable("lost", code="Fault")
            error.args = (*error.args, error)  # a cycle, as botocore's errors are in
            raise error

    with calm_collector():
        body = Body()
        gone = weakref.ref(body)
        upload = asyncio.create_task(SinkRetrier(SinkConfig(retry_initial=Seconds(0.05))).call(put, body))
        await failing.wait()
        for _ in range(4):
            gc.collect(1)
        await upload
        del upload, body
        heap.freed(EVERY_BYTES, executor)
        assert gone() is None


def collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_records_that_come_and_go_do_not_start_the_collector() -> None:
    with calm_collector():
        before = collections()
        for _ in range(20):
            assert len([[number] for number in range(COLLECT_AFTER // 2)]) == COLLECT_AFTER // 2
        assert collections() == before


def test_cycles_are_collected_in_the_end() -> None:
    with calm_collector():
        before = collections()
        for _ in range(COLLECT_AFTER + 10):
            cycle: list[object] = []
            cycle.append(cycle)
        assert collections() > before


def test_the_collector_is_as_before_in_the_end() -> None:
    thresholds = gc.get_threshold()
    with calm_collector():
        assert gc.get_freeze_count()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, 0)
