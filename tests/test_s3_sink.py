"""What S3Sink says on the wire, and what it makes of answers, of silence and of missing credentials."""

import asyncio
import base64
import gzip
import hashlib
import re
import ssl
import traceback
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from ingestd.config.model import S3Config
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError, SinkForbidden, SinkUnavailable
from ingestd.core.gzip import compress
from ingestd.core.stored import Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.s3 import S3Sink
from tests.scripted_s3 import Request, ScriptedServer, answer, broken_off, refusal, stored
from tests.services.seaweed import REGION, S3Store, SeaweedFS

KEY = "events/year=2026/t+00000+00000000000000000000.jsonl.gz"
BODY = compress(b'{"event_id":"1"}\n').data
METADATA = {"topic": "t", "end": "17"}


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None but what a test gives."""
    for name in (
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "REGION",
        "DEFAULT_REGION",
        "SESSION_TOKEN",
        "PROFILE",
        "WEB_IDENTITY_TOKEN_FILE",
        "CA_BUNDLE",
    ):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDFORTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show")


@pytest.fixture
def store_credentials(s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)


@asynccontextmanager
async def sink_at(
    endpoint: str | None, bucket: str = "bucket", *, conditional: bool = True, **options: Any
) -> AsyncIterator[Sink]:
    """A started sink for a server, closed at the end."""
    settings = S3Config(**{"endpoint_url": endpoint, "region": REGION, "addressing": "path", **options})
    sink = S3Sink(f"s3://{bucket}/some/prefix", settings, connections=4, conditional=conditional)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.close()


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_one_to_another_host_is_not_followed(self, credentials: None, status: int) -> None:
        async with ScriptedServer(refusal(403, "AccessDenied")) as other:
            redirect = answer(status, headers={"location": f"{other.url}/login"})
            async with ScriptedServer(redirect) as server, sink_at(server.url) as sink:
                with pytest.raises(SinkForbidden) as caught:
                    await sink.put_new(KEY, BODY, METADATA)
                assert [put.method for put in server.requests].count("PUT") == 1
                assert len(server.requests) <= 2  # the PUT, and botocore's question for the region
            assert other.requests == []
        assert caught.value.code == str(status)
        assert "not followed" in caught.value.hint

    async def test_the_region_in_one_is_used(self, credentials: None) -> None:
        moved = answer(307, headers={"x-amz-bucket-region": "eu-west-3"})
        async with ScriptedServer(moved, stored()) as server, sink_at(server.url) as sink:
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
            assert "/eu-west-3/s3/" in server.requests[-1].headers["authorization"]


class TestOnTheWire:
    def check(self, put: Request, body: bytes) -> None:
        headers = put.headers
        assert (put.method, put.path) == ("PUT", f"/bucket/some/prefix/{KEY.replace('=', '%3D').replace('+', '%2B')}")
        assert put.body == body
        assert headers["if-none-match"] == "*"
        assert headers["content-type"] == "application/gzip"
        assert headers["content-length"] == str(len(body))
        assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        assert base64.b64decode(headers["x-amz-checksum-crc32"]) == zlib.crc32(body).to_bytes(4, "big")
        assert {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")} == {
            "x-amz-meta-topic": "t",
            "x-amz-meta-end": "17",
        }
        signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        assert {"if-none-match", "x-amz-checksum-crc32", "x-amz-content-sha256", "x-amz-meta-end"} <= set(signed)
        assert not {"transfer-encoding", "content-encoding", "x-amz-trailer", "x-amz-decoded-content-length"} & set(
            headers
        )
        assert "AKIDFORTESTS" in headers["authorization"]

    async def test_a_put_is_one_plain_signed_request(self, credentials: None) -> None:
        async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
            [put] = server.requests
            self.check(put, BODY)
            assert not [name for name in put.headers if name.startswith("x-amz-server-side")]

    async def test_a_put_over_tls_is_as_plain(
        self, credentials: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        large = gzip.compress(bytes(range(256)) * 20_000, 0)
        async with ScriptedServer(stored(), tls=context) as server:
            async with sink_at(server.url) as sink:
                with pytest.raises(SinkForbidden, match="AWS_CA_BUNDLE"):
                    await sink.put_new(KEY, large, METADATA)
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
            async with sink_at(server.url) as sink:
                assert await sink.put_new(KEY, large, METADATA) is Stored.CREATED
            [put] = server.requests
            self.check(put, large)

    @pytest.mark.parametrize(
        ("given", "region"),
        [
            ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
            ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
            ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
            ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ],
    )
    async def test_requests_are_signed_for_the_region_of_either_variable(
        self, credentials: None, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], region: str
    ) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        async with ScriptedServer(stored()) as server, sink_at(server.url, region=None) as sink:
            await sink.put_new("a.gz", b"", {})
        assert f"/{region}/s3/aws4_request" in server.requests[0].headers["authorization"]

    @pytest.mark.parametrize(
        ("options", "algorithm", "key"),
        [
            ({"encryption": "AES256"}, "AES256", None),
            ({"encryption": "aws:kms"}, "aws:kms", None),
            ({"encryption": "aws:kms", "kms_key_id": "alias/events"}, "aws:kms", "alias/events"),
        ],
    )
    async def test_encryption_is_asked_for_as_configured(
        self, credentials: None, options: dict[str, Any], algorithm: str, key: str | None
    ) -> None:
        async with ScriptedServer(stored()) as server, sink_at(server.url, **options) as sink:
            await sink.put_new(KEY, BODY, METADATA)
            [put] = server.requests
        assert put.headers["x-amz-server-side-encryption"] == algorithm
        assert put.headers.get("x-amz-server-side-encryption-aws-kms-key-id") == key

    async def test_an_unconditional_sink_sends_no_condition(self, credentials: None) -> None:
        async with ScriptedServer(stored()) as server, sink_at(server.url, conditional=False) as sink:
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
            [put] = server.requests
            assert "if-none-match" not in put.headers

    async def test_reads_every_page_of_a_listing(self, credentials: None) -> None:
        def page(key: str, rest: str) -> bytes:
            return answer(
                200,
                f"<ListBucketResult><IsTruncated>{rest}<Contents><Key>some/prefix/{key}</Key></Contents>"
                f"<CommonPrefixes><Prefix>some/prefix/{key}/</Prefix></CommonPrefixes></ListBucketResult>",
            )

        more = "true</IsTruncated><NextContinuationToken>next</NextContinuationToken>"
        async with (
            ScriptedServer(page("a", more), page("b", "false</IsTruncated>")) as server,
            sink_at(server.url) as sink,
        ):
            assert [key async for key in sink.list("")] == ["a", "b"]
            assert "continuation-token=next" in server.requests[1].path
        async with (
            ScriptedServer(page("a", more), page("b", "false</IsTruncated>")) as server,
            sink_at(server.url) as sink,
        ):
            assert await sink.folders("") == ["a/", "b/"]
            assert "delimiter=%2F" in server.requests[1].path


class TestAnswers:
    async def test_412_is_exists_and_409_is_left_to_the_caller(self, credentials: None) -> None:
        answers = [refusal(409, "ConditionalRequestConflict"), refusal(412, "PreconditionFailed")]
        async with ScriptedServer(*answers) as server, sink_at(server.url) as sink:
            with pytest.raises(SinkUnavailable) as failure:
                await sink.put_new(KEY, BODY, METADATA)
            assert failure.value.code == "ConditionalRequestConflict"
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.EXISTS
            assert len(server.requests) == 2

    async def test_304_is_exists_too(self, credentials: None) -> None:
        async with ScriptedServer(answer(304)) as server, sink_at(server.url) as sink:
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.EXISTS

    async def test_412_to_an_unconditional_put_is_no_success(self, credentials: None) -> None:
        async with (
            ScriptedServer(refusal(412, "PreconditionFailed")) as server,
            sink_at(server.url, conditional=False) as sink,
        ):
            with pytest.raises(SinkForbidden):
                await sink.put_new(KEY, BODY, METADATA)

    async def test_head_knows_a_free_name_from_a_missing_right(self, credentials: None) -> None:
        async with ScriptedServer(answer(404), answer(403), answer(400)) as server, sink_at(server.url) as sink:
            assert await sink.head(KEY) is None
            with pytest.raises(SinkForbidden, match="s3:ListBucket"):
                await sink.head(KEY)
            with pytest.raises(SinkForbidden, match=r"s3\.region"):
                await sink.head(KEY)

    async def test_metadata_is_lower_case_whatever_a_middleman_made_of_it(self, credentials: None) -> None:
        found = answer(200, headers={"X-Amz-Meta-First-Offset": "7"})
        async with ScriptedServer(found) as server, sink_at(server.url) as sink:
            info = await sink.head(KEY)
        assert info is not None
        assert dict(info.metadata) == {"first-offset": "7"}

    @pytest.mark.parametrize(
        "cut",
        [
            broken_off(200, "half a body"),
            broken_off(404, "<Error>"),
            answer(200, "body", {"x-amz-checksum-crc32": "AAAAAA=="}),
            refusal(404, "NoSuchKey"),
        ],
        ids=["body", "error", "checksum", "missing"],
    )
    async def test_a_get_that_gives_no_whole_body_is_unavailable(self, credentials: None, cut: bytes) -> None:
        async with ScriptedServer(cut) as server, sink_at(server.url) as sink:
            with pytest.raises(SinkUnavailable, match="cannot read s3://bucket/some/prefix/events"):
                await sink.get(KEY)

    async def test_silence_ends_at_the_deadline(self, credentials: None) -> None:
        async with ScriptedServer(None) as server, sink_at(server.url, put_timeout=Seconds(2)) as sink:
            with pytest.raises(SinkUnavailable) as failure:
                await sink.put_new(KEY, BODY, METADATA)
        assert failure.value.code == "Timeout"

    async def test_a_broken_connection_is_unavailable(self, credentials: None) -> None:
        async with ScriptedServer(b"") as server, sink_at(server.url, put_timeout=Seconds(5)) as sink:
            with pytest.raises(SinkUnavailable):
                await sink.put_new(KEY, BODY, METADATA)

    @pytest.mark.parametrize("body", ["", "<html><p>Please log in", "<html><p>Please log in</p></html>"])
    async def test_the_page_of_a_proxy_is_neither_a_written_object_nor_a_listing(
        self, credentials: None, body: str
    ) -> None:
        async with ScriptedServer(answer(200, body)) as server, sink_at(server.url) as sink:
            with pytest.raises(SinkUnavailable):
                await sink.put_new(KEY, BODY, METADATA)
            with pytest.raises(SinkUnavailable):
                await anext(sink.list(""))


class TestCredentials:
    async def test_none_is_forbidden_until_there_are_some(self, tmp_path: Path) -> None:
        async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
            for _ in range(2):
                with pytest.raises(SinkForbidden, match="AWS credentials"):
                    await sink.put_new(KEY, BODY, METADATA)
            assert server.requests == []
            (tmp_path / "credentials").write_text("[default]\naws_access_key_id=AKID\naws_secret_access_key=SK\n")
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED

    async def test_refused_ones_are_looked_for_afresh(self, tmp_path: Path) -> None:
        def use(access_key: str) -> None:
            (tmp_path / "credentials").write_text(
                f"[default]\naws_access_key_id={access_key}\naws_secret_access_key=SK\n"
            )

        use("OLD")
        answers = [refusal(403, "InvalidAccessKeyId", "OLD is not known"), stored()]
        async with ScriptedServer(*answers) as server, sink_at(server.url) as sink:
            with pytest.raises(SinkForbidden) as failure:
                await sink.put_new(KEY, BODY, METADATA)
            assert "OLD" not in "".join(traceback.format_exception(failure.value))
            use("NEW")
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
            assert ["NEW" in request.headers["authorization"] for request in server.requests] == [False, True]

    async def test_a_refusal_disturbs_no_call_under_way(self, credentials: None) -> None:
        async with ScriptedServer(None, refusal(403, "AccessDenied"), stored()) as server, sink_at(server.url) as sink:
            waiting = asyncio.create_task(sink.put_new(KEY, BODY, METADATA))
            await server.silent.wait()
            with pytest.raises(SinkForbidden):
                await sink.put_new(KEY, BODY, METADATA)
            assert await sink.put_new(KEY, BODY, METADATA) is Stored.CREATED
            server.speak.set()
            assert await waiting is Stored.CREATED

    async def test_a_missing_token_file_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ingestd")
        async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
            with pytest.raises(SinkForbidden, match=str(tmp_path / "token")):
                await sink.put_new(KEY, BODY, METADATA)

    async def test_an_empty_token_file_is_no_defect_of_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "token").touch()
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ingestd")
        async with ScriptedServer(stored()) as server, sink_at(server.url) as sink:
            with pytest.raises(SinkForbidden, match="must name a file with a token"):
                await sink.put_new(KEY, BODY, METADATA)

    @pytest.mark.parametrize(
        ("setting", "url", "hint"),
        [
            ("AWS_CA_BUNDLE=empty", "https://127.0.0.1:1", "must name a file of certificates"),
            ("HTTP_PROXY=http://127.0.0.1:99999", "http://store.invalid", "correct HTTPS_PROXY or HTTP_PROXY"),
            ("AWS_ENDPOINT_URL=http://127.0.0.1:99999", None, "s3.endpoint_url, or AWS_ENDPOINT_URL"),
            ("AWS_DEFAULT_REGION=us east", "http://127.0.0.1:1", "set s3.region, AWS_REGION or"),
        ],
    )
    async def test_a_faulty_setting_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, url: str | None, hint: str
    ) -> None:
        (tmp_path / "empty").touch()
        monkeypatch.chdir(tmp_path)
        for variable in ("AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=thing", setting):
            monkeypatch.setenv(*variable.split("=", 1))
        with pytest.raises(SinkForbidden) as failure:
            async with sink_at(url, region=None if "REGION" in setting else REGION) as sink:
                await sink.put_new(KEY, BODY, METADATA)
        assert hint in failure.value.hint

    async def test_what_a_credential_process_prints_is_not_shown(self, tmp_path: Path) -> None:
        (tmp_path / "config").write_text('[default]\ncredential_process = sh -c "echo AKIDSECRET >&2; exit 1"\n')
        async with ScriptedServer(stored()) as server:
            with pytest.raises(SinkForbidden, match="custom-process") as failure:
                async with sink_at(server.url):
                    pass
        assert "AKIDSECRET" not in "".join(traceback.format_exception(failure.value))


class TestRealStore:
    async def test_wrong_credentials_are_forbidden(self, s3: S3Store, bucket: str, credentials: None) -> None:
        async with sink_at(s3.endpoint, bucket) as sink:
            with pytest.raises(SinkForbidden, match="credentials") as failure:
                await sink.put_new(KEY, BODY, METADATA)
            assert failure.value.code == "InvalidAccessKeyId"
            with pytest.raises(SinkForbidden, match="credentials"):
                await sink.head(KEY)
            with pytest.raises(SinkForbidden, match="credentials"):
                await anext(sink.list(""))

    async def test_a_missing_bucket_is_forbidden(self, s3: S3Store, store_credentials: None) -> None:
        async with sink_at(s3.endpoint, "no-such-bucket") as sink:
            with pytest.raises(SinkForbidden, match="create the bucket"):
                await sink.put_new(KEY, BODY, METADATA)
            with pytest.raises(SinkForbidden, match="create the bucket"):
                await sink.get(KEY)
            with pytest.raises(SinkForbidden, match="create the bucket"):
                await anext(sink.list(""))

    async def test_an_unconditional_put_overwrites(self, s3: S3Store, bucket: str, store_credentials: None) -> None:
        async with sink_at(s3.endpoint, bucket, conditional=False) as sink:
            for body in (BODY, compress(b"other").data):
                assert await sink.put_new(KEY, body, METADATA) is Stored.CREATED
                assert await sink.get(KEY) == body

    @pytest.mark.services
    async def test_the_same_client_goes_on_after_the_store_was_dead(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with SeaweedFS(tmp_path) as store:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
            store.create_bucket("bucket")
            async with sink_at(store.endpoint) as sink:
                assert await sink.put_new("before", BODY, METADATA) is Stored.CREATED
                store.kill()
                calls = sink.put_new("during", BODY, METADATA), sink.head("before"), sink.get("before")
                failures = await asyncio.gather(*calls, return_exceptions=True)
                assert [type(failure) for failure in failures] == [SinkUnavailable] * 3
                store.restart()
                assert await sink.put_new("during", BODY, METADATA) is Stored.CREATED
                assert await sink.put_new("before", BODY, METADATA) is Stored.EXISTS


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/some/prefix", "s3://bucket/some/prefix"),
        ("s3://bucket/some/prefix//", "s3://bucket/some/prefix"),
    ],
)
def test_a_root_with_and_without_a_slash_is_the_same(url: str, normal: str) -> None:
    assert S3Sink(url, S3Config(), connections=1).url == normal


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "./data", "s3://b u", "s3://bucket/a//b", "s3://bucket/../b"])
def test_a_bad_root_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sink\.url .*" + re.escape(repr(url))):
        S3Sink(url, S3Config(), connections=1)


def test_a_key_for_another_encryption_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match=r"s3\.kms_key_id.*aws:kms"):
        S3Sink("s3://bucket", S3Config(encryption="AES256", kms_key_id="key"), connections=1)
