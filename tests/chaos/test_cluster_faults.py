"""Three brokers, of which some are killed, frozen, restarted or cut: no row is lost, and none is doubled."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.fault import Fault
from tests.chaos.services import Services, cluster_services
from tests.chaos.short_forms import CLUSTER, run_short_form
from tests.services.kafka_cluster import KafkaCluster


@pytest.fixture(scope="module")
def hurt(kafka_cluster: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The brokers, and a store."""
    with cluster_services(tmp_path_factory.mktemp("chaos"), kafka_cluster) as both:
        yield both


@pytest.mark.parametrize("fault", CLUSTER, ids=lambda fault: fault.name)
async def test_loses_nothing_and_doubles_nothing(hurt: Services, tmp_path: Path, fault: Fault) -> None:
    await run_short_form(hurt, tmp_path, fault)
