"""The native API: bodies are split by content, events go on byte for byte, verdicts are those of the daemon."""

import gzip

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.mapping import ANONYMOUS
from ingestd.collect.messages import Client, Incoming, Mapped
from ingestd.collect.native import MAX_EVENTS, NativeEndpoint, find_key, split
from tests.collect.edge_world import EVENT, NOW, VALIDATOR, event

CLIENT = Client("203.0.113.0", "curl/8", is_bot=True, anonymous=False)
ENDPOINT = NativeEndpoint(VALIDATOR)
DEEP = b"[" * 100_000 + b"]" * 100_000

PAGES = NativeEndpoint(VALIDATOR, of_visitors=True)


async def collect(
    body: bytes, query: dict[str, str] | None = None, *, anonymous: bool = False, endpoint: NativeEndpoint = ENDPOINT
) -> Mapped:
    return await endpoint.collect(
        Incoming(
            source="api",
            method="POST",
            path="/v1/events",
            query=query or {},
            url="http://x/v1/events",
            headers={},
            raw_body=gzip.compress(body),
            body=body,
            received_at=int(NOW * 1000),
            client=msgspec.structs.replace(CLIENT, anonymous=anonymous),
        )
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b" \r\n", []),
        (b"[]", []),
        (b'{"a":1}', [b'{"a":1}']),
        (b'\n {"a" : 1.10} \n', [b'{"a" : 1.10}']),
        (b'{\n "a":\n 1\n}', [b'{\n "a":\n 1\n}']),
        (b'[{"a":1}, {"b" : 2e3}]', [b'{"a":1}', b'{"b" : 2e3}']),
        (b'[\n{"a":1},\n{"b":2}\n]', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\nnonsense\n{"b":2}', [b'{"a":1}', b"nonsense", b'{"b":2}']),
        (b'[1,"x",null]', [b"1", b'"x"', b"null"]),
        (b'[{"a":1},', [b'[{"a":1},']),
        (b"[" * 100_000, [b"[" * 100_000]),
        (b"nonsense", [b"nonsense"]),
    ],
)
def test_a_body_is_split_by_its_content(body: bytes, expected: list[bytes]) -> None:
    assert split(body) == expected


@given(st.binary())
def test_no_byte_of_a_body_is_lost_but_space_and_separators(body: bytes) -> None:
    parts = b"".join(split(body))
    kept = bytes(byte for byte in body if byte not in b" \t\r\n[],")
    assert bytes(byte for byte in parts if byte not in b" \t\r\n[],") == kept


def test_events_above_the_limit_of_a_request_stay_together() -> None:
    lines = split(b"\n".join([EVENT] * (MAX_EVENTS + 3)))
    assert lines[-1] == b"\n".join([EVENT] * 3)
    items = split(b"[" + b",".join([b"{}"] * (MAX_EVENTS + 2)) + b"]")
    assert (len(items), items[-1]) == (MAX_EVENTS + 1, b"[{},{}]")


async def test_events_go_on_byte_for_byte_with_their_clients_key() -> None:
    odd = b'{ "client_id" : "\\u00e4" , "client_id":"b", "x": 1.000e400, "x": 0.10}'
    mapped = await collect(b"[" + EVENT + b"," + odd + b"]")
    assert [(it.value, it.key, it.fault) for it in mapped.events] == [(EVENT, b"c1", None), (odd, b"b", None)]


@pytest.mark.parametrize(
    ("client_id", "key"),
    [(b'"a"', b"a"), (b"1", None), (b"null", None), (b"{}", None), (b'""', None), (b'"' + b"a" * 257 + b'"', None)],
)
async def test_what_can_be_no_client_id_is_no_key(client_id: bytes, key: bytes | None) -> None:
    mapped = await collect(b'{"client_id":' + client_id + b"}")
    assert (mapped.events[0].key, mapped.events[0].fault) == (key, None)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"nonsense", "not_json"),
        (b'{"client_id":"c"', "truncated"),
        (b"[1]", "wrong_type"),
        (b'{"client_id":"\\ud800"}', "lone_surrogate"),
    ],
)
async def test_what_is_no_event_goes_on_with_its_fault(value: bytes, fault: str) -> None:
    mapped = await collect(b"[" + EVENT + b"," + value + b"]" if value == b"[1]" else value)
    assert mapped.reply.status == 200
    assert mapped.events[-1].value == value
    assert mapped.events[-1].fault == fault


