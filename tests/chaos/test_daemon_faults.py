"""The short form of faults of daemons and of the topic: nothing is lost or doubled, and daemons recover."""

from pathlib import Path

import pytest

from tests.chaos.fault import Fault
from tests.chaos.services import Services
from tests.chaos.short_forms import DAEMON, run_short_form

pytestmark = pytest.mark.services


@pytest.mark.parametrize("fault", DAEMON, ids=lambda fault: fault.name)
async def test_loses_nothing_and_doubles_nothing(hurt: Services, tmp_path: Path, fault: Fault) -> None:
    await run_short_form(hurt, tmp_path, fault)
