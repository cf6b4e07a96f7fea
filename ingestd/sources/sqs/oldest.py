"""The age of the oldest message, by what was received. Pure.

AWS knows it as a metric of CloudWatch (ApproximateAgeOfOldestMessage) and not as an attribute of the queue. Standard
queues hand out messages in no order, so this is the greatest age at its receipt of all messages of a minute or two.
"""

from collections.abc import Sequence

WINDOW_S = 60.0


class OldestMessage:
    """Remembers the greatest age of this window of time and of the one before."""

    def __init__(self) -> None:
        self._begins: float | None = None
        self._current: float | None = None
        self._before: float | None = None

    def note(self, now: float, wall_s: float, sent_ms: Sequence[int]) -> None:
        """Note an answer: the queue was empty where it has no messages. `now` is monotonic, `wall_s` is Unix time."""
        self._turn(now)
        age = max(0.0, wall_s - min(sent_ms) / 1000) if sent_ms else 0.0
        self._current = age if self._current is None else max(self._current, age)

    def age_s(self, now: float) -> float | None:
        """Seconds; None where nothing was received lately."""
        self._turn(now)
        return max((it for it in (self._current, self._before) if it is not None), default=None)

    def _turn(self, now: float) -> None:
        if self._begins is None:
            self._begins = now
        elapsed = now - self._begins
        if elapsed >= WINDOW_S:
            self._before = self._current if elapsed < 2 * WINDOW_S else None
            self._current, self._begins = None, now
