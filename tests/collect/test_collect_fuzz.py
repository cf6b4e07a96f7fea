"""Whatever comes to an endpoint of the OpenAPI document: an answer that the document has, and no event lost.

No 500, no traceback, no hang, no event that is delivered without 200 or the other way round, no memory that stays.
"""

import asyncio
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from ingestd.collect import assets, server
from ingestd.collect import body as body_module
from ingestd.collect.endpoints import ROUTES, make_endpoints
from ingestd.collect.native import split
from ingestd.collect.request import ENDPOINT_FAILED, RequestPath
from ingestd.collect.server import CollectServer
from ingestd.config.model import CollectConfig, CollectSource
from ingestd.config.types import Rate, Size
from tests.collect.edge_world import EVENT, VALIDATOR, FakeDelivery, RecordingObserver
from tests.collect.hooks_world import mapping_file
from tests.collect.test_hooks_mapping import MINIMAL
from tests.collect.test_hooks_signatures import SENDGRID_KEY

DOCUMENT: dict[str, Any] = json.loads((Path(assets.__file__).parent / "openapi.json").read_bytes())
METHODS = ("get", "post", "head")
PATHS: dict[str, Any] = DOCUMENT["paths"]
OPERATIONS = [(method.upper(), path) for path, item in PATHS.items() for method in METHODS if method in item]
KINDS = (
    "native", "web", "segment", "rudderstack", "snowplow",
    "sendgrid", "mailgun", "ses", "postmark", "mandrill", "hubspot", "salesforce", "webhook",
)  # fmt: skip
VENDOR_KEYS = {"sendgrid": SENDGRID_KEY, "postmark": b"user:k3y"}


def test_the_document_has_all_routes_and_no_other() -> None:
    served = {(route.method, route.path) for route in ROUTES}
    probes = {(method, path) for _, path in served if "{source}" in path for method in ("GET", "HEAD")}
    files = {("GET", "/openapi.json"), ("GET", "/ingestd.js")}
    assert set(OPERATIONS) == served | probes | files


def test_the_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


# The validator does not follow all of them.
def test_the_documents_references_exist() -> None:
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        part = DOCUMENT
        for name in reference.split("/"):
            part = part[name]


