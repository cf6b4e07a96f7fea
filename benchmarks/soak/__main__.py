"""`make soak`: daemons with default settings on a real broker and a real store, under a steady rate and bursts.

    python -m benchmarks.soak --minutes 30 --rate 5000 --daemons 1

Ctrl-C ends the load early; the report follows: soak.md, soak.png and soak.csv in benchmarks/results. Exits with 1 when
memory grows, when what a burst did is not over, when anything is lost or doubled, or when the budget was exceeded.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.soak import report, verdict
from benchmarks.soak.count import count
from benchmarks.soak.load import Written
from benchmarks.soak.plan import Plan
from benchmarks.soak.samples import Sample, Watch, Written2Landed
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.ledger import Tally
from tests.services.kafka import KafkaBroker, create_topic, topic_admin
from tests.services.seaweed import SeaweedFS

TOPIC = "soak"
BUCKET = "soak"
RESULTS = Path(__file__).parents[1] / "results"
ROOT = Path(__file__).parents[2]
# The broker's log is bounded, the objects are not.
RETENTION = {"retention.bytes": str(512 << 20), "segment.bytes": str(64 << 20)}
OBJECT_BYTES = 60  # an event compressed, with a margin
LANDS_WITHIN = 180.0  # seconds, what was written last
PROGRESS = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=5_000.0, help="events a second; ten times as many in a burst")
    parser.add_argument("--daemons", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    plan = Plan(options.rate, options.minutes * 60)
    with tempfile.TemporaryDirectory(prefix="ingestd-soak-") as name:
        directory = Path(name)
        demand_space(plan, options.partitions, directory)
        with services(directory) as (broker, store):
            soak = Soak(plan, directory, broker, store, options.partitions)
            run = asyncio.run(soak.run(options.daemons))
    report.write(run, options.results)
    print(report.page(run))
    sys.exit(1 if run.failures else 0)


def demand_space(plan: Plan, partitions: int, directory: Path) -> None:
    needed = int(plan.events * OBJECT_BYTES + partitions * int(RETENTION["retention.bytes"]) * 1.2)
    free = shutil.disk_usage(directory).free
    print(f"{plan.seconds / 60:g} minutes, some {plan.events:,.0f} events, at most {needed >> 20:,} MiB in {directory}")
    if free < needed:
        sys.exit(f"{directory} has only {free >> 20:,} MiB: name another place in TMPDIR, or give less MINUTES or RATE")


@contextlib.contextmanager
def services(directory: Path) -> Iterator[tuple[KafkaBroker, SeaweedFS]]:
    for name in ("kafka", "s3"):
        (directory / name).mkdir()
    with KafkaBroker(directory / "kafka") as broker, SeaweedFS(directory / "s3") as store:
        store.create_bucket(BUCKET)
        yield broker, store


class Soak:
    """One run: load, samples, and the count at the end."""

    def __init__(self, plan: Plan, directory: Path, broker: KafkaBroker, store: SeaweedFS, partitions: int) -> None:
        self._plan = plan
        self._directory = directory
        self._broker = broker
        self._store = store
        self._partitions = partitions
        self._group = Written2Landed(partitions)
        self._written = Written(0.0, [0] * partitions, 0)
        self._samples: list[Sample] = []
        self._failures: list[str] = []
        self._stop = asyncio.Event()

    async def run(self, daemons: int) -> report.Run:
        async with topic_admin(self._broker.bootstrap) as admin:
            await create_topic(admin, TOPIC, self._partitions, RETENTION)
        started = [self._daemon(f"d{number + 1}") for number in range(daemons)]
        for daemon in started:
            daemon.start()
        for daemon in started:
            await daemon.until(lambda status: status.ready and status.assigned, 120)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._stop.set)
        seconds = await self._load([Watch(daemon) for daemon in started])
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        for daemon in started:
            if (code := await daemon.stop(120)) != 0:
                self._failures.append(f"daemon {daemon.name} ended with {code}")
        print("Counting what is in the bucket ...", flush=True)
        tally = await asyncio.to_thread(count, self._store, BUCKET, TOPIC, self._written.ends)
        return self._judge(seconds, tally)

    def _daemon(self, name: str) -> Daemon:
        """With default settings, but for where things are."""
        places = {
            "kafka.bootstrap_servers": self._broker.bootstrap,
            "kafka.topics": TOPIC,
            "sink.url": f"s3://{BUCKET}",
            "s3.endpoint_url": self._store.endpoint,
        }
        return Daemon(name, self._directory, places, credentials(self._store))

    # -- the load

    async def _load(self, watches: Sequence[Watch]) -> float:
        """Write as planned while samples are taken, until all has landed; for how many seconds it was written."""
        command = [sys.executable, "-m", "benchmarks.soak.load", self._broker.bootstrap, TOPIC, str(self._partitions)]
        writer = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        hearing = asyncio.create_task(self._hear(writer.stdout))
        began = time.monotonic()
        rate = 0.0
        while (second := time.monotonic() - began) < self._plan.seconds and not self._stop.is_set():
            if (wanted := self._plan.rate_at(second)) != rate:
                rate = wanted
                writer.stdin.write(f"{rate}\n".encode())
            await self._sample(watches, second, "burst" if rate > self._plan.rate else "steady")
            await self._until(began + round(second) + 1)
        writer.stdin.close()
        await hearing
        await self._land(watches, began)
        if await writer.wait():
            self._failures.append("the writer failed")
        return second

    async def _hear(self, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            self._written = msgspec.json.decode(line, type=Written)
            self._group.wrote(self._written)

    async def _land(self, watches: Sequence[Watch], began: float) -> None:
        """Wait until all that was written has landed."""
        limit = time.monotonic() + LANDS_WITHIN
        while self._group.lag:
            if time.monotonic() > limit:
                self._failures.append(f"{self._group.lag} records have not landed {LANDS_WITHIN:.0f} s after the end")
                return
            await self._sample(watches, time.monotonic() - began, "end")
            await asyncio.sleep(1)

    async def _until(self, when: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, when - time.monotonic())):
                await self._stop.wait()

    async def _sample(self, watches: Sequence[Watch], second: float, phase: str) -> None:
        try:
            found = await asyncio.gather(*(it.look(second, phase, time.time(), self._group) for it in watches))
        except OSError as error:
            self._failures.append(f"a daemon did not answer at second {second:.0f}: {error}")
            return
        self._samples += found
        sample = found[0]
        if int(second) % PROGRESS == 0:
            print(
                f"{second:6.0f} s  {phase:6}  {sample.produced:,} written  lag {sample.lag_records:,}  "
                f"age {sample.age_s:.0f} s  resident {' '.join(f'{it.rss_mib:.0f}' for it in found)} MiB  "
                f"loop {max(it.loop_worst_ms for it in found):.0f} ms",
                flush=True,
            )

    # -- the end

    def _judge(self, seconds: float, tally: Tally) -> report.Run:
        plan = self._plan._replace(seconds=seconds)
        names = sorted({it.daemon for it in self._samples})
        first = [it for it in self._samples if it.daemon == names[0]] if names else []
        memory = {
            name: verdict.memory([it for it in self._samples if it.daemon == name], plan.bursts) for name in names
        }
        freshness = verdict.recoveries(first, plan.bursts, lambda it: it.age_s)
        lag = verdict.recoveries(first, plan.bursts, lambda it: it.lag_records)
        failures = list(self._failures)
        failures += [f"memory of {name} grows" for name, slope in memory.items() if slope is not None and slope.grows]
        for name, found in (("freshness", freshness), ("lag", lag)):
            failures += [
                f"{name} was not normal again after the burst at minute {it.burst.begin / 60:.0f}"
                for it in found
                if it.seconds is None
            ]
        if any(it.buffered_mib > it.budget_mib for it in self._samples):
            failures.append("the memory budget was exceeded")
        if tally.quarantined != self._written.malformed:
            failures.append(f"{tally.quarantined} records are in quarantine, {self._written.malformed} were malformed")
        failures += tally.problems
        return report.Run(plan, plan.bursts, self._samples, memory, freshness, lag, tally, failures)


if __name__ == "__main__":
    main()
