"""What a request costs the collector's HTTP edge: CPU time for a pixel, one event, and a batch of 50.

    python -m benchmarks.collect [--requests 20000] [--connections 16]

The server runs in this process on uvloop, with a delivery that keeps nothing. The clients are in a process of their
own, so that their CPU time does not count. A round for warming up is not counted either.
"""

import argparse
import asyncio
import resource
import sys
from collections.abc import Sequence
from multiprocessing import get_context

import uvloop

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


async def _measure(requests: int, connections: int) -> None:
    rate = Rate(100_000_000)
    sources = {"web": CollectSource(kind="web", rate=rate), "api": CollectSource(kind="native", rate=rate)}
    config = CollectConfig(port=0, sources=sources, origins=("https://www.example.com",))
    validator = Validator(EventsConfig(), load_model(None))
    endpoints: dict[str, Endpoint] = {"web": WebEndpoint(validator), "api": NativeEndpoint(validator)}
    delivery = NullDelivery()
    observer = NullObserver()
    path = RequestPath(config, endpoints, web.ROUTES, delivery, observer, keys={})
    server = CollectServer(config, path, observer)
    port = await server.start()
    context = get_context("spawn")
    print("| request | CPU, us | events |\n|---|---|---|")
    for name, request in CASES.items():
        for count in (requests // 10, requests):
            delivery.events = 0
            began = resource.getrusage(resource.RUSAGE_SELF)
            process = context.Process(target=_send, args=(port, request, count, connections))
            await asyncio.to_thread(process.start)
            await asyncio.to_thread(process.join)
            ended = resource.getrusage(resource.RUSAGE_SELF)
            if process.exitcode:
                raise SystemExit(f"the clients ended with {process.exitcode}")
        seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
        print(f"| {name} | {seconds / (count // connections * connections) * 1e6:.0f} | {delivery.events} |")
    await server.stop(1.0)


def main(arguments: Sequence[str]) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args(arguments)
    uvloop.run(_measure(options.requests, options.connections))


if __name__ == "__main__":
    main(sys.argv[1:])
