"""Blocking calls in a thread that nobody waits for at the end."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_detached(function: Callable[..., T], *arguments: object) -> T:
    """What `function` returns or raises. Where we are cancelled it goes on, and what comes of it is dropped.

    The threads of ``asyncio.to_thread`` are joined when the loop ends: a slow login would hold up a stop.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # T may be None

    def work() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is for who waits
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True, name="snowflake").start()
    return await outcome
