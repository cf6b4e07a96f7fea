"""No secret in anything the daemon writes, says or shows, at DEBUG, whatever goes well or wrong."""

import asyncio
import base64
import gzip
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from ingestd.ops.readiness import Status
from tests.conftest import MakeTopic
from tests.e2e.daemon import Daemon, settings, write_credentials
from tests.e2e.events import fill
from tests.e2e.group import caught_up, ends
from tests.e2e.test_tls import PASSWORD, sasl
from tests.services import streams
from tests.services.kafka import SecuredKafka
from tests.services.ports import HOST, free_port
from tests.services.seaweed import REGION, S3Store

DEBUG = {"log.level": "DEBUG", "log.format": "json", "sink.retry_initial": "100ms", "sink.retry_max": "200ms"}
SIMULATED = {"source": "simulator", "simulator.rate": "6000", "batch.interval": "1s", "sink.url": "s3://bucket/prefix"}

# Each with characters that JSON, URLs and shells write in another way.
WRONG_PASSWORD = 'wr0ng-p%ss"w/rd+ä'
KEY_PASSWORD = "k3y-p&ss=w\\rd"
CLIENT_SECRET = "cl1ent/s3cret+x y"
SECRET_KEY = "aWs/S3cret+Key0123456789abcdefghijklmnop"
SESSION_TOKEN = "FwoGZXIvYXdzEJr//////////s3ssion+t0ken=="
PROXY_PASSWORD = "pr0xy-p4ssword"
PROCESS_OUTPUT = "0utput-of-a-cr3dential-process"

# What is derived from a secret: a signature of a request, and the client's proof and the server's signature of SCRAM.
DERIVED = re.compile(r"AWS4-HMAC-SHA256 |Signature=\w|c=biws|\bp=[\w+/]{40,}|\bv=[\w+/]{40,}|Bearer \w|Basic \w")


def forms(secret: str) -> set[str]:
    """A secret as it is, and as it is found in logs, in JSON, in URLs and in headers."""
    found = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {urllib.parse.quote(secret, safe=""), urllib.parse.quote(secret), urllib.parse.quote_plus(secret)}
    plain = secret.encode()
    found |= {base64.b64encode(plain).decode(), base64.urlsafe_b64encode(plain).decode(), plain.hex()}
    # Within another text, as the user and the password of Basic are, base64 has one of three shapes.
    found |= {base64.b64encode(b"x" * shift + plain).decode()[4:-4] for shift in range(3)}
    return found


class Outputs:
    """All that one daemon has shown, by where."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def must_not_have(self, *secrets: str) -> None:
        assert self.texts
        for where, text in self.texts.items():
            assert text, f"{where} is empty: nothing was checked"
            for secret in secrets:
                leaked = [form for form in forms(secret) if form in text]
                assert not leaked, f"{where} has {leaked[0]!r}: {_around(text, leaked[0])}"
            derived = DERIVED.findall(text)
            assert not derived, f"{where} has {derived[0]!r}: {_around(text, derived[0])}"


def _around(text: str, found: str) -> str:
    at = text.index(found)
    return text[max(0, at - 300) : at + 300]


@asynccontextmanager
async def watched(
    name: str, directory: Path, keys: Mapping[str, str], environment: Mapping[str, str]
) -> AsyncIterator[tuple[Daemon, Outputs]]:
    """A daemon that is started, and what it has shown once this ends. It is killed then."""
    (directory / name).mkdir()
    daemon, outputs = Daemon(name, directory / name, {**keys, **DEBUG}, environment), Outputs()
    try:
        daemon.start()
        outputs.texts["command line"] = await command_line(daemon.pid)
        yield daemon, outputs
    finally:
        daemon.kill()
        outputs.texts["log"] = daemon.log_text()


async def command_line(pid: int) -> str:
    """What every user of the machine can read; while the launcher becomes Python there is none."""
    file = Path(f"/proc/{pid}/cmdline")
    while True:
        if text := await asyncio.to_thread(file.read_text):
            return text
        await asyncio.sleep(0.01)


async def look(daemon: Daemon, outputs: Outputs, condition: Callable[[Status], object]) -> None:
    """Keep what the endpoints say when the status meets a condition."""
    await daemon.until(condition)
    for path in ("/status", "/readyz", "/metrics", "/livez"):
        outputs.texts[path] = (await daemon.get(path))[1].decode()


def config_of(daemon: Daemon, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What `ingestd config` prints of the same settings, in both forms."""
    flags = daemon._child._command[daemon._child._command.index("ingestd") + 1 :]
    for form in ([], ["--json"]):
        command = [sys.executable, "-m", "ingestd", "config", *flags, *form]
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            cwd=daemon.log.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        yield f"config {form}", done.stdout + done.stderr


def objects_of(store: S3Store, bucket: str) -> Iterator[tuple[str, str]]:
    with closing(store.client()) as client:
        for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
            kept = client.get_object(Bucket=bucket, Key=found["Key"])
            yield f"object {found['Key']}", gzip.decompress(kept["Body"].read()).decode() + str(kept["Metadata"])


