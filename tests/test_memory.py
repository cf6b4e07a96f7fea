"""Freed memory goes back now and then, not each time."""

import pytest

from ingestd import memory
from ingestd.memory import EVERY_BYTES, Heap


def test_it_is_given_back_after_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back: list[int] = []

    def malloc_trim(pad: int) -> int:
        given_back.append(pad)
        return 1

    monkeypatch.setattr(memory, "_find", lambda: malloc_trim)
    heap = Heap()
    for _ in range(8):
        heap.freed(EVERY_BYTES // 4)
    assert given_back == [0, 0]


def test_a_system_without_the_word_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_find", lambda: None)
    Heap().freed(2 * EVERY_BYTES)
