"""Memory that was freed goes back to the system, and is not looked for where there is none."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_BYTES = 16 << 20
COLLECT_AFTER = 20_000  # objects


@contextmanager
def calm_collector() -> Iterator[None]:
    """Let Python look for cycles seldom, within this. To be entered once all that stays is there.

    aiokafka's records are what it looks for cycles in, and they are in none: thousands that come and go with each fetch
    would make it look all the time, which takes as much as decoding them. What is in cycles, mostly what is left of a
    failure, is some objects for each.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()  # or a library that looks for leaks at the end, as DuckDB does, finds them


def _find_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


class HeapTrimmer:
    """Counts what is freed, and gives it back now and then, where the C library has a word for that. For one thread.

    The parts of a compressed body are small blocks. Once they are joined they leave holes all over the heap, which
    glibc keeps: with hundreds of batches several times as much as is held. The same goes for a body that has landed.
    """

    def __init__(self) -> None:
        self._trim = _find_trim()
        self._freed = 0

    def freed(self, count: int) -> None:
        """So many bytes are free. Takes some milliseconds once in a while."""
        self._freed += count
        if self._freed < EVERY_BYTES:
            return
        self._freed = 0
        # A call that failed leaves botocore's error and frames in a cycle, and in them the body: in no budget any more,
        # once that has landed.
        gc.collect()
        if self._trim is not None:
            self._trim(0)
