"""SDKs of Node and the JVM send to the collector: every event is one row, also where it or its broker dies."""

from pathlib import Path

import pytest

from tests.collect.sdk_cases import check_deaths, check_rows
from tests.collect.sdk_kafka_cases import KILLED, check_kafka_deaths
from tests.services.clients import JVM_CLIENTS, NODE_CLIENTS
from tests.services.kafka import KafkaBroker

OTHERS = [*NODE_CLIENTS, *JVM_CLIENTS]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", OTHERS)
async def test_every_call_is_one_row(name: str, tmp_path: Path) -> None:
    await check_rows(name, tmp_path)


@pytest.mark.parametrize("name", OTHERS)
async def test_a_collector_that_dies_loses_nothing_and_retries_make_no_second_id(name: str, tmp_path: Path) -> None:
    await check_deaths(name, tmp_path)


@pytest.mark.parametrize("killed", KILLED)
@pytest.mark.parametrize("name", OTHERS)
async def test_in_front_of_kafka_what_was_answered_200_becomes_a_row_under_one_id(
    name: str, killed: str, mortal_broker: KafkaBroker, mortal_topic: str, tmp_path: Path
) -> None:
    await check_kafka_deaths(name, killed, mortal_broker, mortal_topic, tmp_path)
