"""The memory budget: who waits, and until when."""

import asyncio

from ingestd.pipeline.memory_budget import MemoryBudget


class Memory:
    """What is used, and how often it was asked to become less."""

    def __init__(self, limit: int = 1000) -> None:
        self.used = self.flushes = self.counts = 0
        self.budget = MemoryBudget(limit, self._count, self._flush)

    def _count(self) -> int:
        self.counts += 1
        return self.used

    def _flush(self) -> None:
        self.flushes += 1


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_waits_until_enough_is_freed() -> None:
    memory = Memory()
    memory.used = 900
    waiting = asyncio.create_task(memory.budget.wait_for(200))
    await turn()
    assert not waiting.done()
    assert memory.budget.is_full
    assert memory.flushes == 1
    memory.used = 850
    memory.budget.freed()
    await turn()
    assert not waiting.done()
    memory.used = 800
    memory.budget.freed()
    await waiting
    assert not memory.budget.is_full


async def test_what_is_larger_than_the_whole_budget_goes_in_alone() -> None:
    memory = Memory()
    await memory.budget.wait_for(5000)
    memory.used = 5000
    waiting = asyncio.create_task(memory.budget.wait_for(1))
    await turn()
    assert not waiting.done()
    memory.used = 0
    memory.budget.freed()
    await waiting


async def test_the_exact_sum_is_made_once_for_each_sixteenth_of_the_budget() -> None:
    memory = Memory(1600)
    for _ in range(16):
        await memory.budget.wait_for(10)
        memory.used += 10
    assert memory.counts <= 3
