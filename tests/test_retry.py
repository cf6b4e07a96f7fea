from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.backoff import backoff

SECONDS = st.floats(min_value=0.001, max_value=3600)


@given(attempt=st.integers(0, 10_000), initial=SECONDS, maximum=SECONDS, seed=st.integers())
def test_waits_longer_than_nothing_and_never_over_the_maximum(
    attempt: int, initial: float, maximum: float, seed: int
) -> None:
    assert 0 < backoff(attempt, initial, maximum, Random(seed)) <= maximum


@given(attempt=st.integers(0, 10), seed=st.integers())
def test_the_ceiling_doubles_with_each_attempt(attempt: int, seed: int) -> None:
    assert backoff(attempt, 0.5, 1e9, Random(seed)) <= 0.5 * 2**attempt


def test_uses_the_whole_range_so_that_writers_spread() -> None:
    random = Random(7)
    waits = [backoff(20, 0.2, 30, random) for _ in range(1000)]
    assert min(waits) < 1
    assert max(waits) > 29
    assert 14 < sum(waits) / len(waits) < 16


def test_a_random_number_of_zero_is_no_wait_of_zero() -> None:
    class Zero(Random):
        def random(self) -> float:
            return 0.0

    assert backoff(0, 0.2, 30, Zero()) == 0.2
