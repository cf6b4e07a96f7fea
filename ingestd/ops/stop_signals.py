"""Receives the signals that stop a process, from before its slow imports until it has ended.

Until somebody listens they are kept. After that they are too late to change anything, and must not end a process that
has done its work with the exit code of a kill.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False  # typing takes longer to import than all the rest of this file
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Listener = Callable[[signal.Signals], object]

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopSignals:
    """The handlers of one process. All of it runs in the main thread."""

    def __init__(self) -> None:
        self._replaced: dict[signal.Signals, Any] = {}
        self._kept: list[signal.Signals] = []
        self._listener: Listener | None = None

    def install(self) -> None:
        """Keep the signals from now on. SIGHUP stays ignored where it is: so does nohup what it says."""
        for number in _STOP:
            handler = signal.getsignal(number)
            if number is not signal.SIGHUP or handler is not signal.SIG_IGN:
                self._replaced[number] = handler
                signal.signal(number, self._receive)

    def restore(self) -> None:
        """Put the handlers back that were there before, and send them what came meanwhile."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        self._replaced.clear()
        while self._kept:
            signal.raise_signal(self._kept.pop(0))

    def listening(self, listener: Listener) -> Listening:
        """Call `listener` for each signal, also for those that were kept. It runs between any two instructions."""
        return Listening(self, listener)

    def begin(self, listener: Listener) -> bool:
        """Listen; whether the handlers were set for it."""
        borrowed = not self._replaced
        if borrowed:
            self.install()
        self._listener = listener
        while self._kept:
            listener(self._kept.pop(0))
        return borrowed

    def end(self, *, borrowed: bool) -> None:
        """Listen no more."""
        self._listener = None
        if borrowed:
            self.restore()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if self._listener is not None:
            self._listener(received)
        else:
            self._kept.append(received)


class Listening:
    """While it is entered, a listener is called."""

    def __init__(self, signals: StopSignals, listener: Listener) -> None:
        self._signals, self._listener = signals, listener
        self._borrowed = False

    def __enter__(self) -> None:
        self._borrowed = self._signals.begin(self._listener)

    def __exit__(self, *_: object) -> None:
        self._signals.end(borrowed=self._borrowed)


STOP_SIGNALS = StopSignals()
