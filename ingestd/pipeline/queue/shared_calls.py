"""Calls that several tasks wait for at once: each key is called once for all that ask meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SharedCalls(Generic[K, V]):
    """An answer is of a call that began after the question, unless `fixed`: then of any that is under way.

    Calls run as tasks of a group, because those that ask may be cancelled one by one.
    """

    def __init__(self, call: Callable[[K], Awaitable[V]], at_once: int, *, fixed: bool = False) -> None:
        self._call = call
        self._slots = asyncio.Semaphore(at_once)
        self._fixed = fixed
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, group: asyncio.TaskGroup) -> V:
        if (task := self._tasks.get(key)) is None:
            task = self._tasks[key] = group.create_task(self._run(key), name=f"look up {key}")
        return await asyncio.shield(task)

    async def _run(self, key: K) -> V:
        try:
            async with self._slots:
                if not self._fixed:
                    del self._tasks[key]  # who asks from now on waits for the next call
                return await self._call(key)
        finally:
            if self._fixed:
                del self._tasks[key]
