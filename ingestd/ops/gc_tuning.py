"""Returns freed heap to the OS, and relaxes the garbage collector."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

EVERY_BYTES = 16 << 20
COLLECT_AFTER = 20_000  # objects


@contextmanager
def calm_collector() -> Iterator[None]:
    """Make the collector of cycles run seldom, and leave out what exists already. Enter it once start-up is over.

    aiokafka's records are never in cycles, but thousands of them come and go with each fetch and would start the
    collector all the time, which costs as much as decoding them. Few objects are in cycles: mostly those of a failure.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()  # or a library that reports leaks at exit, as DuckDB does, would report these


def _find_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


class HeapTrimmer:
    """Collects cycles and returns heap to the OS, once for every ``EVERY_BYTES`` that are freed.

    The parts of a compressed body are small blocks. Once they are joined they leave holes all over the heap, which
    glibc keeps: with hundreds of batches several times as much as is in use. The same goes for a body that has landed.
    """

    def __init__(self) -> None:
        self._trim = _find_trim()
        self._freed_bytes = 0

    def freed(self, count: int, executor: Executor) -> None:
        """Note that `count` bytes are free. Call it on the event loop's thread; `executor` trims the heap.

        Cycles are collected here, because clients and sockets in them must be finalised on the loop's thread. All
        generations: a failed call leaves botocore's error and frames in a cycle, and in them the body, which no budget
        counts once it has landed. What was there at the start is frozen, so that this takes some milliseconds.
        """
        self._freed_bytes += count
        if self._freed_bytes < EVERY_BYTES:
            return
        self._freed_bytes = 0
        gc.collect()
        if self._trim is not None:
            executor.submit(self._trim, 0)
