"""The pipeline and the source on a Kinesis stream, in virtual time: a failure is a seed."""

import pytest

from ingestd.sources.kinesis import assignment, continuity
from tests.simulation import virtual_time
from tests.simulation.kinesis_world import KinesisWorld

COST = 4  # of a seed, compared with one of the simulation of Kafka


@pytest.fixture(autouse=True)
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention is a minute: what is counted in its proportion, too."""
    monkeypatch.setattr(continuity, "CLOCK_ERROR_MS", 2_000)
    monkeypatch.setattr(assignment, "LIST_INTERVAL_S", 5.0)


async def world(seed: int) -> None:
    await KinesisWorld(seed).run()


def test_nothing_is_lost_or_doubled_on_a_stream(seeds: range) -> None:
    for seed in seeds:
        try:
            virtual_time.run(world(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
