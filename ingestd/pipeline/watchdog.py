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
    """`timeout` in seconds is the longest that a partition may wait for records that its log has."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._rebuilt_at: int | None = None

    def judge(self, waited: float, progress: int) -> Verdict:
        """`waited` is the longest wait of a partition, in seconds; `progress` any number that changes with it."""
        if waited < self._timeout:
            return Verdict.WELL
        if progress == self._rebuilt_at:
            return Verdict.GIVE_UP
        self._rebuilt_at = progress
        return Verdict.REBUILD
