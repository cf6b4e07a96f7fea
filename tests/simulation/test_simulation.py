"""The whole pipeline in virtual time: a failure is a seed. `pytest tests/simulation --seeds 5000` looks further."""

from tests.simulation import virtual_time
from tests.simulation.world import World


def test_nothing_is_lost_or_doubled_whatever_breaks(seeds: range) -> None:
    for seed in seeds:
        try:
            virtual_time.run(World(seed).run())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_each_tombstone_is_counted_where_some_workers_skip_them(seeds: range) -> None:
    for seed in seeds:
        try:
            virtual_time.run(World(seed, skips=True).run(75))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_nothing_is_lost_or_doubled_where_logs_are_truncated_again_and_again(seeds: range) -> None:
    for seed in seeds:
        try:
            virtual_time.run(World(seed, truncations=0.35).run(75))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
