"""The client of a schema registry against an HTTP server: addresses, answers, references, credentials, TLS, secrets."""

import asyncio
import base64
import logging
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from ingestd.config.secrets import REDACTION
from ingestd.config.types import Seconds, Secret
from ingestd.core.errors import ConfigError
from ingestd.core.records import PlainRecord
from ingestd.core.values.base import Schema, SchemaError, SchemaRef
from ingestd.sources.registry.client import (
    ID_MAX,
    MAX_SCHEMA_BYTES,
    REFERENCES_MAX,
    RegistryClient,
    RegistryUnavailable,
)
from ingestd.sources.registry.loader import RegistryValues
from tests.registry_server import Answer, RegistryServer, config_of, schema, serving, version
from tests.registry_world import framed
from tests.services.ports import HOST

GUID = SchemaRef("guid", "0f8fad5b-d9cb-469f-a165-70867728950e")
SECRET = "correct-horse"
FOUND = Schema("AVRO", '"string"')


def by_id(number: int) -> SchemaRef:
    return SchemaRef("id", str(number))


def three() -> dict[str, Answer]:
    return {f"/schemas/ids/{number}": schema() for number in (1, 2, 3)}


async def failure(client: RegistryClient, ref: SchemaRef = by_id(1)) -> str:  # noqa: B008  a tuple
    with pytest.raises(RegistryUnavailable) as caught:
        await client.fetch(ref)
    return str(caught.value)


# -- addresses


async def test_the_next_address_is_asked_where_one_fails_and_kept() -> None:
    async with serving({}) as first, serving(three()) as second:
        first.failing = 503
        client = RegistryClient(config_of(first, second))
        for number in (1, 2):
            assert await client.fetch(by_id(number)) == FOUND
        assert (len(first.asked), len(second.asked)) == (1, 2)
        assert (client.requests, client.failures) == (3, 1)

        first.failing, first.answers = None, three()
        second.failing = 503
        assert await client.fetch(by_id(3)) == FOUND
        assert (len(first.asked), len(second.asked)) == (2, 3)


async def test_an_address_that_nobody_listens_at_is_passed_over(free_address: str) -> None:
    async with serving(three()) as server:
        config = config_of(server)
        client = RegistryClient(type(config)(urls=(free_address, f"{server.url}/")))
        assert await client.fetch(by_id(1)) == FOUND
        assert server.asked == ["/schemas/ids/1"], "no // of an address that ends with /"


async def test_where_all_addresses_fail_the_error_names_one_and_why() -> None:
    async with serving({}) as first, serving({}) as second:
        first.failing = second.failing = 500
        client = RegistryClient(config_of(first, second))
        assert await failure(client) == f"the schema registry {second.url} answers HTTP 500 to /schemas/ids/1"
        assert (client.requests, client.failures) == (2, 2)


async def test_a_registry_that_does_not_answer_is_given_up_after_a_while() -> None:
    async with serving(three()) as server:
        server.is_silent = True
        client = RegistryClient(type(config_of())(urls=(server.url,), request_timeout=Seconds(0.1)))
        assert "cannot be reached" in await failure(client)


@pytest.fixture
async def free_address() -> str:
    async with serving({}) as server:
        return server.url


# -- answers


@pytest.mark.parametrize("code", [40401, 40402, 40403])
async def test_what_the_registry_itself_does_not_know_does_not_exist(code: int) -> None:
    async with serving({"/schemas/ids/1": (404, {"error_code": code})}) as server:
        client = RegistryClient(config_of(server))
        assert await client.fetch(by_id(1)) is None
        assert client.failures == 0


@pytest.mark.parametrize("body", [b"<html>Not Found</html>", b"", b"[]", b'{"error_code": 404}', b'{"error_code": []}'])
async def test_another_server_s_404_says_nothing_of_an_id(body: bytes) -> None:
    async with serving({"/schemas/ids/1": (404, body)}) as server:
        assert "answers HTTP 404 to /schemas/ids/1" in await failure(RegistryClient(config_of(server)))


async def test_a_guid_does_not_exist_where_a_registry_knows_no_guids() -> None:
    async with serving({f"/schemas/guids/{GUID.name}": (404, b"<html>")}) as server:
        assert await RegistryClient(config_of(server)).fetch(GUID) is None