class Fuzzed:
    """A server with a source of each kind, on a loop of its own: hypothesis runs many examples in one test."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner()
        self.delivery, self.observer = self.runner.run(self._made())
        sources = {kind: self._source(folder, kind) for kind in KINDS}
        config = CollectConfig(port=0, public_url="https://e.example.com", sources=sources, max_body=Size(64 << 10))
        made = make_endpoints(config, VALIDATOR)
        path = RequestPath(config, made.by_source, made.routes, self.delivery, self.observer, keys=made.keys)
        self.server = CollectServer(config, path, self.observer)
        self.port = self.runner.run(self.server.start())

    async def _made(self) -> tuple[FakeDelivery, RecordingObserver]:
        return FakeDelivery(), RecordingObserver()

    def _source(self, folder: Path, kind: Any) -> CollectSource:
        options: dict[str, Any] = {"rate": Rate(100_000_000)}
        if kind not in {"native", "web", "snowplow", "ses"}:
            file = folder / f"{kind}-keys"
            file.write_bytes(VENDOR_KEYS.get(kind, b"k3y"))
            options["key_file"] = str(file)
        if kind == "webhook":
            options["mapping"] = mapping_file(folder, MINIMAL)
        if kind == "ses":
            options["topic_arns"] = ("arn:aws:sns:eu-central-1:123456789012:mail",)
        return CollectSource(kind=kind, **options)

    def send(self, data: bytes) -> tuple[int, bytes]:
        """The status and the rest of the answer to one request with "Connection: close"; 0 without an answer."""
        return self.runner.run(self._send(data))

    async def _send(self, data: bytes) -> tuple[int, bytes]:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(data)
            writer.write_eof()
            answer = b""
            try:
                while part := await reader.read(65536):
                    answer += part
            except ConnectionError:
                pass
            writer.close()
        match = re.match(rb"HTTP/1\.[01] ([0-9]{3}) ", answer)
        return int(match[1]) if match else 0, answer


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "LINGER_S", 0.05)
        patch.setattr(body_module, "SLOW_START_S", 0.5)
        it = Fuzzed(tmp_path_factory.mktemp("fuzz"))
        yield it
        it.runner.run(it.server.stop(1.0))
        it.runner.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ("batch", "type", "userId", "anonymousId", "messageId", "timestamp", "sentAt", "context", "properties",
                 "traits", "event", "data", "e", "aid", "schema", "writeKey", "client_id", "event_id", "Type",
                 "Message", "signature", "event-data", "person", "objectId", "occurredAt")
            ) | st.text(max_size=8),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=300),
    json_values.map(lambda value: json.dumps(value).encode(errors="surrogatepass")),
    st.lists(json_values, max_size=3).map(lambda values: b"\n".join(json.dumps(value).encode() for value in values)),
    st.sampled_from([EVENT, b"", b"[]", b"[" * 20_000, bytes(70_000), gzip.compress(bytes(1 << 20)), b"data=e30%3D"]),
)
tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
headers = st.dictionaries(
    st.sampled_from(
        ("Content-Type", "Content-Encoding", "Authorization", "Origin", "Sec-GPC", "DNT", "User-Agent",
         "X-Forwarded-For", "Referer", "X-Hubspot-Signature-v3", "X-Mandrill-Signature",
         "X-Twilio-Email-Event-Webhook-Signature", "x-key")
    ),
    st.sampled_from(
        ("gzip", "deflate", "br", "1", "Basic azN5Og==", "Bearer k3y", "k3y", "https://e.example.com", "null", "curl/8",
         "application/json", "application/x-www-form-urlencoded", "MA==", "99999999999999999999")
    ) | tokens,
    max_size=5,
)  # fmt: skip
queries = st.dictionaries(
    st.sampled_from(("key", "writeKey", "aid", "e", "type", "verbose", "t", "client_id", "duration_s", "data")),
    st.sampled_from(("web", "native", "snowplow", "k3y", "1", "pv", "%ff%00", "e30=", "-1")) | st.just("x" * 300),
    max_size=5,
)  # fmt: skip


def head(method: str, path: str, query: Mapping[str, str], fields: Mapping[str, str]) -> bytes:
    target = path + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *(f"{k}: {v}" for k, v in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes, bytes]:
    """Method and path of an operation, a whole request for it, and its body before it was compressed."""
    method, path = draw(st.sampled_from(OPERATIONS))
    body = draw(bodies)
    sent = gzip.compress(body) if draw(st.booleans()) else body
    data = head(method, path.replace("{source}", draw(st.sampled_from(KINDS))), draw(queries), draw(headers))
    if draw(st.booleans()):
        parts = (sent[begin : begin + 9999] for begin in range(0, len(sent), 9999))
        data += b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(it), it) for it in parts)
        return method, path, data + b"0\r\n\r\n", body
    return method, path, data + b"Content-Length: %d\r\n\r\n" % len(sent) + sent, body


@settings(max_examples=300)
@given(request=requests())
def test_any_request_gets_an_answer_that_the_document_has(
    fuzzed: Fuzzed, request: tuple[str, str, bytes, bytes]
) -> None:
    method, path, data, body = request
    fuzzed.delivery.batches.clear()
    status, answer = fuzzed.send(data)
    assert str(status) in PATHS[path][method.lower()]["responses"], answer
    assert status != 500
    assert b"Traceback" not in answer
    assert (b"Ingestd-Ack: kafka" in answer) is bool(fuzzed.delivery.batches)
    assert not fuzzed.delivery.batches or status == 200
    assert all(event.fault != ENDPOINT_FAILED for event in fuzzed.delivery.events)
    if path == "/v1/events" and status == 200:
        assert len(fuzzed.delivery.events) == len(split(body))
    assert fuzzed.server.bytes_in_flight == 0


REQUEST = head("POST", "/v1/events", {"key": "native"}, {}) + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT


@settings(max_examples=200)
@given(at=st.integers(0, len(REQUEST)), removed=st.integers(0, 40), put=st.binary(max_size=12), again=st.integers(1, 3))
def test_any_bytes_end_with_an_answer_or_the_end_of_the_connection(
    fuzzed: Fuzzed, at: int, removed: int, put: bytes, again: int
) -> None:
    fuzzed.delivery.batches.clear()
    status, answer = fuzzed.send((REQUEST[:at] + put + REQUEST[at + removed :]) * again)
    assert status != 500
    assert b"Traceback" not in answer
    assert answer.count(b"Ingestd-Ack: kafka") == len(fuzzed.delivery.batches)
    assert fuzzed.server.bytes_in_flight == 0
