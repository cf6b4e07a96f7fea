"""Blocking calls in threads that the end of the process does not wait for."""

import asyncio
import subprocess
import sys
import threading

import pytest

from ingestd.ops.detached_thread import run_detached


def test_a_call_that_hangs_does_not_hold_up_the_end() -> None:
    program = """
import asyncio, contextlib, threading
from ingestd.ops.detached_thread import run_detached

async def main():
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(run_detached(threading.Event().wait), 0.01)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_the_outcome_of_a_call_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_detached(divmod, 1, 0)
    assert await run_detached(divmod, 7, 2) == (3, 1)


async def test_the_outcome_of_a_cancelled_call_is_dropped() -> None:
    go = threading.Event()
    call = asyncio.create_task(run_detached(go.wait))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    go.set()
    assert await run_detached(divmod, 7, 2) == (3, 1)