@pytest.mark.parametrize("number", [0, ID_MAX + 1, 2**32 - 1])
async def test_an_id_that_no_registry_gives_is_not_asked_for(number: int) -> None:
    async with serving({}) as server:
        assert await RegistryClient(config_of(server)).fetch(by_id(number)) is None
        assert server.asked == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {"error_code": 40101}), "refuses us (HTTP 401): check [registry]"),
        ((403, b""), "refuses us (HTTP 403): check [registry]"),
        ((301, b""), "answers HTTP 301"),
        ((422, b"no"), "answers HTTP 422"),
        ((429, b""), "answers HTTP 429"),
        ((500, {"error_code": 50001}), "answers HTTP 500"),
        ((503, b"<html>"), "answers HTTP 503"),
        ((200, b'{"schema": '), "with something else than JSON"),
        ((200, b""), "with something else than JSON"),
        ((200, b"[1]"), "with something else than JSON"),
        ((200, b"[" * 100_000), "with something else than JSON"),
        ((200, b"x" * (MAX_SCHEMA_BYTES + 1)), "with something else than JSON"),
        ((200, {"id": 1}), "has no schema"),
        ((200, {"schema": {}}), "has no schema"),
    ],
    ids=range(14),
)
async def test_an_answer_that_says_nothing_of_the_schema_holds(answer: Answer, words: str) -> None:
    async with serving({"/schemas/ids/1": answer}) as server:
        assert words in await failure(RegistryClient(config_of(server)))
        assert len(server.asked) == 1, "a redirect is not followed"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((422, {"error_code": 42202}), "answers HTTP 422 to /schemas/ids/1"),
        ((400, {"error_code": 40001}), "answers HTTP 400 to /schemas/ids/1"),
        (schema("x" * MAX_SCHEMA_BYTES), "the answer to /schemas/ids/1 has more than 2MiB"),
        ((200, {"schema": "", "references": [{"name": "a"}]}), "list of its references cannot be read"),
        ((200, {"schema": "", "references": ["a"]}), "list of its references cannot be read"),
    ],
    ids=["422", "400", "large", "reference", "references"],
)
async def test_what_is_wrong_with_a_schema_does_not_hold(answer: Answer, words: str) -> None:
    async with serving({"/schemas/ids/1": answer}) as server:
        with pytest.raises(SchemaError, match=words):
            await RegistryClient(config_of(server)).fetch(by_id(1))


async def test_protobuf_is_fetched_as_a_descriptor_where_the_registry_has_one() -> None:
    async with serving({
        "/schemas/ids/1": schema("message A {}", kind="PROTOBUF"),
        "/schemas/ids/1?format=serialized": schema("AAAA"),
        "/schemas/ids/2": schema("message B {}", kind="PROTOBUF"),
        "/schemas/ids/2?format=serialized": (422, {"error_code": 42201}),
        "/schemas/ids/3": schema("message C {}", kind="PROTOBUF"),
        "/schemas/ids/3?format=serialized": (500, b""),
    }) as server:  # fmt: skip
        client = RegistryClient(config_of(server))
        texts = [found.text for number in (1, 2, 3) if (found := await client.fetch(by_id(number)))]
        assert texts == ["AAAA", "message B {}", "message C {}"]


# -- references


async def test_references_come_with_the_schema_those_without_needs_first() -> None:
    answers = {
        "/schemas/ids/1": schema("one", ("b/c", 7), ("a", 1)),
        version("b%2Fc", 7): schema("bc", ("a", 1)),
        version("a"): schema("a"),
        "/schemas/ids/2": schema("two", ("a", 1)),
    }
    async with serving(answers) as server:
        client = RegistryClient(config_of(server))
        found = await client.fetch(by_id(1))
        assert found == Schema("AVRO", "one", {"a": "a", "b/c": "bc"})
        assert list(found.references) == ["a", "b/c"]
        assert await client.fetch(by_id(2)) == Schema("AVRO", "two", {"a": "a"})
        assert len(server.asked) == len(set(server.asked)), "a version never changes, so it is asked for once"


def chain(length: int) -> dict[str, Answer]:
    """A schema of which the last of `length` references has none."""
    links = {version(f"r{number}"): schema("", (f"r{number + 1}", 1)) for number in range(1, length)}
    return {"/schemas/ids/1": schema("", ("r1", 1)), **links, version(f"r{length}"): schema("")}


async def test_a_chain_of_references_has_a_maximum() -> None:
    async with serving(chain(REFERENCES_MAX)) as server:
        found = await RegistryClient(config_of(server)).fetch(by_id(1))
        assert found is not None
        assert len(found.references) == REFERENCES_MAX
    async with serving(chain(REFERENCES_MAX + 1)) as server:
        with pytest.raises(SchemaError, match=f"a circle, or more than {REFERENCES_MAX}"):
            await RegistryClient(config_of(server)).fetch(by_id(1))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({version("a"): schema("", ("b", 1)), version("b"): schema("", ("a", 1))}, "a circle"),
        ({version("a"): schema("", ("a", 1))}, "a circle"),
        ({}, "does not have its reference a"),
        ({version("a"): schema("x" * MAX_SCHEMA_BYTES)}, "has more than 2MiB"),
    ],
    ids=["circle", "itself", "missing", "large"],
)
async def test_references_that_cannot_be_used_do_not_hold(answers: dict[str, Answer], words: str) -> None:
    async with serving({"/schemas/ids/1": schema("", ("a", 1)), **answers}) as server:
        with pytest.raises(SchemaError, match=words):
            await RegistryClient(config_of(server)).fetch(by_id(1))


async def test_a_reference_that_fails_holds() -> None:
    async with serving({"/schemas/ids/1": schema("", ("a", 1)), version("a"): (503, b"")}) as server:
        assert f"answers HTTP 503 to {version('a')}" in await failure(RegistryClient(config_of(server)))


# -- credentials


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer(token: str) -> str:
    return f"Bearer {token}"


