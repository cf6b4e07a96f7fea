"""The short form of the collector's faults: whatever it answers 200 is a row, or in the quarantine, once."""

from pathlib import Path

import pytest

from tests.chaos.collector_faults import COLLECTOR_FAULTS, CollectorFault, run_collector
from tests.chaos.runner import check
from tests.chaos.services import Services
from tests.chaos.short_forms import SEED

pytestmark = pytest.mark.services


@pytest.mark.parametrize("fault", [it for it in COLLECTOR_FAULTS.values() if it.possible], ids=lambda fault: fault.name)
async def test_what_a_collector_answers_200_is_a_row(hurt: Services, tmp_path: Path, fault: CollectorFault) -> None:
    check(await run_collector(hurt, fault, tmp_path, seed=SEED, long=False))