def client_certificate(directory: Path) -> Mapping[str, str]:
    """Settings for a certificate whose key is encrypted with `KEY_PASSWORD`."""
    issued = trustme.CA().issue_cert("client")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    encryption = serialization.BestAvailableEncryption(KEY_PASSWORD.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (directory / "key.pem").write_bytes(pem)
    issued.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    return {"kafka.ssl_cert_file": str(directory / "cert.pem"), "kafka.ssl_key_file": str(directory / "key.pem")}


class Echo:
    """An HTTP server that answers everything with an error which quotes the whole request, as a bad proxy would."""

    def __init__(self, status: int, body: Callable[[str], str]) -> None:
        self.heard: list[str] = []
        self._status = status
        self._body = body
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Echo":
        self._server = await asyncio.start_server(self._serve, HOST, 0, limit=1 << 20)
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heard.append(head)
            body = self._body(head).encode()
            writer.write(
                b"HTTP/1.1 %d Whatever\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (self._status, len(body))
            )
            writer.write(body)
            await writer.drain()
        except asyncio.CancelledError:  # asyncio 3.11 takes a handler that was cancelled for an error
            writer.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await streams.close(writer)
            self._tasks.discard(task)


def refusal(head: str) -> str:
    signed = sorted(line for line in head.splitlines() if re.match("authorization|x-amz-", line, re.IGNORECASE))
    quoted = " ".join(signed).replace("&", "&amp;").replace("<", "&lt;")
    return f"<Error><Code>AccessDenied</Code><Message>no: {quoted}</Message></Error>"


# -- all goes well


async def test_none_where_everything_works(
    kafka_tls: SecuredKafka, s3: S3Store, bucket: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    topic = await make_topic(1)
    written = await fill(kafka_tls.bootstrap, topic, 1, 500)
    (tmp_path / "password").write_text(f"{kafka_tls.password}\n")
    write_credentials(tmp_path / "credentials", s3.access_key, s3.secret_key)
    keys = {
        **settings(kafka_tls.bootstrap, s3, bucket, topic),
        **sasl(kafka_tls),
        **client_certificate(tmp_path),
        "kafka.sasl_password_file": str(tmp_path / "password"),
    }
    environment = {
        "INGESTD__KAFKA__SSL_KEY_PASSWORD": KEY_PASSWORD,
        "INGESTD__KAFKA__OAUTH_CLIENT_SECRET": CLIENT_SECRET,
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_REGION": REGION,
    }
    async with watched("a", tmp_path, keys, environment) as (daemon, outputs):
        await caught_up(kafka_tls.bootstrap, topic, topic, ends(written.records))
        await look(daemon, outputs, lambda status: status.ready)
        assert await daemon.stop() == 0
    outputs.texts.update(config_of(daemon, environment))
    outputs.texts.update(objects_of(s3, bucket))

    assert "<redacted>" in outputs.texts["config []"]
    assert len(outputs.texts) > 8
    outputs.must_not_have(kafka_tls.password, s3.secret_key, KEY_PASSWORD, CLIENT_SECRET)


# -- Kafka refuses


async def test_none_where_kafka_refuses_a_password(kafka_tls: SecuredKafka, tmp_path: Path) -> None:
    keys = {**SIMULATED, **sasl(kafka_tls), "source": "kafka", "sink.url": str(tmp_path / "data")}
    environment = {PASSWORD: WRONG_PASSWORD}
    async with watched("a", tmp_path, keys, environment) as (daemon, outputs):
        assert await daemon.ended() == 1
    outputs.texts.update(config_of(daemon, environment))
    assert "refuses our credentials" in outputs.texts["log"]
    outputs.must_not_have(WRONG_PASSWORD)


async def test_none_where_a_key_has_another_password(kafka_tls: SecuredKafka, tmp_path: Path) -> None:
    keys = {
        **SIMULATED,
        **sasl(kafka_tls),
        **client_certificate(tmp_path),
        "source": "kafka",
        "sink.url": str(tmp_path),
    }
    environment = {PASSWORD: WRONG_PASSWORD, "INGESTD__KAFKA__SSL_KEY_PASSWORD": WRONG_PASSWORD}
    async with watched("a", tmp_path, keys, environment) as (daemon, outputs):
        assert await daemon.ended() == 2
    assert "kafka.ssl_key_file cannot be used" in outputs.texts["log"]
    outputs.must_not_have(WRONG_PASSWORD, KEY_PASSWORD)


def unsigned_token() -> str:
    """A token that the test's broker takes."""
    claims = {"sub": "us", "iat": int(time.time()) - 60, "exp": int(time.time()) + 600}
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims))
    return b".".join(parts).decode() + "."


