"""The faults whose short form is in every run of the tests, by the file that runs them: files run side by side."""

from pathlib import Path
from types import ModuleType

from tests.chaos.all_faults import (
    FAULTS,
    cluster_faults,
    kafka_faults,
    offset_faults,
    process_faults,
    store_faults,
    topic_faults,
    truncation_faults,
)
from tests.chaos.fault import Fault
from tests.chaos.runner import check, run
from tests.chaos.services import Services

SEED = 7


def short_forms(*modules: ModuleType) -> list[Fault]:
    """The faults of these modules, as far as this process may inject them."""
    names = {module.__name__ for module in modules}
    return [it for it in FAULTS.values() if it.inject.__module__ in names and it.short and it.possible]


BROKER = short_forms(kafka_faults)
CLUSTER = short_forms(cluster_faults, truncation_faults)
DAEMON = short_forms(process_faults, topic_faults)
STORE = short_forms(store_faults, offset_faults)


async def run_short_form(hurt: Services, directory: Path, fault: Fault) -> None:
    """Inject the fault. AssertionError where something is lost or doubled, or does not recover."""
    check(await run(hurt, fault, directory, seed=SEED, long=False))
