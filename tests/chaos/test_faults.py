"""The short form of every fault but those of three brokers: no row is lost or doubled, and the daemons recover."""

from pathlib import Path

import pytest

from tests.chaos.all_faults import FAULTS
from tests.chaos.collector_faults import COLLECTOR_FAULTS, CollectorFault, run_collector
from tests.chaos.fault import Fault
from tests.chaos.runner import check, run
from tests.chaos.services import Services

pytestmark = pytest.mark.services

SEED = 7


ONE_BROKER = [fault for fault in FAULTS.values() if fault.brokers == 1 and fault.possible]


@pytest.mark.parametrize("fault", ONE_BROKER, ids=lambda fault: fault.name)
async def test_loses_nothing_and_doubles_nothing(hurt: Services, tmp_path: Path, fault: Fault) -> None:
    check(await run(hurt, fault, tmp_path, seed=SEED, long=False))


@pytest.mark.parametrize("fault", [it for it in COLLECTOR_FAULTS.values() if it.possible], ids=lambda fault: fault.name)
async def test_what_a_collector_answers_200_is_a_row(hurt: Services, tmp_path: Path, fault: CollectorFault) -> None:
    check(await run_collector(hurt, fault, tmp_path, seed=SEED, long=False))