async def test_a_deep_array_goes_on_with_its_fault() -> None:
    mapped = await collect(DEEP)
    assert mapped.reply.status == 200
    [event] = mapped.events
    assert event.fault == "too_deep"
    # From Python 3.14 on, the decoder goes as deep as the stack has room: then the outermost array is a batch of one.
    assert event.value in {DEEP, DEEP[1:-1]}


async def test_verdicts_are_those_of_the_daemons_validation() -> None:
    large = b'{"client_id":"' + b"x" * (33 << 10) + b'"}'
    body = b"\n".join([EVENT, b'{"client_id":"c"}', event(2).replace(b"2026-01-01", b"2026-13-01"), large, b"nonsense"])
    mapped = await collect(body, {"verbose": "1"})
    answer = msgspec.json.decode(mapped.reply.body)
    assert (answer["success"], answer["valid"], answer["invalid"]) == (True, 1, 4)
    assert answer["events"][0] == {"valid": True}
    assert [it.get("reason") for it in answer["events"]] == [
        None,
        "missing_field",
        "invalid_timestamp",
        "missing_field",
        "not_json",
    ]
    assert answer["events"][2]["path"] == "$.event_timestamp"
    assert mapped.events == (await collect(body)).events


async def test_events_of_web_pages_get_what_is_known_of_the_client_and_nobody_can_pretend() -> None:
    sent = b'{"client_id":"c","x":1.10,"properties":{"ip":"1.2.3.4","n":1e3},"y":[ 1 ]}'
    (kept,) = (await collect(sent, endpoint=PAGES)).events
    assert kept.key == b"c"
    assert kept.value == (
        b'{"client_id":"c","x":1.10,"properties":{"n":1e3,"_ip":"1.2.3.4","ip":"203.0.113.0",'
        b'"user_agent":"curl/8","is_bot":true},"y":[ 1 ]}'
    )
    for odd in (b'{"client_id":"c","properties":[1]}', b'{"client_id":"c","properties":1}'):
        assert (await collect(odd, endpoint=PAGES)).events[0].value == odd
    (kept,) = (await collect(b'{"client_id":"c","properties":null}', endpoint=PAGES, anonymous=True)).events
    assert msgspec.json.decode(kept.value) == {"client_id": ANONYMOUS, "properties": {"is_bot": True}}


async def test_an_anonymous_clients_events_have_no_identifiers() -> None:
    body = EVENT.replace(b'"e1"', b'"e1","session_id":"s1","properties":{"email":"a@b.example","price":9.90}')
    mapped = await collect(body, anonymous=True)
    kept = mapped.events[0]
    assert kept.key is None
    data = msgspec.json.decode(kept.value)
    assert (data["event_id"], data["client_id"], data["properties"]) == ("e1", ANONYMOUS, {"price": 9.9})
    assert "session_id" not in data
    assert b"c1" not in (await collect(b'{"client_id":"c1"', anonymous=True)).events[0].value


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, {}, None),
        ({}, {"key": "k"}, "k"),
        ({"authorization": "Bearer k"}, {"key": "x"}, "k"),
        ({"authorization": "bearer  k "}, {}, "k"),
        ({"authorization": "Basic azo="}, {}, "k"),
        ({"authorization": "Basic dXNlcjprOnk="}, {}, "k:y"),
        ({"authorization": "Basic !"}, {"key": "k"}, ""),
        ({"authorization": "Basic /w=="}, {}, ""),
        ({"authorization": "Digest x"}, {"key": "k"}, "k"),
        ({"authorization": "Bearer"}, {}, None),
    ],
)
def test_where_the_key_is(headers: dict[str, str], query: dict[str, str], expected: str | None) -> None:
    assert find_key(headers, query, b"") == expected
