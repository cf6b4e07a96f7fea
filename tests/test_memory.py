"""Freed memory goes back now and then, not each time; and the collector of cycles looks seldom."""

import gc
import weakref

import pytest

from ingestd.ops import gc_tuning as memory
from ingestd.ops.gc_tuning import COLLECT_AFTER, EVERY_BYTES, HeapTrimmer, calm_collector


def test_it_is_given_back_after_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []

    def malloc_trim(pad: int) -> int:
        given_back.append(pad)
        return 1

    monkeypatch.setattr(memory, "_find_trim", lambda: malloc_trim)
    heap = HeapTrimmer()
    for _ in range(8):
        heap.freed(EVERY_BYTES // 4)
    assert given_back == [0, 0]


def test_a_system_without_the_word_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_find_trim", lambda: None)
    HeapTrimmer().freed(2 * EVERY_BYTES)


def test_what_a_cycle_holds_is_freed_after_so_many_bytes() -> None:
    class Body(list[object]): ...

    with calm_collector():
        body = Body()
        body.append(body)
        gone = weakref.ref(body)
        del body
        heap = HeapTrimmer()
        heap.freed(EVERY_BYTES - 1)
        assert gone() is not None
        heap.freed(1)
        assert gone() is None


def looks() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_records_that_come_and_go_are_not_looked_at() -> None:
    with calm_collector():
        before = looks()
        for _ in range(20):
            assert len([[number] for number in range(COLLECT_AFTER // 2)]) == COLLECT_AFTER // 2
        assert looks() == before


def test_cycles_are_found_in_the_end() -> None:
    with calm_collector():
        before = looks()
        for _ in range(COLLECT_AFTER + 10):
            cycle: list[object] = []
            cycle.append(cycle)
        assert looks() > before


def test_all_is_as_before_in_the_end() -> None:
    thresholds = gc.get_threshold()
    with calm_collector():
        assert gc.get_freeze_count()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, 0)
