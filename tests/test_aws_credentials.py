"""Malformed sources of AWS credentials: the sink says what is wrong and goes on when it is right."""

import hashlib
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingestd.config.model import S3Config
from ingestd.core.errors import SinkForbidden
from ingestd.core.stored import Stored
from ingestd.sinks.s3 import S3Sink
from tests.scripted_s3 import ScriptedServer, answer, stored

KEY, BODY, METADATA = "events/1.jsonl.gz", b"body", {"topic": "t"}


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None but what a test gives."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@asynccontextmanager
async def sink_at(endpoint: str | None) -> AsyncIterator[S3Sink]:
    """A sink for a server, closed at the end."""
    sink = S3Sink("s3://b", S3Config(endpoint_url=endpoint, region="r", addressing="path"), connections=4)
    try:
        yield sink
    finally:
        await sink.close()


@pytest.mark.parametrize(
    ("printed", "where"),
    [
        ("AKIDSECRET", "AioProcessProvider"),
        ("[5]", "AioProcessProvider"),
        ('{"Version": 1, "AccessKeyId": 5, "SecretAccessKey": "S"}', "access_key is not plain text"),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": null}', "secret_key is not plain text"),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": "AKIDSECRET"}', "ParserError"),
        ('{"Version": 1, "AccessKeyId": "AKIDSECRET\\n", "SecretAccessKey": "S"}', "access_key is not"),
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "x\\r\\ny"}', "token is not"),
    ],
)
async def test_what_a_source_of_credentials_garbles_is_forbidden_until_it_does_not(
    tmp_path: Path, printed: str, where: str
) -> None:
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'printed'}\n")
    async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
        (tmp_path / "printed").write_text(printed)
        with pytest.raises(SinkForbidden, match="AWS credentials") as failure:
            await sink.put_new(KEY, BODY, METADATA)
        assert where in str(failure.value)
        assert "AKIDSECRET" not in "".join(traceback.format_exception(failure.value))
        (tmp_path / "printed").write_text('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S"}')
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED


async def test_garbage_at_a_renewal_is_forbidden_until_it_ends(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'printed'}\n")
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()  # botocore renews in the last ten
    good = f'{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": "{soon}"}}'
    (tmp_path / "printed").write_text(good)
    async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
        (tmp_path / "printed").write_text("garbage")
        with pytest.raises(SinkForbidden, match="JSONDecodeError in AioProcessProvider"):
            await sink.put_new(KEY, BODY, METADATA)
        (tmp_path / "printed").write_text(good)
        assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED


async def test_garbage_of_a_container_s_endpoint_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "tomorrow"}'
    async with ScriptedServer(answer(200, body)) as endpoint, sink_at("http://127.0.0.1:1") as sink:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")
        with pytest.raises(SinkForbidden, match="ParserError in AioContainerProvider"):
            await sink.put_new(KEY, BODY, METADATA)


async def test_a_token_with_a_newline_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("first\nsecond")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/role")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    async with sink_at("http://127.0.0.1:1") as sink:
        with pytest.raises(SinkForbidden, match="ContainerProvider"):
            await sink.put_new(KEY, BODY, METADATA)


async def test_a_directory_for_a_token_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ingestd")
    async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
        with pytest.raises(SinkForbidden, match="AWS_WEB_IDENTITY_TOKEN_FILE"):
            await sink.put_new(KEY, BODY, METADATA)


async def test_a_garbled_cache_of_sso_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr("botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    (cache / f"{hashlib.sha1(b'here', usedforsecurity=False).hexdigest()}.json").write_text(
        '{"accessToken": "T", "expiresAt": "garbage"}'
    )
    lines = ["[default]", "sso_session = here", "sso_account_id = 1", "sso_role_name = r"]
    lines += ["[sso-session here]", "sso_region = eu-west-1", "sso_start_url = https://127.0.0.1:1/start"]
    (tmp_path / "config").write_text("\n".join(lines))
    async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
        with pytest.raises(SinkForbidden, match="ParserError"):
            await sink.put_new(KEY, BODY, METADATA)
        assert server.requests == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_METADATA_SERVICE_TIMEOUT", "abc"), ("AWS_ENDPOINT_URL_S3", "nonsense")],
)
async def test_a_malformed_variable_is_forbidden(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    async with sink_at(None) as sink:
        with pytest.raises(SinkForbidden, match=r"ValueError|AWS_"):
            await sink.start()
