"""Whatever comes to a webhook: its answer is a refusal, or events that ingestion takes, or quarantines by a fault."""

import asyncio
import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.hooks.apply import EventBuilder
from ingestd.collect.hooks.crm import hubspot, salesforce
from ingestd.collect.hooks.email import VENDORS
from ingestd.collect.hooks.mapping_file import HookMapping
from ingestd.collect.messages import Collected, Incoming, RefusedError
from ingestd.config.model import CollectConfig
from tests.collect.hooks_world import (
    ANONYMOUS,
    NOW_MS,
    NOW_S,
    URL,
    VENDOR,
    FakeKeys,
    base64_of,
    mac,
    make_endpoint,
    post,
    validated,
)
from tests.collect.test_hooks_crm import TASK, soap
from tests.collect.test_hooks_email import EVENTS
from tests.collect.test_hooks_sns import TOPIC, notification, sign, sns

KEY = b"user:secret"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
HUBSPOT = {
    "eventId": 1, "subscriptionId": 2, "occurredAt": 1_789_999_000_000, "subscriptionType": "object.propertyChange",
    "objectTypeId": "0-48", "objectId": 7, "propertyName": "hs_call_duration", "propertyValue": "1000",
}  # fmt: skip
SALESFORCE = {
    "notification_id": "1", "sobject": "Task", "Id": "00T", "WhoId": "003", "TaskSubtype": "Call",
    "CallDurationInSeconds": "7", "CompletedDateTime": "2026-09-21T13:56:40Z",
}  # fmt: skip
SAMPLES: dict[str, Any] = {**EVENTS, "hubspot": HUBSPOT, "salesforce": SALESFORCE}
MAPPERS = {**VENDORS, "hubspot": hubspot, "salesforce": salesforce}


@st.composite
def damaged(draw: st.DrawFn, sample: dict[str, Any]) -> dict[str, Any]:
    """A vendor's event in which some values, at any depth, are others or missing."""
    event = copy.deepcopy(sample)
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = event
        while isinstance(holder, dict) and holder:
            name = draw(st.sampled_from(sorted(holder)))
            inner = holder[name]
            if not (isinstance(inner, dict) and inner and draw(st.booleans())):
                if draw(st.booleans()):
                    holder[name] = draw(json_values)
                else:
                    del holder[name]
                break
            holder = inner
    return event


def check(event: Collected) -> None:
    """Ingestion takes it, or quarantines it and the collector knew."""
    _, reason = validated(event.value)
    if event.fault is None:
        assert reason is None, (reason, event.value)
    else:
        assert reason is not None, event.value


@pytest.mark.parametrize("vendor", MAPPERS)
@given(data=st.data())
def test_any_event_becomes_a_row_or_a_fault(vendor: str, data: st.DataObject) -> None:
    raw = json.dumps(data.draw(damaged(SAMPLES[vendor]))).encode()
    client = data.draw(st.sampled_from([VENDOR, ANONYMOUS]))
    builder = EventBuilder(MAPPERS[vendor], HookMapping(), CollectConfig())
    for event in builder.build(post(raw, client=client), raw, "message"):
        if not client.anonymous or event.fault is None:  # of an anonymous client a fault keeps no bytes
            check(event)


def signed_mailgun(body: bytes) -> Incoming:
    stamp, token = str(NOW_S), "t" * 50
    signature = {"timestamp": stamp, "token": token, "signature": mac(KEY, (stamp + token).encode()).hex()}
    return post(b'{"signature":' + json.dumps(signature).encode() + b',"event-data":' + body + b"}")


def signed_mandrill(body: bytes) -> Incoming:
    signature = base64_of(mac(KEY, URL.encode() + b"mandrill_events" + body, "sha1"))
    return post(b"mandrill_events=" + quote_from_bytes(body).encode(), {"x-mandrill-signature": signature})


def signed_hubspot(body: bytes) -> Incoming:
    signature = base64_of(mac(KEY, b"POST" + URL.encode() + body + str(NOW_MS).encode()))
    return post(body, {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(NOW_MS)})


def signed_postmark(body: bytes) -> Incoming:
    return post(body, {"authorization": f"Basic {base64_of(KEY)}"})


def signed_sns(body: bytes) -> Incoming:
    at = NOW_MS - NOW_MS % 1000
    message = notification(body.decode(errors="replace"), Timestamp="2026-09-21T14:13:20.000Z")
    return post(json.dumps(sign(message)).encode(), received_at=at)


def keyed_salesforce(body: bytes) -> Incoming:
    return post(body, query={"key": KEY.decode()})


SIGNERS: dict[str, Callable[[bytes], Incoming]] = {
    "mailgun": signed_mailgun, "mandrill": signed_mandrill, "hubspot": signed_hubspot, "postmark": signed_postmark,
    "ses": signed_sns, "salesforce": keyed_salesforce,
}  # fmt: skip


@cache
def fragments() -> list[bytes]:
    whole = [json.dumps(list(SAMPLES.values())).encode(), soap(("1", "Task", TASK)), json.dumps(EVENTS["ses"]).encode()]
    return [*whole, *(it[: len(it) // 2] for it in whole), b"[", b"]", b"{", b"}", b",", b"\xff", b'"\\ud800"', b"&x;"]


bodies = (
    st.binary(max_size=60)
    | st.lists(json_values, max_size=4).map(lambda it: json.dumps(it).encode())
    | st.lists(st.sampled_from(fragments()) | st.binary(max_size=4), max_size=5).map(b"".join)
)


@pytest.mark.parametrize("kind", SIGNERS)
@given(body=bodies)
def test_any_body_of_a_vendor_is_events_or_a_refusal(kind: str, body: bytes) -> None:
    options: dict[str, Any] = {"topic_arns": (TOPIC,)} if kind == "ses" else {}
    endpoint = make_endpoint(kind, FakeKeys(KEY), sns(), **options)
    try:
        mapped = asyncio.run(endpoint.collect(SIGNERS[kind](body)))
    except RefusedError:
        return
    for event in mapped.events:
        check(event)


@given(bodies)
def test_any_unsigned_body_is_refused(body: bytes) -> None:
    for kind in ("mailgun", "mandrill", "hubspot", "postmark", "ses", "salesforce"):
        options: dict[str, Any] = {"topic_arns": (TOPIC,)} if kind == "ses" else {}
        endpoint = make_endpoint(kind, FakeKeys(KEY), **options)
        with pytest.raises(RefusedError):
            asyncio.run(endpoint.collect(post(body)))
