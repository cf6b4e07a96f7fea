"""Memory that was freed goes back to the system, where the C library has a word for that (glibc)."""

import ctypes
from collections.abc import Callable

EVERY_BYTES = 16 << 20


def _find() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


class Heap:
    """Counts what is freed, and gives it back now and then. For one thread.

    The parts of a compressed body are small blocks. Once they are joined they leave holes all over the heap, which
    glibc keeps: with hundreds of batches several times as much as is held. The same goes for a body that has landed.
    """

    def __init__(self) -> None:
        self._trim = _find()
        self._freed = 0

    def freed(self, count: int) -> None:
        """So many bytes are free. Takes some milliseconds once in a while, without the GIL."""
        self._freed += count
        if self._freed >= EVERY_BYTES and self._trim is not None:
            self._freed = 0
            self._trim(0)
