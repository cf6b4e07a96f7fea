"""Python's analytics SDKs send to a collector in front of Kafka: its broker dies, the collector dies, and both."""

from pathlib import Path

import pytest

from tests.collect.sdk_kafka_cases import KILLED, check_kafka_deaths
from tests.services.clients import PYTHON_CLIENTS
from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("killed", KILLED)
@pytest.mark.parametrize("name", PYTHON_CLIENTS)
async def test_whatever_is_killed_what_was_answered_200_becomes_a_row_under_one_id(
    name: str, killed: str, mortal_broker: KafkaBroker, mortal_topic: str, tmp_path: Path
) -> None:
    await check_kafka_deaths(name, killed, mortal_broker, mortal_topic, tmp_path)
