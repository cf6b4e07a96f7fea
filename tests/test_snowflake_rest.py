"""Key-pair tokens, and the endpoint that files are named to."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ingestd.config.model import SnowflakeConfig
from ingestd.config.secrets import REDACTION
from ingestd.config.types import Secret
from ingestd.core.errors import ConfigError, SnowflakeRefused, SnowflakeUnavailable
from ingestd.ops import http_client
from ingestd.snowflake.rest import PipeEndpoint
from ingestd.snowflake.token import LIFETIME, subject, token
from tests.services.ports import HOST

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOW = datetime.now(UTC).replace(microsecond=0)


def pem(key: Any = KEY, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    found: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> SnowflakeConfig:
    file = tmp_path / "key.pem"
    file.write_bytes(pem())
    return SnowflakeConfig(
        account="myorg-acc.eu", user="Me", private_key_file=str(file), database="db", delivery="rest"
    )


def with_(settings: SnowflakeConfig, **changes: Any) -> SnowflakeConfig:
    return SnowflakeConfig(**{**{name: getattr(settings, name) for name in settings.__struct_fields__}, **changes})


def test_a_token_is_signed_by_the_key_and_names_its_fingerprint(settings: SnowflakeConfig) -> None:
    public = KEY.public_key()
    claims = jwt.decode(token(settings, NOW), public, algorithms=["RS256"])
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
    assert claims["sub"] == "MYORG-ACC.ME"
    assert claims["iss"] == f"MYORG-ACC.ME.SHA256:{fingerprint}"
    assert claims["exp"] - claims["iat"] == LIFETIME.total_seconds() <= 3600


@pytest.mark.parametrize(("account", "name"), [("org-acc", "ORG-ACC.ME"), ("xy12345.eu-central-1.aws", "XY12345.ME")])
def test_a_locator_is_named_without_its_region(settings: SnowflakeConfig, account: str, name: str) -> None:
    assert subject(with_(settings, account=account)) == name


def test_an_encrypted_key_needs_its_passphrase(settings: SnowflakeConfig, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem(passphrase=b"open sesame"))
    with pytest.raises(ConfigError, match="INGESTD__SNOWFLAKE__PRIVATE_KEY_PASSPHRASE"):
        token(settings, NOW)
    with pytest.raises(ConfigError, match="no RSA key"):
        token(with_(settings, private_key_passphrase=Secret("wrong")), NOW)
    assert token(with_(settings, private_key_passphrase=Secret("open sesame")), NOW)


@pytest.mark.parametrize("content", [b"", b"hello", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_a_file_without_an_rsa_key_is_said_and_never_shown(
    settings: SnowflakeConfig, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"key\.pem has no RSA key") as caught:
        token(settings, NOW)
    assert caught.value.__cause__ is None


def test_a_key_that_is_not_there_is_said(settings: SnowflakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"private_key_file = /nowhere cannot be read"):
        token(with_(settings, private_key_file="/nowhere"), NOW)


def test_a_token_is_never_shown(settings: SnowflakeConfig) -> None:
    made = token(settings, NOW)
    assert made not in REDACTION.clean(f"Bearer {made}")


# -- the endpoint


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: Any


class Server:
    """Answers each request with the next of `answers`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[tuple[int, bytes]] = []
        self.delay_s = 0.0  # before each answer
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append(Request(self.path, dict(self.headers), json.loads(body)))
                time.sleep(server.delay_s)
                status, answer = server.answers.pop(0) if server.answers else (200, b'{"responseCode":"SUCCESS"}')
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"http://{server.host}/elsewhere")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self) -> None:
                server.requests.append(Request(self.path, dict(self.headers), None))
                self.send_error(500)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer((HOST, 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"{HOST}:{self.http.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def endpoint(server: Server, settings: SnowflakeConfig) -> PipeEndpoint:
    return PipeEndpoint(with_(settings, host=server.host, protocol="http"))


async def test_files_are_named_as_snowflake_documents_it(server: Server, endpoint: PipeEndpoint) -> None:
    await endpoint.submit(["year=2026/a.jsonl.gz", "year=2026/b.jsonl.gz"])

    [request] = server.requests
    path, _, query = request.path.partition("?")
    assert path == "/v1/data/pipes/DB.EVENTS.MARKETING_EVENTS_PIPE/insertFiles"
    assert query.startswith("requestId=")
    assert request.body == {"files": [{"path": "year=2026/a.jsonl.gz"}, {"path": "year=2026/b.jsonl.gz"}]}
    assert request.headers["X-Snowflake-Authorization-Token-Type"] == "KEYPAIR_JWT"
    assert jwt.decode(request.headers["Authorization"].removeprefix("Bearer "), KEY.public_key(), algorithms=["RS256"])


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_says_what_to_do(server: Server, endpoint: PipeEndpoint, status: int) -> None:
    server.answers = [(status, b'{"code": "390404", "message": "no such\\n pipe"}')]
    with pytest.raises(SnowflakeRefused, match=rf"HTTP {status}: no such pipe \[390404\] \(") as caught:
        await endpoint.submit(["a"])
    assert caught.value.code == "390404"


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, b""), (500, b"<html>"), (503, b"[]"), (302, b""), (200, b"<html>Please log in</html>"), (200, b"{}")],
)
async def test_any_other_answer_means_to_try_again(
    server: Server, endpoint: PipeEndpoint, status: int, body: bytes
) -> None:
    server.answers = [(status, body)]
    with pytest.raises(SnowflakeUnavailable):
        await endpoint.submit(["a"])
    await endpoint.submit(["a"])
    assert len(server.requests) == 2


