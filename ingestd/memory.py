"""Memory that was freed goes back to the system, where the C library has a word for that (glibc)."""

import ctypes
from collections.abc import Callable


def _find() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


_malloc_trim = _find()


def give_back() -> None:
    """Takes a few milliseconds, without the GIL.

    The parts of a compressed body are small blocks. Once they are joined they leave holes all over the heap, which
    glibc keeps: with several batches finished one after the other, as much again as is held.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
