"""Rules of the chain, whatever the source is, taken out one at a time."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from ingestd.core import object_keys as layout
from ingestd.pipeline.chain_objects import ChainObjects
from tests.simulation.store import Store


def unconditional_put(patch: pytest.MonkeyPatch) -> None:
    original = Store.__init__

    def init(self: Store, *arguments: Any) -> None:
        original(self, *arguments)
        self.conditional = False

    patch.setattr(Store, "__init__", init)


def exists_taken_as_success(patch: pytest.MonkeyPatch) -> None:
    original = ChainObjects.upload

    async def upload(self: ChainObjects, encoded: Any) -> None:
        await original(self, encoded)

    patch.setattr(ChainObjects, "upload", upload)


def all_bad_batch_without_an_object(patch: pytest.MonkeyPatch) -> None:
    original = ChainObjects.upload

    async def upload(self: ChainObjects, encoded: Any) -> Any:
        return None if encoded.metadata.rows == 0 else await original(self, encoded)

    patch.setattr(ChainObjects, "upload", upload)


def skipped_records_without_a_count(patch: pytest.MonkeyPatch) -> None:
    original = ChainObjects.upload

    async def upload(self: ChainObjects, encoded: Any) -> Any:
        metadata = msgspec.structs.replace(encoded.metadata, skipped=None)
        return await original(self, msgspec.structs.replace(encoded, metadata=metadata))

    patch.setattr(ChainObjects, "upload", upload)


def skipped_batch_without_an_object(patch: pytest.MonkeyPatch) -> None:
    original = ChainObjects.upload

    async def upload(self: ChainObjects, encoded: Any) -> Any:
        metadata = encoded.metadata
        only_skipped = metadata.skipped and not metadata.rows and not metadata.rejected
        return None if only_skipped else await original(self, encoded)

    patch.setattr(ChainObjects, "upload", upload)


def wall_clock_date_in_the_key(patch: pytest.MonkeyPatch, clock_s: Callable[[], float]) -> None:
    """`clock_s` is the simulated wall clock."""

    def day(_: int) -> str:
        now = datetime.fromtimestamp(clock_s(), UTC)
        return f"year={now.year:04d}/month={now.month:02d}/day={now.day:02d}/"

    patch.setattr(layout, "day_folder", day)