async def test_an_answer_may_take_longer_than_other_servers_are_given(
    server: Server, endpoint: PipeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = http_client.post.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "step_timeout_s", 0.05)
    server.delay_s = 0.3
    await endpoint.submit(["a"])
    assert len(server.requests) == 1


async def test_a_redirect_does_not_take_the_token_elsewhere(server: Server, endpoint: PipeEndpoint) -> None:
    server.answers = [(302, b"")]
    with pytest.raises(SnowflakeUnavailable, match="HTTP 302"):
        await endpoint.submit(["a"])
    assert len(server.requests) == 1


async def test_no_server_means_to_try_again(settings: SnowflakeConfig) -> None:
    with pytest.raises(SnowflakeUnavailable, match="cannot reach the pipe"):
        await PipeEndpoint(with_(settings, host="127.0.0.1:9", protocol="http")).submit(["a"])


async def test_a_token_is_kept_until_shortly_before_its_end_or_until_it_is_refused(
    server: Server, settings: SnowflakeConfig
) -> None:
    now = [0.0]
    endpoint = PipeEndpoint(with_(settings, host=server.host, protocol="http"), lambda: now[0])

    async def used() -> str:
        await endpoint.submit(["a"])
        return server.requests[-1].headers["Authorization"]

    first = await used()
    now[0] = LIFETIME.total_seconds() * 0.7
    assert await used() == first
    assert endpoint._renew_at < LIFETIME.total_seconds()
    server.answers = [(401, b"{}")]
    with pytest.raises(SnowflakeRefused):
        await used()
    assert endpoint._renew_at == 0.0


async def test_a_key_that_was_replaced_is_used_for_the_next_token(
    server: Server, settings: SnowflakeConfig, tmp_path: Path
) -> None:
    now = [0.0]
    endpoint = PipeEndpoint(with_(settings, host=server.host, protocol="http"), lambda: now[0])
    await endpoint.submit(["a"])
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "key.pem").write_bytes(pem(other))
    now[0] = timedelta(hours=1).total_seconds()

    await endpoint.submit(["a"])

    sent = server.requests[-1].headers["Authorization"].removeprefix("Bearer ")
    assert jwt.decode(sent, other.public_key(), algorithms=["RS256"])


def test_an_underscore_of_the_account_is_a_hyphen_in_its_host() -> None:
    endpoint = PipeEndpoint(SnowflakeConfig(account="my_org-my_account", database="a_b"))
    assert endpoint._url.startswith("https://my-org-my-account.snowflakecomputing.com/v1/data/pipes/A_B.")
