"""Webhooks over HTTP, with key files: what is signed arrives as it was sent, and a refusal leaves nothing behind."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientSession

from ingestd.collect.endpoints import make_endpoints
from ingestd.collect.messages import UnavailableError
from ingestd.collect.request import RequestPath
from ingestd.collect.server import CollectServer
from ingestd.config.model import CollectConfig, CollectSource
from tests.collect.edge_world import VALIDATOR, FakeDelivery, RecordingObserver
from tests.collect.hooks_world import NOW_MS, base64_of, mac, row_of
from tests.collect.test_hooks_crm import ORGANIZATION, TASK, soap
from tests.collect.test_hooks_email import MANDRILL
from tests.collect.test_hooks_signatures import SENDGRID_BODY, SENDGRID_KEY, SENDGRID_SIGNATURE, SENDGRID_TIME_MS

PUBLIC_URL = "https://events.example.com/edge"


class HookServer:
    """A server with one webhook."""

    def __init__(self, server: CollectServer, delivery: FakeDelivery, observer: RecordingObserver) -> None:
        self.server = server
        self.delivery = delivery
        self.observer = observer
        self.url = ""
        self.session: ClientSession

    async def send(self, target: str, body: bytes = b"", method: str = "POST", **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, self.url + target, data=body, headers=named) as answer:
            return answer.status, await answer.read()


@asynccontextmanager
async def serving(
    folder: Path, kind: Any, key: bytes, now_ms: int = NOW_MS, **options: Any
) -> AsyncIterator[HookServer]:
    file = folder / "keys"
    file.write_bytes(b"# the new one\n" + key + b"\n")
    source = CollectSource(kind=kind, key_file=str(file), **options)
    config = CollectConfig(port=0, public_url=PUBLIC_URL, sources={"crm": source})
    made = make_endpoints(config, VALIDATOR)
    delivery, observer = FakeDelivery(), RecordingObserver()
    path = RequestPath(
        config, made.by_source, made.routes, delivery, observer, keys=made.keys, clock=lambda: now_ms / 1000
    )
    server = CollectServer(config, path, observer)
    world = HookServer(server, delivery, observer)
    world.url = f"http://127.0.0.1:{await server.start()}"
    async with ClientSession() as world.session:
        yield world
    await server.stop(5)


async def test_sendgrids_vector_arrives_as_it_was_signed(tmp_path: Path) -> None:
    headers = {
        "X_Twilio_Email_Event_Webhook_Signature": SENDGRID_SIGNATURE,
        "X_Twilio_Email_Event_Webhook_Timestamp": str(SENDGRID_TIME_MS // 1000),
    }
    async with serving(tmp_path, "sendgrid", SENDGRID_KEY, SENDGRID_TIME_MS) as world:
        assert await world.send("/hooks/crm", SENDGRID_BODY, **headers) == (200, b'{"success":true}')
        assert row_of(world.delivery.events[0])["event_type"] == "email_dropped"
        status, body = await world.send("/hooks/crm", SENDGRID_BODY + b" ", **headers)
        assert (status, json.loads(body)["code"]) == (401, "signature_wrong")
        assert len(world.delivery.events) == 1
        assert world.observer.requests == [("crm", 200, ""), ("crm", 401, "signature_wrong")]


async def test_hubspot_signs_the_public_url_with_its_query(tmp_path: Path) -> None:
    event = {"eventId": 1, "occurredAt": NOW_MS, "subscriptionType": "contact.creation", "objectId": 7}
    body, stamp = json.dumps([event]).encode(), str(NOW_MS)
    async with serving(tmp_path, "hubspot", b"secret") as world:
        for url, status in [(f"{PUBLIC_URL}/hooks/crm?a=b%20c", 200), (f"{world.url}/hooks/crm?a=b%20c", 401)]:
            signature = base64_of(mac(b"secret", b"POST" + url.encode() + body + stamp.encode()))
            headers = {"X_HubSpot_Signature_V3": signature, "X_HubSpot_Request_Timestamp": stamp}
            assert (await world.send("/hooks/crm?a=b%20c", body, **headers))[0] == status
        assert [row_of(event)["client_id"] for event in world.delivery.events] == ["7"]


async def test_mandrills_probe_is_answered_before_it_has_a_key(tmp_path: Path) -> None:
    text = json.dumps([MANDRILL])
    signature = base64_of(mac(b"key", f"{PUBLIC_URL}/hooks/crmmandrill_events{text}".encode(), "sha1"))
    async with serving(tmp_path, "mandrill", b"key") as world:
        assert (await world.send("/hooks/crm", method="HEAD"))[0] == 200
        assert (await world.send("/hooks/crm", method="GET"))[0] == 200
        assert world.delivery.events == []
        body = urlencode({"mandrill_events": text}).encode()
        assert (await world.send("/hooks/crm", body, X_Mandrill_Signature=signature))[0] == 200
        assert row_of(world.delivery.events[0])["event_type"] == "email_open"


async def test_salesforce_is_acknowledged_only_when_its_events_are_safe(tmp_path: Path) -> None:
    body = soap(("04l1", "Task", TASK))
    async with serving(tmp_path, "salesforce", b"s3cret", organization_id=ORGANIZATION) as world:
        world.delivery.failure = UnavailableError("no broker")
        status, answer = await world.send("/hooks/crm?key=s3cret", body, Content_Type="text/xml")
        assert (status, b"Ack" in answer) == (503, False)
        world.delivery.failure = None
        status, answer = await world.send("/hooks/crm?key=s3cret", body, Content_Type="text/xml")
        assert (status, b"<Ack>true</Ack>" in answer) == (200, True)
        assert (await world.send("/hooks/crm?key=wrong", body))[0] == 401
        assert [row_of(event)["event_id"] for event in world.delivery.events] == ["04l1"]


async def test_a_repeat_after_an_outage_is_taken_with_the_token_of_the_first_attempt(tmp_path: Path) -> None:
    stamp, token = str(NOW_MS // 1000), "t" * 50
    signature = {"timestamp": stamp, "token": token, "signature": mac(b"key", (stamp + token).encode()).hex()}
    event = {"id": "e1", "event": "opened", "timestamp": 1.5, "recipient": "a@example.com"}
    body = json.dumps({"signature": signature, "event-data": event}).encode()
    async with serving(tmp_path, "mailgun", b"key") as world:
        world.delivery.failure = UnavailableError("no broker")
        assert (await world.send("/hooks/crm", body))[0] == 503
        world.delivery.failure = None
        assert (await world.send("/hooks/crm", body))[0] == 200
        assert len(world.delivery.events) == 1
