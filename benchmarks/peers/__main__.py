"""`make bench-peers`: ours and other systems, side by side on the same broker, store and events.

    python -m benchmarks.peers --events 3000000 --rounds 2 --systems ingestd,bento-parsed

There are two races: on flat events, and on larger ones as SDKs send them, a fifth as many.

Leaves peers.md, peers.png and peers.json in benchmarks/results. The peers are installed below .cache the first time.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers import report
from benchmarks.peers.install import Missing, Tools
from benchmarks.peers.picture import picture
from benchmarks.peers.race import Backlog, race
from benchmarks.peers.running import Failed, Ground
from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.peers.trials import endure, kill
from benchmarks.rig.fill import TYPICAL, Kind, Load, fill
from benchmarks.rig.results import RESULTS, write
from benchmarks.rig.services import services

PARTITIONS = 6
KINDS: tuple[tuple[Kind, int, int], ...] = (("flat", TYPICAL, 1), ("sdk", 1200, 5))  # bytes, and one of so many events
BATCH = 1000  # records in a producer's batch


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=3_000_000, help="to drain; a multiple of partitions x rows")
    parser.add_argument("--rows", type=int, default=50_000, help="in a file")
    parser.add_argument("--rounds", type=int, default=2, help="of the race; 0: only what becomes of the rows")
    parser.add_argument("--seconds", type=float, default=60.0, help="for one drain at most")
    parser.add_argument("--kills", type=int, default=4, help="of each system; 0: only the race")
    parser.add_argument("--systems", default=",".join(it.key for it in SYSTEMS), help="keys, with commas between them")
    parser.add_argument("--connect-plugins", type=Path, help="a directory that has Aiven's S3 sink for Kafka Connect")
    parser.add_argument("--vector", type=Path, help="Vector's program")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.events % (PARTITIONS * options.rows):
        parser.error(
            f"--events {options.events} is no multiple of {PARTITIONS} x {options.rows}: files would stay open"
        )
    if unknown := set(options.systems.split(",")) - {it.key for it in SYSTEMS}:
        parser.error(f"--systems has {', '.join(sorted(unknown))}, which is none of {[it.key for it in SYSTEMS]}")
    tools = Tools(options.connect_plugins and options.connect_plugins.resolve(), options.vector)
    there, missing = installed([it for it in SYSTEMS if it.key in options.systems.split(",")], tools)
    if not there:
        sys.exit("\n".join(f"{key}: {reason}" for key, reason in missing.items()))
    found = asyncio.run(Bench(tools, options).run(there))
    found.missing |= missing
    write(report.report(found), picture(found.races) if found.races else None, options.results)
    print(report.text(found))


def installed(systems: Sequence[System], tools: Tools) -> tuple[list[System], dict[str, str]]:
    """Those that can be started, and the reasons of those that cannot."""
    there, missing = [], {}
    for system in systems:
        try:
            system.needs(tools)
            there.append(system)
        except Missing as reason:
            missing[system.key] = str(reason)
    return there, missing


class Bench:
    """The whole: the race in rounds, then the trials."""

    def __init__(self, tools: Tools, options: argparse.Namespace) -> None:
        self._tools = tools
        self._options = options
        self._found = report.Found(events=options.events, rows=options.rows, kills=options.kills)

    async def run(self, systems: Sequence[System]) -> report.Found:
        with services() as running:
            ground = Ground(running, self._tools)
            if self._options.rounds:
                await self._race(ground, systems)
            if self._options.kills:
                await self._try(ground, systems)
        return self._found

    async def _race(self, ground: Ground, systems: Sequence[System]) -> None:
        options = self._options
        for kind, size, divisor in KINDS:
            rows = options.rows // divisor
            backlog = Backlog(kind, PARTITIONS, options.events // divisor, rows, kind)
            load = Load(
                events=backlog.events, partitions=PARTITIONS, kind=kind, size=size, batch=min(BATCH, options.rows)
            )
            await fill(ground.services.bootstrap, backlog.topic, load)
            for number in range(options.rounds):
                # Each round begins with another one, so that no system always follows the same.
                for system in [*systems[number % len(systems) :], *systems[: number % len(systems)]]:
                    with self._noting(f"race, {kind}", system):
                        raced = await race(system, ground, backlog, options.seconds)
                        self._found.races.append(raced)
                        say(str(raced))
                    ground.services.empty()

    async def _try(self, ground: Ground, systems: Sequence[System]) -> None:
        options = self._options
        for system in systems:
            with self._noting("SIGKILL", system):
                killed = await kill(system, ground, f"kill-{system.key}", options.kills)
                self._found.killed.append(killed)
                say(f"{killed}")
            with self._noting("hard records", system):
                tried = await endure(system, ground, f"hard-{system.key}")
                self._found.tried.append(tried)
                say(f"{system.key}: {tried.outcomes}")
            ground.services.empty()

    @contextlib.contextmanager
    def _noting(self, what: str, system: System) -> Iterator[None]:
        """What fails for one system is in the report and stops nobody else."""
        try:
            yield
        except Failed as reason:
            self._found.failures.append(report.Failure(system=system.key, what=what, reason=str(reason)))
            say(f"{system.key}, {what}: {reason}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
