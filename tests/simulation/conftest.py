"""Seeds in blocks, and small pieces, so that batches of a few records are compressed in several."""

import pytest

from ingestd.core.batch import Batch

BLOCK = 25  # seeds a test


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        end = metafunc.config.getoption("--seeds") // getattr(metafunc.module, "COST", 1)
        blocks = [range(start, min(start + BLOCK, end)) for start in range(0, end, BLOCK)]
        metafunc.parametrize("seeds", blocks, ids=lambda block: f"{block.start}-{block.stop - 1}")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "chunk_bytes", 600)
    monkeypatch.setattr(Batch, "overhead_bytes", 100)
