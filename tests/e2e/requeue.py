"""`ingestd requeue` as a process, for the tests: run to its end or killed, and what it has produced."""

import asyncio
import json
import random
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from tests.e2e.daemon import DEADLINE

# It kills itself, {pause} seconds after so many receipts: who watches it from outside may find that it has ended.
_PROGRAM = """
import itertools, os, signal, threading
from ingestd.cli.main import main
from ingestd.requeue import batches
from ingestd.requeue.receipts import Receipts

batches._MAX_RECORDS = {records}
record, written = Receipts.record, itertools.count(1)

async def counted(self, produced):
    await record(self, produced)
    if next(written) == {receipts}:
        timer = threading.Timer({pause}, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

Receipts.record = counted
raise SystemExit(main())
"""


class Requeue:
    """The command, as often as it is started. Its transactions are small: there are many moments to be killed at."""

    def __init__(
        self, directory: Path, keys: Mapping[str, str], environment: Mapping[str, str], *, records: int = 2
    ) -> None:
        self._directory = directory
        self._records = records
        self._flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        self._environment = {**environment}
        self._started: list[asyncio.subprocess.Process] = []

    async def start(self, *options: str, receipts: int = 0, pause: float = 0.0) -> asyncio.subprocess.Process:
        """It is killed when it has written so many receipts, 0 for never, and `pause` seconds are over."""
        program = _PROGRAM.format(records=self._records, receipts=receipts, pause=pause)
        with self._log(len(self._started)).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, "requeue", "--json", *options, *self._flags,
                env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._started.append(process)
        return process

    async def close(self) -> None:
        """Kill what still runs, however a test ended."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def run(self, *options: str, exit_code: int = 0) -> dict[str, Any]:
        """To its end; its report."""
        process = await self.start(*options)
        async with asyncio.timeout(DEADLINE):
            output, _ = await process.communicate()
        assert process.returncode == exit_code, self._log(self._started.index(process)).read_text()
        report: dict[str, Any] = json.loads(output)
        return report

    async def run_killed(self, rng: random.Random, *, most: int, pause_s: float) -> None:
        """To its end, which it reaches after it was killed more than once, each time at up to `most` more receipts."""
        codes = [-signal.SIGKILL]
        while codes[-1] == -signal.SIGKILL:
            process = await self.start(receipts=rng.randint(1, most), pause=rng.uniform(0, pause_s))
            async with asyncio.timeout(DEADLINE):
                await process.communicate()
            assert process.returncode is not None
            codes.append(process.returncode)
        assert codes[-1] == 0, self._log(len(self._started) - 1).read_text()
        assert len(codes) > 3, codes

    def _log(self, number: int) -> Path:
        return self._directory / f"requeue-{number}.log"


async def requeued(bootstrap: str, topic: str) -> list[Any]:
    """All records of a topic's only partition that have an origin, as a reader of what is committed sees them."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        [partition] = consumer.assignment()
        [end] = (await consumer.end_offsets([partition])).values()
        found = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record for record in records if "ingestd-origin-topic" in dict(record.headers)]
        return found
    finally:
        await consumer.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a store tells only who asks
            await asyncio.sleep(0.01)
