"""What `ingestd verify` costs on a year of objects, in a store that answers at once.

    python -m benchmarks.walk 730000 --partitions 200

Prints objects a second, CPU-microseconds an object, and the peak of memory, which must not depend on the number.
"""

import argparse
import asyncio
import re
import resource
import time
from collections.abc import AsyncIterator, Mapping
from datetime import date

from ingestd import inspection, wiring
from ingestd.config.load import load
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.verify.run import VerifyOptions, verify

DAYS = 365
ROWS = 1000  # of an object
_DAY_MS = 86_400_000
_FIRST_DAY = 20_000  # since the epoch


class MadeUpStore:
    """Keeps nothing: names and metadata follow from the offsets."""

    url = "made-up"

    def __init__(self, objects: int, partitions: int) -> None:
        self._layout = ObjectKeys()
        self._partitions = partitions
        self._daily = max(1, objects // (DAYS * partitions))  # of a partition
        self._folders = [self._key(0, day * self._daily).rpartition("/")[0] + "/" for day in range(DAYS)]

    def _timestamp(self, number: int) -> int:
        day, rest = divmod(number, self._daily)
        return (_FIRST_DAY + day) * _DAY_MS + rest * 1000

    def _key(self, partition: int, number: int) -> str:
        return self._layout.data_key(TopicPartition("t", partition), number * ROWS, self._timestamp(number), 0)

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        raise NotImplementedError

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        raise NotImplementedError

    def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        raise NotImplementedError

    async def get(self, key: str, limit: int | None = None) -> bytes:
        raise NotImplementedError

    async def folders(self, prefix: str) -> list[str]:
        depth = prefix.count("/")
        return sorted({"/".join(it.split("/")[: depth + 1]) + "/" for it in self._folders if it.startswith(prefix)})

    async def list(self, prefix: str) -> AsyncIterator[str]:
        if not prefix.startswith(self._layout.events):
            return
        year, month, day = map(int, re.findall(r"=(\d+)", prefix))
        first = ((date(year, month, day) - date(1970, 1, 1)).days - _FIRST_DAY) * self._daily
        for partition in range(self._partitions):
            for number in range(first, first + self._daily):
                yield self._key(partition, number)
        await asyncio.sleep(0)

    async def head(self, key: str) -> ObjectInfo | None:
        await asyncio.sleep(0)
        name = self._layout.parse(key)
        assert name is not None
        timestamp = self._timestamp(name.start // ROWS)
        landed = ObjectMetadata(
            topic="t",
            partition=name.partition.partition,
            start=name.start,
            end=name.start + ROWS,
            rows=ROWS,
            rejected=0,
            sha256="0" * 64,
            first_offset=name.start,
            first_timestamp=timestamp,
            last_timestamp=timestamp,
            cluster="c",
            version="0",
        )
        return ObjectInfo(key, 1000, landed.to_user_metadata())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walk", description=__doc__.split("\n")[0])
    parser.add_argument("objects", type=int)
    parser.add_argument("--partitions", type=int, default=200)
    options = parser.parse_args()
    began = time.perf_counter()
    store = MadeUpStore(options.objects, options.partitions)
    report = wiring.run(verify(load(environ={}), VerifyOptions(objects_only=True), store, inspection.open_inspector))
    seconds, objects = time.perf_counter() - began, report.totals.objects
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{objects:,} objects, {'nothing wrong' if report.ok else 'PROBLEMS'}: {objects / seconds:,.0f} a second, "
        f"{1e6 * time.process_time() / objects:.0f} CPU-microseconds an object, peak memory {memory:.0f} MiB"
    )


if __name__ == "__main__":
    main()
