"""The short form of every fault: no row is lost, none is doubled, and the daemons recover."""

from pathlib import Path

import pytest

from tests.chaos.all_faults import FAULTS
from tests.chaos.fault import Fault
from tests.chaos.runner import run
from tests.chaos.services import Services

pytestmark = pytest.mark.services

SEED = 7


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_loses_nothing_and_doubles_nothing(hurt: Services, tmp_path: Path, fault: Fault) -> None:
    result = await run(hurt, fault, tmp_path, seed=SEED, long=False)

    assert not result.problems, "\n".join([result.outcome, *result.problems])
    assert result.recovery is not None
    assert result.tally is not None
    assert result.tally.records > 0
    assert (result.tally.lost, result.tally.doubled) == (0, 0)
