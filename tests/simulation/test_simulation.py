"""The whole pipeline in virtual time: a failure is a seed. `pytest tests/simulation --seeds 5000` looks further."""

import pytest

from tests.simulation import virtual_time
from tests.simulation.world import World

BLOCK = 25  # seeds a test


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "block" in metafunc.fixturenames:
        seeds = metafunc.config.getoption("--seeds")
        metafunc.parametrize("block", range(0, seeds, BLOCK))


def test_nothing_is_lost_or_doubled_whatever_breaks(block: int, request: pytest.FixtureRequest) -> None:
    for seed in range(block, min(block + BLOCK, request.config.getoption("--seeds"))):
        try:
            virtual_time.run(World(seed).run())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
