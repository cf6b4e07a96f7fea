"""Judges whether the source still makes progress. Pure: the time comes in as an argument.

A consumer can be stuck with every probe green (aio-libs/aiokafka#1154): then it is rebuilt, and where that does not
help the process ends, so that its supervisor begins anew.
"""

from enum import Enum


class Verdict(Enum):
    """What to do."""

    WELL = "well"
    REBUILD = "rebuild"
    GIVE_UP = "give up"


class Watchdog:
    """`timeout` in seconds without progress while there is something to read and nothing else stands in the way."""

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout = timeout
        self._progress = -1
        self._since = now
        self._rebuilt = False

    def judge(self, now: float, progress: int, *, idle: bool) -> Verdict:
        """`progress` is any number that changes with it; `idle` says that none is to be expected."""
        if progress != self._progress or idle:
            self._rebuilt = self._rebuilt and progress == self._progress
            self._progress, self._since = progress, now
            return Verdict.WELL
        if now - self._since < self._timeout:
            return Verdict.WELL
        self._since = now
        if self._rebuilt:
            return Verdict.GIVE_UP
        self._rebuilt = True
        return Verdict.REBUILD
