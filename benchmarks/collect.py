"""What a request costs the collector's HTTP edge: CPU time for a pixel, one event, and a batch of 50.

    python -m benchmarks.collect [--requests 20000] [--connections 16] [--rounds 3]

The server runs in this process on uvloop, with a delivery that keeps nothing. The clients are in a process of their
own, so that their CPU time does not count. A round for warming up is not counted either. Writes collect.md and
collect.json into benchmarks/results.
"""

import argparse
import asyncio
import resource
import time
from collections.abc import Sequence
from multiprocessing import get_context

import msgspec
import uvloop

from benchmarks.rig import results
from benchmarks.rig.results import Table, spread
from ingestd.collect import web
from ingestd.collect.messages import Acknowledgement, Collected, Endpoint
from ingestd.collect.native import NativeEndpoint
from ingestd.collect.request import RequestPath
from ingestd.collect.server import CollectServer
from ingestd.collect.web import WebEndpoint
from ingestd.config.model import CollectConfig, CollectSource, EventsConfig
from ingestd.config.types import Rate
from ingestd.core.events import load_model
from ingestd.core.validation import Validator

QUESTION = "What does a request cost the collector's HTTP edge?"
EVENT = (
    b'{"event_id":"0191f4c2-7d1e-7c3a-9a53-3f1d2b7c9e11","client_id":"c-1234567","event_type":"web_visit",'
    b'"event_timestamp":"2026-01-01T00:00:00.000Z","page_url":"https://www.example.com/funds/global?utm_source=mail",'
    b'"session_id":"s-98765","device_type":"phone","campaign_id":"spring","consent":true,"properties":{"title":"Funds"}}'
)
USER_AGENT = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0"
FIELDS = (
    b"Host: e.example.com\r\nUser-Agent: " + USER_AGENT + b"\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en\r\nReferer: https://www.example.com/funds\r\n"
)


def _post(key: bytes, body: bytes) -> bytes:
    head = b"POST /v1/events?key=" + key + b" HTTP/1.1\r\n" + FIELDS + b"Origin: https://www.example.com\r\n"
    return head + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body


CASES = {
    "pixel": b"GET /i?key=web&client_id=c-1234567&event_id=e-1&campaign_id=spring HTTP/1.1\r\n" + FIELDS + b"\r\n",
    "one event": _post(b"api", EVENT),
    "one event of a page": _post(b"web", EVENT),
    "batch of 50": _post(b"api", b"[" + b",".join([EVENT] * 50) + b"]"),
}


class NullDelivery:
    """Counts events and keeps none."""

    def __init__(self) -> None:
        self.events = 0

    @property
    def error(self) -> str | None:
        return None

    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement:
        del source, received_at
        self.events += len(events)
        return "kafka"


class NullObserver:
    """Keeps nothing."""

    def request(self, source: str, status: int, reason: str) -> None: ...
    def events(self, source: str, outcome: str, count: int) -> None: ...
    def delivered(self, seconds: float) -> None: ...


async def _client(port: int, request: bytes, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or b"Ingestd-Ack" not in head:
            raise SystemExit(f"not taken: {head!r}")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()


async def _clients(port: int, request: bytes, count: int, connections: int) -> None:
    await asyncio.gather(*(_client(port, request, count // connections) for _ in range(connections)))


def _send(port: int, request: bytes, count: int, connections: int) -> None:
    uvloop.run(_clients(port, request, count, connections))


class Run(msgspec.Struct):
    """One round of one kind of request."""

    request: str
    cpu_us: float  # a request
    events: int  # of a request
    requests_per_s: float  # with the clients on the same machine


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(requests: int, connections: int, rounds: int) -> list[Run]:
    """So many rounds of so many requests of each kind."""
    rate = Rate(100_000_000)
    sources = {"web": CollectSource(kind="web", rate=rate), "api": CollectSource(kind="native", rate=rate)}
    config = CollectConfig(port=0, sources=sources, origins=("https://www.example.com",))
    validator = Validator(EventsConfig(), load_model(None))
    endpoints: dict[str, Endpoint] = {"web": WebEndpoint(validator), "api": NativeEndpoint(validator)}
    delivery, observer = NullDelivery(), NullObserver()
    server = CollectServer(config, RequestPath(config, endpoints, web.ROUTES, delivery, observer, keys={}), observer)
    port = await server.start()
    runs: list[Run] = []
    for number in range(rounds + 1):  # the first is for warming up
        for name, request in CASES.items():
            count = (requests if number else requests // 10) // connections * connections
            delivery.events = 0
            began, cpu = time.perf_counter(), _cpu_s()
            process = get_context("spawn").Process(target=_send, args=(port, request, count, connections))
            await asyncio.to_thread(process.start)
            await asyncio.to_thread(process.join)
            elapsed, used = time.perf_counter() - began, _cpu_s() - cpu
            if process.exitcode:
                raise SystemExit(f"the clients ended with {process.exitcode}")
            if number:
                runs.append(Run(name, used / count * 1e6, delivery.events // count, count / elapsed))
    await server.stop(1.0)
    return runs


def table(runs: Sequence[Run]) -> Table:
    """A row for each kind of request."""
    rows = []
    for name in CASES:
        own = [it for it in runs if it.request == name]
        cpu = [it.cpu_us for it in own]
        rows.append([name, spread(cpu), spread([it.cpu_us / it.events for it in own])])
    head = ["Request", "CPU µs", "CPU µs/event"]
    note = "HTTP, key, origin, limits, privacy and mapping, without what makes the events safe. CPU is the server's."
    return Table(title="By request", head=head, rows=rows, note=note)


def main() -> None:
    """Measure and write a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    runs = uvloop.run(measure(options.requests, options.connections, options.rounds))
    results.write(
        results.Report(
            name="collect",
            question=QUESTION,
            command="python -m benchmarks.collect",
            settings={
                "Events": f"{len(EVENT)} bytes",
                "Connections": str(options.connections),
                "Rounds": f"{options.rounds} of {options.requests:,} requests of each kind",
                "Beside it, on the same cores": "the clients",
                "Load average of the machine": results.load(),
            },
            tables=[table(runs)],
            runs=runs,
        )
    )


if __name__ == "__main__":
    main()
