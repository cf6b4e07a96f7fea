"""How long to wait before the next try. Pure."""

from random import Random

_MAX_DOUBLINGS = 64  # beyond it every ceiling has been reached, and 2.0**attempt would overflow in the end


def backoff(attempt: int, initial: float, maximum: float, random: Random) -> float:
    """Seconds to wait after failure number `attempt` (from 0): uniform in (0, min(maximum, initial * 2**attempt)].

    Full jitter: many writers that failed together do not come back together.
    """
    ceiling = min(maximum, initial * 2.0 ** min(attempt, _MAX_DOUBLINGS))
    # random() can be 0 and never 1; a wait of 0 would make a loop that only spins possible.
    return ceiling * (1.0 - random.random())
