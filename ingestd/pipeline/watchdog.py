"""Judges whether the source still makes progress. Pure: time comes in as an argument.

A consumer can be stuck while every probe is green (aio-libs/aiokafka#1154). Then it is rebuilt; if that does not help
the process ends, so that its supervisor restarts it.
"""

from enum import Enum


class Verdict(Enum):
    """What to do about the source."""

    HEALTHY = "healthy"
    REBUILD = "rebuild"
    GIVE_UP = "give up"


class Watchdog:
    """`timeout` in seconds bounds how long a partition may wait for records that its log has."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._rebuilt_at: int | None = None

    def judge(self, waited: float, progress: int) -> Verdict:
        """`waited` is the longest wait of any partition in seconds; `progress` changes whenever records come."""
        if waited < self._timeout:
            return Verdict.HEALTHY
        if progress == self._rebuilt_at:
            return Verdict.GIVE_UP
        self._rebuilt_at = progress
        return Verdict.REBUILD
