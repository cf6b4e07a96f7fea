"""Runs a blocking call in a daemon thread, which the end of the process does not wait for."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_detached(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Return what `function` returns, or raise what it raises.

    Where the caller is cancelled the thread goes on, and its outcome is dropped. The threads of ``asyncio.to_thread``
    are joined when the loop ends and when the process does: one that hangs, in a login or in an fsync on a dead file
    server, would keep the process for ever.
    """
    return await _start(function, arguments)


def _start(function: Callable[[*Ts], T], arguments: tuple[*Ts]) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(put: Callable[..., None], *value: object) -> None:
        if not outcome.done():
            put(*value)

    def work() -> None:
        with contextlib.suppress(RuntimeError):  # from a loop that has ended: nobody waits
            try:
                result = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                loop.call_soon_threadsafe(settle, outcome.set_exception, error)
            else:
                loop.call_soon_threadsafe(settle, outcome.set_result, result)

    threading.Thread(target=work, daemon=True, name=f"detached {getattr(function, '__name__', '')}").start()
    return outcome
