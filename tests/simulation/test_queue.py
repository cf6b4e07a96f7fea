"""The flow from a queue in virtual time; and its rules, taken out one at a time, that this must notice."""

from tests.simulation import virtual_time
from tests.simulation.queue_world import QueueWorld

COST = 2


def test_nothing_is_lost_or_doubled_on_a_queue(seeds: range) -> None:
    for seed in seeds:
        try:
            virtual_time.run(QueueWorld(seed, fifo=seed % 3 == 0).run())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
