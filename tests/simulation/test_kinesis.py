"""The pipeline and the source on a Kinesis stream, in virtual time: a failure is a seed."""

import pytest

from tests.simulation import virtual_time
from tests.simulation.kinesis_world import KinesisWorld, scale

COST = 8  # of a seed, compared with one of the simulation of Kafka


async def world(seed: int) -> None:
    await KinesisWorld(seed).run()


def test_nothing_is_lost_or_doubled_on_a_stream(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    scale(monkeypatch)
    for seed in seeds:
        try:
            virtual_time.run(world(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_records_of_a_child_are_not_passed_over_where_its_parent_was_never_seen_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The seed at which retention emptied a closed parent, and then its child, before a daemon came to them."""
    scale(monkeypatch)
    virtual_time.run(world(57))


def test_records_of_a_child_are_not_passed_over_where_retention_is_raised_before_it_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scale(monkeypatch)
    monkeypatch.setattr(KinesisWorld, "retention_ends", True)
    virtual_time.run(world(226))
