"""Services of this folder's own, started on first use."""

from collections.abc import Iterator

import pytest

from tests.chaos.services import Services, services


@pytest.fixture(scope="session")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A broker and a store that may be killed."""
    with services(tmp_path_factory.mktemp("chaos")) as both:
        yield both
