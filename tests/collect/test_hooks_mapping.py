"""Mapping files and the generic webhook: examples that ship, every key, every error, and paths."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.hooks.json_paths import find, parse_path
from ingestd.collect.hooks.mapping_file import HookMapping, load_mapping
from ingestd.collect.hooks.signatures import WRONG
from ingestd.collect.messages import Endpoint, RefusedError
from ingestd.core.errors import ConfigError
from tests.collect.hooks_world import (
    NOW_S,
    FakeKeys,
    base64_of,
    columns,
    mac,
    make_endpoint,
    mapping_file,
    post,
    rows_of,
)

EXAMPLES = Path(__file__).parent.parent.parent / "config" / "hooks"
KEYED = '[verify]\nscheme = "key"\nheader = "X-Key"\n'
MINIMAL = KEYED + '[fields]\nclient_id = "person"\n[constants]\nevent_type = "seen"\n'


def webhook(folder: Path, text: str, *keys: bytes) -> Endpoint:
    return make_endpoint("webhook", FakeKeys(*(keys or (b"k3y",))), mapping=mapping_file(folder, text))


async def rows(folder: Path, text: str, body: object) -> list[dict[str, Any]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rows_of(await webhook(folder, text).collect(post(raw, {"x-key": "k3y"})))


# -- the examples


async def test_the_example_for_dynamics() -> None:
    attributes = [
        {"key": "subject", "value": "Review"},
        {"key": "actualdurationminutes", "value": 12},
        {"key": "actualend", "value": "/Date(1789999000000)/"},
        {"key": "regardingobjectid", "value": {"Id": "c0ffee", "LogicalName": "contact"}},
    ]
    context = {
        "MessageName": "Create", "PrimaryEntityName": "phonecall", "PrimaryEntityId": "ca11", "RequestId": "4e9",
        "OperationCreatedOn": "/Date(1789999999000+0000)/",
        "InputParameters": [{"key": "Target", "value": {"LogicalName": "phonecall", "Attributes": attributes}}],
    }  # fmt: skip
    endpoint = make_endpoint("webhook", FakeKeys(b"k3y"), mapping=str(EXAMPLES / "dynamics.toml"))
    (row,) = rows_of(await endpoint.collect(post(json.dumps(context).encode(), query={"code": "k3y"})))
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "duration_s", "session_id"]) == [
        "advisor_call", "ca11:4e9", "c0ffee", "2026-09-21T13:56:40Z", 720, "ca11",
    ]  # fmt: skip
    assert row["properties"]["vendor"] == "dynamics"


async def test_the_example_for_calls_of_hubspot() -> None:
    call = {
        "hs_object_id": 77, "hs_lastmodifieddate": "1789999000500", "hs_call_direction": "INBOUND", "contact_id": "123",
        "hs_timestamp": "1789999000000", "hs_call_duration": "754900", "contact_email": "ada@example.com",
    }  # fmt: skip
    endpoint = make_endpoint("webhook", FakeKeys(b"k3y"), mapping=str(EXAMPLES / "hubspot_calls.toml"))
    (row,) = rows_of(await endpoint.collect(post(json.dumps(call).encode(), {"x-api-key": "k3y"})))
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "duration_s"]) == [
        "advisor_call", "77:1789999000500", "123", "2026-09-21T13:56:40Z", 754,
    ]  # fmt: skip
    assert columns(row["properties"], ["vendor_event", "email"]) == ["INBOUND", "ada@example.com"]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.name)
def test_every_example_loads(file: Path) -> None:
    assert load_mapping(str(file), "webhook").verify is not None


# -- what a mapping does


async def test_events_are_one_object_an_array_or_a_list_in_the_body(tmp_path: Path) -> None:
    assert len(await rows(tmp_path, MINIMAL, {"person": "a"})) == 1
    assert len(await rows(tmp_path, MINIMAL, [{"person": "a"}, {"person": "b"}])) == 2
    listed = 'events = "data.items"\n' + MINIMAL
    assert len(await rows(tmp_path, listed, {"data": {"items": [{"person": "a"}, {"person": "b"}]}})) == 2
    assert await rows(tmp_path, listed, {"data": {"items": []}}) == []


async def test_a_value_that_becomes_a_column_is_no_property_any_more(tmp_path: Path) -> None:
    (row,) = await rows(tmp_path, MINIMAL, {"person": "a", "rest": {"x": 1}})
    assert row["properties"] == {"rest": {"x": 1}}


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("iso", "2026-09-21T15:56:40+02:00", "2026-09-21T13:56:40Z"), ("iso", "2026-09-21", "2026-09-21T00:00:00Z"),
        ("seconds", 1_789_999_000, "2026-09-21T13:56:40Z"), ("seconds", "1789999000.25", "2026-09-21T13:56:40.250000Z"),
        ("milliseconds", 1_789_999_000_250, "2026-09-21T13:56:40.250000Z"),
        ("dotnet", "/Date(1789999000000)/", "2026-09-21T13:56:40Z"),
        ("%d.%m.%Y %H:%M", "21.09.2026 13:56", "2026-09-21T13:56:00Z"),
        ("%d.%m.%Y %H:%M %z", "21.09.2026 15:56 +0200", "2026-09-21T13:56:00Z"),
    ],
)  # fmt: skip
async def test_formats_of_times(tmp_path: Path, form: str, value: object, expected: str) -> None:
    text = f'timestamp = "{form}"\n' + MINIMAL.replace("[fields]", '[fields]\ntimestamp = "at"')
    (row,) = await rows(tmp_path, text, {"person": "a", "at": value})
    assert row["event_timestamp"] == expected


@pytest.mark.parametrize(("unit", "value", "seconds"), [("s", 7, 7), ("ms", "7900", 7), ("min", 2.5, 150)])
async def test_units_of_durations(tmp_path: Path, unit: str, value: object, seconds: int) -> None:
    text = f'duration = "{unit}"\n' + MINIMAL.replace("[fields]", '[fields]\nduration_s = "d"')
    (row,) = await rows(tmp_path, text, {"person": "a", "d": value})
    assert row["duration_s"] == seconds


async def test_a_duration_that_is_no_number_stays_in_the_properties(tmp_path: Path) -> None:
    (row,) = await rows(
        tmp_path, MINIMAL.replace("[fields]", '[fields]\nduration_s = "d"'), {"person": "a", "d": "long"}
    )
    assert (row.get("duration_s"), row["properties"]) == (None, {"duration_s": "long"})


async def test_a_duration_beyond_all_bounds_keeps_its_digits(tmp_path: Path) -> None:
    text = 'duration = "min"\n' + MINIMAL.replace("[fields]", '[fields]\nduration_s = "d"')
    (row,) = await rows(tmp_path, text, {"person": "a", "d": 10**40 + 1})
    assert row["properties"] == {"duration_s": 10**40 + 1}


async def test_types_by_a_table_and_by_their_own_words(tmp_path: Path) -> None:
    text = KEYED + '[fields]\nclient_id = "p"\nevent_type = "kind"\n[event_types]\nOPENED = "email_open"\n7 = "seven"\n'
    events = [{"p": "a", "kind": kind} for kind in ("OPENED", 7, "other")]
    assert [row["event_type"] for row in await rows(tmp_path, text, events)] == ["email_open", "seven", "other"]


async def test_without_a_client_id_the_hash_of_the_address_is_the_client(tmp_path: Path) -> None:
    text = KEYED + '[fields]\nemail = "mail"\n[constants]\nevent_type = "seen"\n'
    (row,) = await rows(tmp_path, text, {"mail": "Ada@Example.com"})
    assert len(row["client_id"]) == 64
    assert row["properties"] == {"email": "Ada@Example.com"}


async def test_standard_webhooks_give_an_event_without_an_id_theirs(tmp_path: Path) -> None:
    text = '[verify]\nscheme = "standard"\n[fields]\nclient_id = "p"\n[constants]\nevent_type = "seen"\n'
    endpoint = webhook(tmp_path, text, b"whsec_" + base64_of(b"k3y").encode())
    body = b'{"p":"a"}'
    signature = base64_of(mac(b"k3y", f"msg_1.{NOW_S}.".encode() + body))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW_S), "webhook-signature": f"v1,{signature}"}
    (row,) = rows_of(await endpoint.collect(post(body, headers)))
    assert row["event_id"] == "msg_1"
    body = b'[{"p":"a"},{"p":"b"}]'
    signature = base64_of(mac(b"k3y", f"msg_1.{NOW_S}.".encode() + body))
    two = rows_of(await endpoint.collect(post(body, {**headers, "webhook-signature": f"v1,{signature}"})))
    assert len({row["event_id"] for row in two} | {"msg_1"}) == 3


async def test_hmac_by_the_mapping_file(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        KEYED,
        """
        [verify]
        scheme = "hmac"
        header = "X-Signature"
        algorithm = "sha512"
        encoding = "base64"
        prefix = "v1="
        signed = "{timestamp}:{url}:{body}"
        timestamp_header = "X-Time"
        window = "1m"
        """,
    )
    endpoint = webhook(tmp_path, text)
    body = b'{"person":"a"}'
    for age_s, good in [(0, True), (60, True), (61, False)]:
        stamp = NOW_S - age_s
        signature = mac(b"k3y", f"{stamp}:https://e.example.com/hooks/mail:".encode() + body, "sha512")
        request = post(body, {"x-signature": f"v1={base64_of(signature)}", "x-time": str(stamp)})
        if good:
            assert len((await endpoint.collect(request)).events) == 1
        else:
            with pytest.raises(RefusedError):
                await endpoint.collect(request)
    with pytest.raises(RefusedError) as caught:
        await endpoint.collect(post(b"{}", {**request.headers, "x-time": str(NOW_S)}))
    assert caught.value.reason == WRONG


async def test_a_rotated_key_is_good_from_the_next_request_on(tmp_path: Path) -> None:
    keys = FakeKeys(b"k3y")
    endpoint = make_endpoint("webhook", keys, mapping=mapping_file(tmp_path, MINIMAL))
    request = post(b'{"person":"a"}', {"x-key": "new"})
    with pytest.raises(RefusedError):
        await endpoint.collect(request)
    keys.keys = (b"k3y", b"new")
    assert len((await endpoint.collect(request)).events) == 1


# -- errors at the start


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[verify", "is not TOML"),
        ("colour = 1", "unknown key colour"),
        (MINIMAL.replace("header", "heder"), "unknown key verify.heder in the mapping file .*did you mean header"),
        (MINIMAL.replace('"key"', '"kex"'), "verify.scheme = 'kex' in the mapping file .*mapping.toml"),
        (MINIMAL.replace('"X-Key"', '"X Key"'), "verify.header = 'X Key' .* is not the name of a header"),
        (MINIMAL.replace('header = "X-Key"', ""), "verify.header = '' .* one of them is needed"),
        (MINIMAL.replace(KEYED, ""), "verify .* is missing"),
        (MINIMAL.replace("client_id", "clientid"), "fields.client_id .* is missing"),
        (MINIMAL.replace("[fields]", '[fields]\nclient = "x"'), "fields.client = 'x' .* is not a field .*client"),
        (MINIMAL.replace('"person"', '"per son"'), "fields.client_id = 'per son' .* cannot be read at ' son'"),
        (MINIMAL.replace('"person"', "[]"), r"fields.client_id = \[\] .* is not accepted"),
        (MINIMAL.replace('"person"', "7"), "fields.client_id = 7 .* is not accepted"),
        (MINIMAL + "x = 1.5", "constants.x = 1.5 .* is not accepted"),
        (MINIMAL + "[event_types]\na = 1", "event_types.a = 1 .* is not an event_type"),
        (MINIMAL.replace('event_type = "seen"', ""), "fields.event_type .* is missing"),
        (MINIMAL + 'event_id = "1"', "constants.event_id = '1' .* cannot be equal in all events"),
        ('timestamp = "unix"\n' + MINIMAL, "timestamp = 'unix' .* is not a format"),
        ('duration = "hours"\n' + MINIMAL, "duration = 'hours'"),
        ('events = "a[0]"\n' + MINIMAL, r"events = 'a\[0\]' .* names only"),
        (MINIMAL.replace(KEYED, '[verify]\nscheme = "hmac"\n'), "verify.header = '' .* is missing"),
        (MINIMAL.replace(KEYED, '[verify]\nscheme = "hmac"\nheader = "x"\nsigned = "{timestamp}.{body}"\n'),
         "verify.signed = .*timestamp_header"),
        (MINIMAL.replace(KEYED, '[verify]\nscheme = "hmac"\nheader = "x"\nsigned = "{url}"\n'), "lacks {body}"),
        (MINIMAL.replace(KEYED, '[verify]\nscheme = "hmac"\nheader = "x"\nwindow = "soon"\n'),
         "verify.window = 'soon'"),
    ],
)  # fmt: skip
def test_an_error_in_a_mapping_file_names_file_key_and_value(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        webhook(tmp_path, text)
    assert "mapping.toml" in str(caught.value)
    assert caught.value.hint


def test_a_vendors_mapping_has_no_signature_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"verify .* has no effect for kind = mailgun"):
        load_mapping(mapping_file(tmp_path, KEYED), "mailgun")
    with pytest.raises(ConfigError, match=r"events = 'a' .* has no effect"):
        load_mapping(mapping_file(tmp_path, 'events = "a"'), "mailgun")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml cannot be read"):
        load_mapping(str(tmp_path / "nowhere.toml"), "webhook")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (257 << 10))
    with pytest.raises(ConfigError, match="more than 256KiB"):
        load_mapping(str(large), "webhook")
    large.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_mapping(str(large), "webhook")


@pytest.mark.parametrize(
    ("kind", "key", "text", "words"),
    [
        ("sendgrid", b"AAAA", None, "key 1 of collect.sources.mail.key_file is not one of sendgrid"),
        ("postmark", b"secret-without-colon", None, "key 1 .* is not one of postmark"),
        ("webhook", b"whsec_???", '[verify]\nscheme = "standard"\n', "key 1 .* is not one of webhook"),
        ("webhook", b"secret-without-colon", '[verify]\nscheme = "basic"\n', "key 1 .* is not one of webhook"),
    ],
)
def test_a_key_of_another_form_is_an_error_that_does_not_show_it(
    tmp_path: Path, kind: str, key: bytes, text: str | None, words: str
) -> None:
    mapping = None if text is None else mapping_file(tmp_path, MINIMAL.replace(KEYED, text))
    with pytest.raises(ConfigError, match=words) as caught:
        make_endpoint(kind, FakeKeys(key), mapping=mapping)
    assert key.decode() not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["sendgrid", "mailgun", "postmark", "mandrill", "hubspot", "webhook", "salesforce"])
def test_a_source_without_a_proof_is_an_error(kind: str, tmp_path: Path) -> None:
    mapping = mapping_file(tmp_path, MINIMAL) if kind == "webhook" else None
    with pytest.raises(ConfigError, match=f"collect.sources.mail has kind = {kind} and no key_file"):
        make_endpoint(kind, mapping=mapping)


def test_an_empty_mapping_changes_nothing() -> None:
    assert HookMapping().fields == {}


# -- paths

DOCUMENT: Any = {
    "a": {"b-c": [{"id": 1}, {"id": "x", "v": {"deep": True}}]}, "d.e": 5, "list": [[1, 2], [3]], "none": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", DOCUMENT), ("$.a.b-c[0].id", 1), ("a.b-c[-1].v.deep", True), ('["d.e"]', 5), ("list[0][1]", 2),
        ("a.b-c[id=x].v.deep", True), ("a.b-c[id=1].id", 1), ("a.b-c[id=2].id", None), ("a.b-c[9]", None),
        ("a.b-c.id", None), ("d.e", None), ("none.x", None), ("list[id=1]", None), ("a[0]", None),
    ],
)  # fmt: skip
def test_paths_lead_to_values(path: str, value: object) -> None:
    assert find(DOCUMENT, parse_path(path)) == value


@pytest.mark.parametrize("path", ["", "a b", "a..b", "a.", "[", "[x]", "a[", 'a["', "[=x]", "é", "a" * 600])
def test_what_is_no_path_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|is empty"):
        parse_path(path)


@given(st.text(max_size=40) | st.lists(st.sampled_from([".a", "[0]", '["b"]', "[a=1]", "$", "x"])).map("".join))
def test_any_text_is_a_path_or_an_error(text: str) -> None:
    try:
        path = parse_path(text)
    except ValueError:
        return
    find(DOCUMENT, path)