@pytest.mark.parametrize(
    ("key", "more", "form"),
    [("password_file", {"username": "u"}, partial(basic, "u")), ("token_file", {}, bearer)],
    ids=["password", "token"],
)
async def test_a_secret_is_read_from_its_file_at_each_request(
    key: str, more: dict[str, str], form: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("first\n")
    async with serving(three()) as server:
        client = RegistryClient(config_of(server, **{key: str(file)}, **more))
        await client.fetch(by_id(1))
        file.write_text("second")
        await client.fetch(by_id(2))
        file.unlink()
        assert f"the secret file {file} cannot be read" in await failure(client)
        file.write_text("third")
        await client.fetch(by_id(3))
        assert server.authorizations == [form("first"), form("second"), form("third")]


async def test_without_credentials_none_are_sent() -> None:
    async with serving(three()) as server:
        await RegistryClient(config_of(server)).fetch(by_id(1))
        assert server.authorizations == [None]


def test_a_secret_file_that_is_missing_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        RegistryClient(config_of(username="u", password_file=str(tmp_path / "none")))


@pytest.mark.parametrize("status", [401, 500])
@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({"username": "ann", "password": Secret(SECRET)}, basic("ann", SECRET)),
        ({"token": Secret(SECRET)}, bearer(SECRET)),
    ],
    ids=["basic", "bearer"],
)
async def test_a_server_that_repeats_the_secret_puts_it_nowhere(
    status: int, changes: dict[str, Any], sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log's own redaction is not needed for it."""
    caplog.set_level(logging.DEBUG)
    async with serving({}) as server:
        server.failing = status
        config = config_of(server, **changes)
        values = RegistryValues(RegistryClient(config), config)
        assert not await values.prepare([PlainRecord(0, 0, framed(1, b""))], lambda: False)
    said = f"{values.error} {caplog.text} {values.registry_status()!r} {values.client!r}"
    assert "schema registry unavailable" in caplog.text
    assert server.authorizations == [sent]
    for form in (SECRET, sent.split()[1]):
        assert form not in said


async def test_what_basic_sends_is_hidden_from_the_log() -> None:
    async with serving(three()) as server:
        await RegistryClient(config_of(server, username="ann", password=Secret(SECRET))).fetch(by_id(1))
    assert REDACTION.clean(f"header: {server.authorizations[0]}") == "header: Basic <redacted>"


# -- TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    return context


def ca_file(authority: trustme.CA, folder: Path) -> str:
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return str(folder / "ca.pem")


async def test_a_private_ca_is_trusted_where_it_is_named(
    authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    async with serving(three(), tls) as server:
        trusting = RegistryClient(config_of(server, ssl_ca_file=ca_file(authority, tmp_path)))
        assert await trusting.fetch(by_id(1)) == FOUND
        message = await failure(RegistryClient(config_of(server)))
        assert message.startswith(f"the schema registry {server.url} cannot be reached: ")
        assert "CERTIFICATE_VERIFY_FAILED" in message
        assert len(server.asked) == 1


async def test_a_certificate_for_another_host_is_not_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("registry.example.com").configure_cert(context)
    async with serving(three(), context) as server:
        client = RegistryClient(config_of(server, ssl_ca_file=ca_file(authority, tmp_path)))
        assert "cannot be reached" in await failure(client)
        assert server.asked == []


async def test_a_client_certificate_is_shown(authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path) -> None:
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    ours = authority.issue_cert("ingestd")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    ours.cert_chain_pems[0].write_to_path(str(certificate))
    ours.private_key_pem.write_to_path(str(key))
    ca = ca_file(authority, tmp_path)
    async with serving(three(), tls) as server:
        files = {"ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        assert await RegistryClient(config_of(server, ssl_ca_file=ca, **files)).fetch(by_id(1)) == FOUND
        assert "cannot be reached" in await failure(RegistryClient(config_of(server, ssl_ca_file=ca)))
        assert len(server.asked) == 1


@pytest.mark.parametrize("key", ["ssl_ca_file", "ssl_cert_file"])
def test_a_file_that_is_no_certificate_is_an_error_that_names_the_key(key: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no certificate")
    files = {key: str(tmp_path / "x")}
    if key == "ssl_cert_file":
        files["ssl_key_file"] = str(tmp_path / "x")
    server = RegistryServer({})
    server.url = "https://registry.example.com"
    with pytest.raises(ConfigError, match=f"registry.{key}.* cannot be used: .*give readable PEM files"):
        RegistryClient(config_of(server, **files))


# -- at once


async def test_many_schemas_are_fetched_at_once_and_each_once() -> None:
    async with serving({f"/schemas/ids/{number}": schema() for number in range(1, 41)}) as server:
        config = config_of(server)
        values = RegistryValues(RegistryClient(config), config)
        records = [PlainRecord(number, 0, framed(number % 40 + 1, b"")) for number in range(400)]
        async with asyncio.timeout(60):
            assert await values.prepare(records, lambda: True)
        assert sorted(server.asked) == sorted(f"/schemas/ids/{number}" for number in range(1, 41))
        status = values.registry_status()
        assert (status.requests, status.failures, status.schemas) == (40, 0, 40)
