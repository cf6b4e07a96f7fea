"""The client that asks Amazon SNS: bounds on size and time, no redirects, any failure is one error."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ingestd.collect.hooks import FETCH_MAX_BYTES, fetch
from ingestd.ops import http_client
from ingestd.ops.http_client import HttpFailure
from tests.services.ports import HOST


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        body = b"x" * (FETCH_MAX_BYTES * 2 if self.path == "/large" else 5)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    it = ThreadingHTTPServer((HOST, 0), _Handler)
    it.daemon_threads = True
    it.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=it.serve_forever)
    thread.start()
    yield it
    it.shutdown()
    thread.join()
    it.server_close()


def url(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://{HOST}:{server.server_address[1]}{path}"


async def test_an_answer_with_its_status_and_body(server: ThreadingHTTPServer) -> None:
    target = "/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:1:t&Token=2a"
    answer = await fetch(url(server, target))
    assert (answer.status, answer.body) == (200, b"xxxxx")
    assert server.asked == [target]  # type: ignore[attr-defined]


async def test_a_redirect_is_not_followed(server: ThreadingHTTPServer) -> None:
    assert (await fetch(url(server, "/redirect"))).status == 302
    assert server.asked == ["/redirect"]  # type: ignore[attr-defined]


async def test_a_large_answer_is_cut(server: ThreadingHTTPServer) -> None:
    assert len((await fetch(url(server, "/large"))).body) == FETCH_MAX_BYTES


async def test_no_server_is_a_failure() -> None:
    with pytest.raises(HttpFailure):
        await http_client.get(f"http://{HOST}:9/", timeout_s=5)
