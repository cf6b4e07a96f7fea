"""Three brokers, of which some are killed, frozen, restarted or wiped: no row is lost, and none is doubled."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.all_faults import FAULTS
from tests.chaos.fault import Fault
from tests.chaos.runner import check, run
from tests.chaos.services import Services, cluster_services
from tests.services.kafka_cluster import KafkaCluster

SEED = 7
THREE_BROKERS = [fault for fault in FAULTS.values() if fault.brokers > 1 and fault.short]


@pytest.fixture(scope="module")
def hurt(kafka_cluster: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The brokers, and a store."""
    with cluster_services(tmp_path_factory.mktemp("chaos"), kafka_cluster) as both:
        yield both


@pytest.mark.parametrize("fault", THREE_BROKERS, ids=lambda fault: fault.name)
async def test_loses_nothing_and_doubles_nothing(hurt: Services, tmp_path: Path, fault: Fault) -> None:
    check(await run(hurt, fault, tmp_path, seed=SEED, long=False))