@pytest.mark.parametrize("case", ["accepted", "refused by the broker", "refused by the server", "failing server"])
async def test_none_of_oauth(kafka_tls: SecuredKafka, make_topic: MakeTopic, tmp_path: Path, case: str) -> None:
    topic = await make_topic(1)
    token = unsigned_token() if case == "accepted" else "n0t.a.t0ken-at-all"
    (tmp_path / "secret").write_text(f"{CLIENT_SECRET}\n")
    status = {"refused by the server": 401, "failing server": 500}.get(case, 200)
    answer = json.dumps({"access_token": token, "expires_in": 60})
    async with Echo(status, (lambda _: answer) if status == 200 else str) as server:
        keys = {
            **SIMULATED, **sasl(kafka_tls),
            "source": "kafka", "kafka.topics": topic, "sink.url": str(tmp_path / "data"),
            "kafka.sasl_mechanism": "OAUTHBEARER", "kafka.oauth_token_url": f"{server.url}/token",
            "kafka.oauth_client_id": "us", "kafka.oauth_client_secret_file": str(tmp_path / "secret"),
        }  # fmt: skip
        async with watched("a", tmp_path, keys, {}) as (daemon, outputs):
            if case == "accepted":
                await look(daemon, outputs, lambda status: status.ready and status.assigned)
            elif case == "failing server":
                await look(daemon, outputs, lambda status: status.source_error)
            else:
                assert await daemon.ended() == 1
        outputs.texts.update(config_of(daemon, {}))
    assert "Authorization: Basic" in server.heard[0]
    outputs.must_not_have(CLIENT_SECRET, token)


# -- the store refuses


async def test_none_where_a_store_refuses_and_quotes_what_it_was_sent(tmp_path: Path) -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIDFORTESTS",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "AWS_REGION": REGION,
    }
    async with Echo(403, refusal) as store:
        keys = {**SIMULATED, "s3.endpoint_url": store.url}
        async with watched("a", tmp_path, keys, environment) as (daemon, outputs):
            await look(daemon, outputs, lambda status: status.sink_forbidden)
        outputs.texts.update(config_of(daemon, environment))
    assert SESSION_TOKEN in store.heard[0]
    signatures = [found[1] for head in store.heard if (found := re.search(r"Signature=(\w+)", head))]
    assert signatures
    assert "AccessDenied" in outputs.texts["/readyz"]
    outputs.must_not_have(SECRET_KEY, SESSION_TOKEN, *signatures)


async def test_none_where_a_real_store_refuses_a_key(s3: S3Store, bucket: str, tmp_path: Path) -> None:
    write_credentials(tmp_path / "credentials", s3.access_key, SECRET_KEY)
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_REGION": REGION}
    keys = {**SIMULATED, "s3.endpoint_url": s3.endpoint, "sink.url": f"s3://{bucket}"}
    async with watched("a", tmp_path, keys, environment) as (daemon, outputs):
        await look(daemon, outputs, lambda status: status.sink_forbidden)
    assert "SignatureDoesNotMatch" in outputs.texts["/readyz"]
    outputs.must_not_have(SECRET_KEY)


async def test_none_of_a_proxy_that_cannot_be_reached(tmp_path: Path) -> None:
    proxy = f"http://us:{PROXY_PASSWORD}@{HOST}:{free_port()}"
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIDFORTESTS", "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION,
        "HTTPS_PROXY": proxy, "https_proxy": proxy, "HTTP_PROXY": proxy, "http_proxy": proxy,
        "NO_PROXY": "", "no_proxy": "",
    }  # fmt: skip
    async with watched("a", tmp_path, {**SIMULATED, "s3.endpoint_url": "https://s3.invalid"}, environment) as (
        daemon,
        outputs,
    ):
        await look(daemon, outputs, lambda status: status.sink_error)
    outputs.must_not_have(SECRET_KEY, PROXY_PASSWORD)


async def test_none_of_what_a_credential_process_prints(tmp_path: Path) -> None:
    """Once where it fails at the start, and once where credentials that it gave before are to be renewed."""
    marker = tmp_path / "ran"
    script = tmp_path / "credentials.sh"
    given = {"Version": 1, "AccessKeyId": "AKIDFORTESTS", "SecretAccessKey": SECRET_KEY, "SessionToken": SESSION_TOKEN}
    given["Expiration"] = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
    script.write_text(
        f"""#!/bin/sh
if [ -e {marker} ]; then echo {PROCESS_OUTPUT}; echo {PROCESS_OUTPUT} >&2; exit 1; fi
touch {marker}
echo '{json.dumps(given)}'
"""
    )
    script.chmod(0o700)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {script}\n")
    environment = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    async with Echo(403, refusal) as store:
        keys = {**SIMULATED, "s3.endpoint_url": store.url}
        async with watched("a", tmp_path, keys, environment) as (daemon, outputs):
            await look(daemon, outputs, lambda status: "no credentials" in (status.sink_error or ""))
    outputs.must_not_have(SECRET_KEY, SESSION_TOKEN, PROCESS_OUTPUT)
