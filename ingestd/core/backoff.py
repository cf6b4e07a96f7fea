"""How long to wait before the next attempt."""

from random import Random

_MAX_DOUBLINGS = 64  # every ceiling is reached by then, and 2.0**attempt would overflow


def backoff(attempt: int, initial: float, maximum: float, random: Random) -> float:
    """Seconds to wait after failure number `attempt` (from 0): uniform in (0, min(maximum, initial * 2**attempt)].

    Full jitter: many writers that failed together do not retry together.
    """
    ceiling = min(maximum, initial * 2.0 ** min(attempt, _MAX_DOUBLINGS))
    # random() can be 0 but never 1; a wait of 0 would let a loop spin.
    return ceiling * (1.0 - random.random())
