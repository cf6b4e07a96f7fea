"""Kills in bulk, a few of them."""

from pathlib import Path

import pytest

from tests.chaos.kills import Bulk, kill_in_bulk
from tests.chaos.services import Services

pytestmark = pytest.mark.services


async def test_counts_what_it_has_killed_and_finds_nothing_amiss(hurt: Services, tmp_path: Path) -> None:
    bulk = Bulk(6, seed=7)

    await kill_in_bulk(hurt, tmp_path, bulk, groups=2)

    assert not bulk.problems, bulk.problems
    assert (bulk.kills, bulk.lost, bulk.doubled) == (6, 0, 0)
    assert bulk.records > 100
    assert bulk.objects > 0
