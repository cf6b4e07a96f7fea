"""What does a collector cost, when 200 means safe? CPU for a request, latency at a rate, memory under slow clients.

    python -m benchmarks.collect [--requests 10000] [--connections 64] [--rounds 3] [--slow 10000]

Our collector in front of Kafka, our collector with its journal, and Bento in front of Kafka take the same requests in
turn, in the same run. Each is a process of its own, whose CPU time is measured; the broker's and the senders' is not.
Bento is left out where it cannot be built (Go). Writes collect.md and collect.json into benchmarks/results.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from benchmarks.collect import clients
from benchmarks.collect.requests import ONE, UNENDED, Request
from benchmarks.collect.servers import BENTO, KAFKA, KINDS, Kind, Server
from benchmarks.peers.install import Missing, Tools
from benchmarks.rig import results
from benchmarks.rig.results import Table, median, spread
from benchmarks.rig.services import Services, create, services

QUESTION = "What does a collector cost, when 200 means safe?"
TOPIC, PARTITIONS = "collected", 6
RATE, RATE_S = 1000.0, 10.0
SLOW_RATE, SLOW_S = 200.0, 3.0  # beside the slow clients: less than the deadline of a request's headers
WARM_UP = 0.1  # of the requests, before each measurement


class Cost(msgspec.Struct):
    """One round of one kind of request."""

    server: str
    request: str
    events: int  # of a request
    requests_per_s: float
    cpu_us: float  # a request


class Latency(msgspec.Struct):
    """One round of single events at a rate."""

    server: str
    p50_ms: float
    p99_ms: float
    most_ms: float


class Slow(msgspec.Struct):
    """One round of slow clients."""

    server: str
    before_mib: float
    during_mib: float
    p99_ms: float  # of others meanwhile


class Runs(msgspec.Struct):
    """All of them."""

    costs: list[Cost] = []
    latencies: list[Latency] = []
    slow: list[Slow] = []


async def cost(server: Server, request: Request, count: int, connections: int) -> Cost:
    """CPU time and throughput of so many requests."""
    await clients.at_once(server.port, request.text, int(count * WARM_UP), connections)
    cpu = server.usage.cpu_s
    elapsed = await clients.at_once(server.port, request.text, count, connections)
    used = server.usage.cpu_s - cpu
    sent = count // connections * connections
    return Cost(server.kind.name, request.name, request.events, sent / elapsed, used / sent * 1e6)


async def latency(server: Server, connections: int) -> Latency:
    """Of single events at a rate."""
    found = await clients.at_rate(server.port, ONE.text, RATE, RATE_S, connections)
    return Latency(server.kind.name, *found)


async def slow(server: Server, count: int) -> Slow:
    """Memory under so many clients whose request does not end, and how long others wait meanwhile."""
    before = _resident_mib(server.pid)
    async with clients.held(server.port, UNENDED, count):
        during = _resident_mib(server.pid)
        found = await clients.at_rate(server.port, ONE.text, SLOW_RATE, SLOW_S, connections=16)
    return Slow(server.kind.name, before, during, found.p99)


def _resident_mib(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found, "a process has memory"
    return int(found[1]) / 1024


async def measure(parts: Services, kinds: Sequence[Kind], options: argparse.Namespace) -> Runs:
    """Each round has all servers in turn."""
    await create(parts.bootstrap, TOPIC, PARTITIONS)
    runs = Runs()
    for _ in range(options.rounds):
        for kind in kinds:
            with tempfile.TemporaryDirectory(dir=options.folder) as name:
                server = Server(kind, parts, TOPIC, Path(name) / "server")
                server.begin()
                try:
                    for request in kind.requests:
                        count = max(options.connections, options.requests // (1 if request.events == 1 else 5))
                        runs.costs.append(await cost(server, request, count, options.connections))
                    runs.latencies.append(await latency(server, options.connections))
                    runs.slow.append(await slow(server, options.slow))
                finally:
                    server.kill()
                    server.log.unlink()
    return runs


def cost_table(runs: Runs) -> Table:
    """A row for each kind of request and each server."""
    rows = []
    for request in dict.fromkeys(it.request for it in runs.costs):
        for kind in KINDS:
            own = [it for it in runs.costs if (it.request, it.server) == (request, kind.name)]
            if own:
                cpu = [it.cpu_us / it.events for it in own]
                rate = [it.requests_per_s * it.events for it in own]
                rows.append([request, kind.name, kind.safe, spread(cpu), spread(rate, 0)])
    head = ["Request", "Server", "Safe by", "CPU µs/event", "Events/s"]
    note = "The broker and the senders are on the same cores, so that events per second are those of all together."
    return Table(title="By request", head=head, rows=rows, note=note)


def latency_table(runs: Runs) -> Table:
    """A row for each server."""
    rows = []
    for kind in KINDS:
        if own := [it for it in runs.latencies if it.server == kind.name]:
            columns = ([it.p50_ms for it in own], [it.p99_ms for it in own], [it.most_ms for it in own])
            rows.append([kind.name, kind.safe, *map(spread, columns)])
    head = ["Server", "Safe by", "Median ms", "p99 ms", "Longest ms"]
    note = "From the moment when a request was due to its answer: one that waits for a connection is late, too."
    return Table(title=f"Latency at {RATE:,.0f} requests a second, one event each", head=head, rows=rows, note=note)


def slow_table(runs: Runs, count: int) -> Table:
    """A row for each server."""
    rows = []
    for kind in KINDS:
        if own := [it for it in runs.slow if it.server == kind.name]:
            before, during = [it.before_mib for it in own], [it.during_mib for it in own]
            each = [(it.during_mib - it.before_mib) * 1024 / count for it in own]
            rows.append([kind.name, *map(spread, (before, during, each, [it.p99_ms for it in own]))])
    head = ["Server", "MiB before", "MiB with them", "KiB a connection", f"p99 ms of {SLOW_RATE:.0f} others a second"]
    note = "Clients that have sent half of a request's headers. Ours are closed 10 seconds later."
    return Table(title=f"Memory under {count:,} slow connections", head=head, rows=rows, note=note)


def ratio(runs: Runs) -> str:
    """Our CPU time for an event in front of Kafka, over Bento's."""
    found = []
    for request in (it.name for it in BENTO.requests):
        ours, theirs = (
            median([it.cpu_us for it in runs.costs if (it.request, it.server) == (request, kind.name)])
            for kind in (KAFKA, BENTO)
        )
        found.append(f"{request}: {ours / theirs:.2f}")
    return ", ".join(found)


def main() -> None:
    """Measure and write a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".cache"), help="on the disk that journals are to be on")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow", type=int, default=10_000)
    options = parser.parse_args()
    kinds = list(KINDS)
    try:
        Tools().bento()
    except Missing as why:
        print(f"without Bento: {why}")
        kinds.remove(BENTO)
    with services() as parts:
        runs = uvloop.run(measure(parts, kinds, options))
    settings = {
        "Connections": str(options.connections),
        "Rounds": f"{options.rounds} of {options.requests:,} requests of each kind, a fifth of it for batches",
        "CPU of ours over Bento's, in front of Kafka": ratio(runs) if BENTO in kinds else "-",
        "Beside it, on the same cores": "the broker, the senders",
        "Load average of the machine": results.load(),
    }
    results.write(
        results.Report(
            name="collect",
            question=QUESTION,
            command="python -m benchmarks.collect",
            settings=settings,
            tables=[cost_table(runs), latency_table(runs), slow_table(runs, options.slow)],
            runs=runs,
        )
    )


if __name__ == "__main__":
    main()
