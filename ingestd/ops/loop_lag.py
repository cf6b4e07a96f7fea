"""Measures how late the event loop wakes a sleeper, and feeds the service manager's watchdog."""

import asyncio
from collections.abc import Callable

from ingestd.ops.systemd import Notifier

INTERVAL_S = 0.25
_DECAY = 0.9  # of what is shown, each time


class LoopLag:
    """The lag of the running event loop."""

    def __init__(self, notifier: Notifier, observe: Callable[[float], None]) -> None:
        self.worst = 0.0  # of the last seconds
        self._notifier = notifier
        self._observe = observe

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        told = loop.time()
        while True:
            before = loop.time()
            await asyncio.sleep(INTERVAL_S)
            lag = max(0.0, loop.time() - before - INTERVAL_S)
            self._observe(lag)
            self.worst = max(lag, self.worst * _DECAY)
            interval = self._notifier.watchdog_interval
            if interval is not None and loop.time() - told >= interval:
                self._notifier.watchdog()
                told = loop.time()
