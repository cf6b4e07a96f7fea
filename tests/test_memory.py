"""The collector of cycles, while records come and go."""

import gc
from collections.abc import Iterator

import pytest

from ingestd.memory import COLLECT_AFTER, calm_collector


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def looks() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_records_that_come_and_go_are_not_looked_at() -> None:
    calm_collector()
    before = looks()
    for _ in range(20):
        assert len([[number] for number in range(COLLECT_AFTER // 2)]) == COLLECT_AFTER // 2
    assert looks() == before


def test_cycles_are_found_in_the_end() -> None:
    calm_collector()
    before = looks()
    for _ in range(COLLECT_AFTER + 10):
        cycle: list[object] = []
        cycle.append(cycle)
    assert looks() > before
