"""SDKs of Node and the JVM send to the collector: every event is one row, also where the collector dies meanwhile."""

from pathlib import Path

import pytest

from tests.collect.sdk_cases import check_deaths, check_rows
from tests.services.clients import JVM_CLIENTS, NODE_CLIENTS

OTHERS = [*NODE_CLIENTS, *JVM_CLIENTS]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", OTHERS)
async def test_every_call_is_one_row(name: str, tmp_path: Path) -> None:
    await check_rows(name, tmp_path)


@pytest.mark.parametrize("name", OTHERS)
async def test_a_collector_that_dies_loses_nothing_and_retries_make_no_second_id(name: str, tmp_path: Path) -> None:
    await check_deaths(name, tmp_path)
