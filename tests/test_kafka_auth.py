"""Tokens for OAUTHBEARER, from a fake token server."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from ingestd.core.errors import ConfigError
from ingestd.sources.kafka.auth import TokenProvider
from tests.services.ports import HOST, free_port


class TokenServer(ThreadingHTTPServer):
    """Gives tokens t1, t2, …, or `status`."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Mapping[str, list[str]]]] = []
        self.status = 200
        self.expires_in: object = 3600
        super().__init__(("127.0.0.1", 0), _TokenHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.seen.append((self.headers["Authorization"], form))
        self.send_response(self.server.status)
        self.send_header("Location", self.server.url)
        body = json.dumps(
            {"access_token": f"token-{len(self.server.seen)}", "expires_in": self.server.expires_in}
        ).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    with TokenServer() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def provider(server: TokenServer, secret: Callable[[], str] = lambda: "se:cret") -> TokenProvider:
    return TokenProvider(server.url, "cli ent", secret, "kafka")


async def test_a_token_is_asked_for_once_while_it_is_good(token_server: TokenServer) -> None:
    tokens = provider(token_server)
    assert {*await asyncio.gather(tokens.token(), tokens.token())} == {"token-1"}
    assert await tokens.token() == "token-1"
    ((authorization, form),) = token_server.seen
    assert base64.b64decode(authorization.removeprefix("Basic ")) == b"cli%20ent:se%3Acret"
    assert form == {"grant_type": ["client_credentials"], "scope": ["kafka"]}


async def test_a_token_is_renewed_before_its_end(token_server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ingestd.sources.kafka.auth.time.monotonic", lambda: now[0])
    tokens = provider(token_server)
    for moment, expected in ((0.0, "token-1"), (2879.0, "token-1"), (2881.0, "token-2")):
        now[0] = moment
        assert await tokens.token() == expected


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationFailedError), (503, KafkaConnectionError)])
async def test_a_token_server_that_fails_is_told_from_one_that_refuses(
    token_server: TokenServer, status: int, error: type[Exception]
) -> None:
    token_server.status = status
    with pytest.raises(error, match=f"HTTP {status}") as caught:
        await provider(token_server).token()
    assert "se:cret" not in str(caught.value)


async def test_the_secret_does_not_follow_a_redirect(token_server: TokenServer) -> None:
    token_server.status = 302
    with pytest.raises(KafkaConnectionError, match="HTTP 302"):
        await provider(token_server).token()
    assert len(token_server.seen) == 1


async def test_an_answer_without_a_token_does_not_show_itself(token_server: TokenServer) -> None:
    token_server.expires_in = {"no": "number"}
    with pytest.raises(KafkaConnectionError) as caught:
        await provider(token_server).token()
    assert "token-1" not in str(caught.value)


async def test_a_secret_that_went_missing_is_an_error_that_aiokafka_knows(token_server: TokenServer) -> None:
    def missing() -> str:
        raise ConfigError("kafka.oauth_client_secret_file = /gone cannot be read")

    with pytest.raises(AuthenticationFailedError, match="/gone"):
        await provider(token_server, missing).token()


async def test_a_server_that_is_not_there_is_an_error_that_aiokafka_retries() -> None:
    tokens = TokenProvider(f"http://{HOST}:{free_port()}/token", "client", lambda: "secret", None)
    with pytest.raises(KafkaConnectionError, match="cannot be reached: "):
        await tokens.token()


async def test_an_answer_that_is_too_long_is_cut_and_refused(token_server: TokenServer) -> None:
    token_server.expires_in = "9" * (2 << 20)
    with pytest.raises(KafkaConnectionError, match="no JSON object with an access_token"):
        await provider(token_server).token()


@pytest.mark.parametrize("no_proxy", ["", "elsewhere.invalid"])
async def test_the_proxy_of_the_environment_is_used(
    token_server: TokenServer, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", token_server.url.removeprefix("http://").removesuffix("/token"))
    monkeypatch.setenv("no_proxy", no_proxy)
    assert await TokenProvider("http://elsewhere.example/token", "client", lambda: "secret", None).token() == "token-1"
    hidden = TokenProvider("http://elsewhere.invalid/token", "client", lambda: "secret", None)
    if no_proxy:
        with pytest.raises(KafkaConnectionError, match="cannot be reached"):
            await hidden.token()
    else:
        assert await hidden.token() == "token-2"


async def test_a_password_in_netrc_does_not_replace_the_secret(
    token_server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert await provider(token_server).token() == "token-1"
    assert base64.b64decode(token_server.seen[0][0].removeprefix("Basic ")) == b"cli%20ent:se%3Acret"
