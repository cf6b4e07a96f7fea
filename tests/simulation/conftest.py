"""Small pieces, so that batches of a few records are compressed in several."""

import pytest

from ingestd.batch import Batch


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "piece_bytes", 600)
    monkeypatch.setattr(Batch, "overhead_bytes", 100)
