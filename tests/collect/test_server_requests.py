"""Requests of the collector on a real socket: what is taken, what is refused, and what is promised by 200."""

import asyncio
import gzip
import logging
from pathlib import Path

import pytest

from ingestd.collect.keys import Keys
from ingestd.collect.messages import RefusedError, UnavailableError
from ingestd.collect.observer import REFUSED
from ingestd.collect.pixel import GIF
from ingestd.collect.request import ENDPOINT_FAILED
from ingestd.config.types import Size
from tests.collect.edge_world import EVENT, NOW, FakeClock, event, vanish, world


async def test_answers_200_only_after_the_delivery() -> None:
    async with world() as it:
        it.delivery.open.clear()
        request = asyncio.create_task(it.post("/v1/events?key=api", EVENT))
        await it.delivery.entered.wait()
        await it.post("/v1/events?key=api", b"[]")  # by now an answer that does not wait would be here
        assert not request.done()
        it.delivery.open.set()
        status, body, headers = await request
        assert (status, body, headers["Ingestd-Ack"]) == (200, {"success": True}, "kafka")
        assert it.delivery.batches == [("api", int(NOW * 1000), it.delivery.events)]
        assert it.observer.requests == [("api", 200, "")] * 2
        assert it.observer.outcomes == [("api", "delivered", 1)]
        assert len(it.observer.deliveries) == 1


@pytest.mark.parametrize("failure", [UnavailableError("no broker"), RuntimeError("a defect")])
async def test_events_that_may_not_be_safe_are_503_with_retry_after(failure: Exception) -> None:
    async with world() as it:
        it.delivery.failure = failure
        status, body, headers = await it.post("/v1/events?key=api", EVENT)
        assert (status, body["success"], body["code"]) == (503, False, "unavailable")
        assert int(headers["Retry-After"]) > 0
        assert "Ingestd-Ack" not in headers
        assert "no broker" not in str(body)
        assert "a defect" not in str(body)
        assert it.observer.outcomes == [("api", "unavailable", 1)]


async def test_events_of_a_request_are_delivered_in_its_order() -> None:
    async with world() as it:
        many = [event(number) for number in range(100)]
        await it.post("/v1/events?key=api", b"[" + b",".join(many) + b"]")
        await it.post("/v1/events?key=api", b"\n".join(many))
        assert it.delivery.values == many * 2
        assert len(it.delivery.batches) == 2


async def test_a_request_without_events_is_not_delivered() -> None:
    async with world() as it:
        status, _, headers = await it.post("/v1/events?key=api", b"[]")
        assert status == 200
        assert "Ingestd-Ack" not in headers
        assert not it.delivery.batches


async def test_what_an_endpoint_cannot_map_by_a_defect_of_ours_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as it:
        it.kept.failure = RuntimeError("a defect")
        for _ in range(3):
            status, body, _ = await it.post("/kept?key=app", b'{"a":1}')
            assert (status, body) == (200, {"success": True})
        assert [(one.value, one.fault) for one in it.delivery.events] == [(b'{"a":1}', ENDPOINT_FAILED)] * 3
        assert caplog.text.count("source app failed") == 1
        assert it.observer.outcomes[0] == ("app", ENDPOINT_FAILED, 1)


async def test_what_the_topic_refuses_for_good_is_not_to_be_sent_again() -> None:
    async with world() as it:
        it.delivery.failure = RefusedError(413, "refused_by_topic", "it is too large")
        status, body, headers = await it.post("/v1/events?key=api", EVENT)
        assert (status, body["code"]) == (413, "refused_by_topic")
        assert "Retry-After" not in headers
        assert it.observer.outcomes == [("api", REFUSED, 1)]


async def test_a_webhook_whose_proof_failed_by_a_defect_of_ours_is_not_taken() -> None:
    async with world() as it:
        it.hook.failure = RuntimeError("a defect")
        status, _, headers = await it.post("/hooks/crm", b'{"a":1}')
        assert status == 503
        assert "Retry-After" in headers
        assert not it.delivery.batches


async def test_a_refused_request_stores_nothing() -> None:
    async with world() as it:
        it.hook.failure = RefusedError(403, "signature", "wrong signature", {"X-Why": "x"})
        status, body, headers = await it.post("/hooks/crm", b"{}")
        assert (status, body["code"], headers["X-Why"]) == (403, "signature", "x")
        assert not it.delivery.batches
        assert it.observer.requests == [("crm", 403, "signature")]


async def test_a_client_that_goes_away_does_not_stop_the_delivery() -> None:
    async with world() as it:
        it.delivery.open.clear()
        _, writer = await it.connect()
        writer.write(b"POST /v1/events?key=api HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(EVENT) + EVENT)
        await it.delivery.entered.wait()
        vanish(writer)
        await it.until_no_connection()
        it.delivery.open.set()
        await it.delivery.left.wait()
        assert it.delivery.values == [EVENT]


async def test_no_event_is_cut() -> None:
    async with world() as it:
        large = b'{"client_id":"c","x":"' + b"x" * 500_000 + b'"}'
        status, _, _ = await it.post("/v1/events?key=api", b"[" + large + b"," + EVENT + b"]")
        assert status == 200
        assert it.delivery.values == [large, EVENT]


async def test_the_key_is_found_in_headers_query_and_body(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# rotated\nsecret-1\nsecret-2\n")
    keys = Keys(file)
    basic = "Basic c2VjcmV0LTI6"  # secret-2:
    async with world({"app": keys}) as it:
        for target, headers, body, expected in (
            ("/kept?key=secret-1", {}, b"{}", 200),
            ("/kept", {"Authorization": "Bearer secret-1"}, b"{}", 200),
            ("/kept", {"Authorization": basic}, b"{}", 200),
            ("/kept", {}, b'{"writeKey":"secret-2"}', 200),
            ("/kept", {}, b'{"writeKey":"secret-3"}', 401),
            ("/kept?key=app", {}, b"{}", 401),  # the name is the key only where there is no file
            ("/kept?key=web", {}, b"{}", 401),  # of another kind
            ("/kept", {"Authorization": "Basic !!"}, b"{}", 401),
            ("/kept", {}, b"[not json", 401),
            ("/kept", {}, b"", 401),
        ):
            status, answer, _ = await it.post(target, body, headers=headers)
            assert status == expected, (target, headers, body)
            assert "secret" not in str(answer)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/hooks/none", 404),
        ("POST", "/hooks/web", 404),
        ("POST", "/hooks/crm/x", 404),
        ("DELETE", "/v1/events", 405),
        ("GET", "/v1/events", 405),
        ("HEAD", "/hooks/crm", 200),
        ("GET", "/hooks/crm", 200),
        ("HEAD", "/pixel.gif", 200),
        ("OPTIONS", "/v1/events", 204),
        ("GET", "/openapi.json", 200),
        ("HEAD", "/openapi.json", 200),
        ("POST", "/v1/events?" + "a=1&" * 300, 400),
    ],
)
async def test_paths_and_methods(method: str, path: str, status: int) -> None:
    async with world() as it:
        found, _, headers = await it.request(method, path)
        assert found == status
        assert ("Allow" in headers) == (status in {204, 405})
        assert headers["Server"] == "ingestd"
        assert not it.delivery.batches


async def test_a_source_above_its_rate_is_429_until_its_tokens_are_back() -> None:
    clock = FakeClock()
    async with world(clock=clock, rate=60) as it:
        await it.post("/v1/events?key=api", b"\n".join(event(number) for number in range(15)))  # 5 into debt
        status, body, headers = await it.post("/v1/events?key=api", EVENT)
        assert (status, body["code"], headers["Retry-After"]) == (429, "rate", "6")
        assert (await it.post("/v1/events?key=web", EVENT))[0] == 200  # another source
        clock.now += 6
        assert (await it.post("/v1/events?key=api", EVENT))[0] == 200
        assert len(it.delivery.events) == 17


async def test_a_refused_signature_takes_no_tokens_of_its_source() -> None:
    async with world(clock=FakeClock()) as it:
        it.hook.failure = RefusedError(403, "signature", "wrong signature")
        for _ in range(20_000 // 100):
            await it.post("/hooks/crm", b"{}")
        it.hook.failure = None
        assert (await it.post("/hooks/crm", b"{}"))[0] == 200


async def test_a_picture_comes_also_where_the_event_is_refused_or_not_safe() -> None:
    async with world() as it:
        for target in ("/i?key=web&client_id=c", "/pixel.gif?key=web", "/i?key=none", "/i"):
            status, body, headers = await it.request("GET", target)
            assert (status, body, headers["Content-Type"]) == (200, GIF, "image/gif")
            assert "no-store" in headers["Cache-Control"]
            assert ("Ingestd-Ack" in headers) == ("key=web" in target)
        it.delivery.failure = UnavailableError("no broker")
        status, body, headers = await it.request("GET", "/i?key=web")
        assert (status, body) == (200, GIF)
        assert "Ingestd-Ack" not in headers
        assert it.observer.requests[-1] == ("web", 503, "unavailable")
        assert len(it.delivery.events) == 2


async def test_no_answer_and_no_log_has_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ingestd")
    async with world() as it:
        for target in ("/v1/events?key=topsecret", "/kept?key=topsecret", "/nowhere?key=topsecret"):
            _, body, headers = await it.post(target, EVENT, headers={"Authorization": "Bearer topsecret"})
            assert "topsecret" not in f"{body}{headers}"
    assert "topsecret" not in caplog.text


@pytest.mark.parametrize("preference", ["drop", "anonymise", "ignore"])
async def test_a_client_that_wants_no_identifiers_kept(preference: str) -> None:
    async with world(gpc=preference) as it:
        status, _, _ = await it.post("/v1/events?key=api", EVENT, headers={"Sec-GPC": "1"})
        assert status == 200
        if preference == "drop":
            assert not it.delivery.batches
            assert it.observer.outcomes == [("api", "dropped", 1)]
        else:
            kept = it.delivery.events[0]
            assert (b"c1" in kept.value) == (preference == "ignore")
            assert kept.key == (b"c1" if preference == "ignore" else None)


async def test_the_request_that_an_endpoint_gets() -> None:
    async with world(public_url="https://e.example.com/in/", trusted_proxies=("127.0.0.0/8",)) as it:
        headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.77", "X-One": "a", "User-Agent": "Googlebot/2.1"}
        await it.post("/hooks/crm?a=1&b=%C3%A4&a=2", b"{}", headers=headers)
        seen = it.hook.seen[0]
        assert seen.url == "https://e.example.com/in/hooks/crm?a=1&b=%C3%A4&a=2"
        assert (seen.source, seen.method, seen.path) == ("crm", "POST", "/hooks/crm")
        assert seen.query == {"a": "1", "b": "ä"}
        assert seen.headers["x-one"] == "a"
        assert (seen.client.ip, seen.client.is_bot, seen.client.anonymous) == ("198.51.100.0", True, False)
        assert seen.received_at == int(NOW * 1000)


SDK_METRICS = b'{"series":[{"type":"Counter","metric":"analytics_js.invoke","value":1,"tags":{"method":"track"}}]}'


async def test_what_an_sdk_measures_of_itself_is_answered_and_counted_but_not_kept() -> None:
    async with world() as it:
        page = {"Origin": "https://www.example.com", "Content-Type": "text/plain"}
        status, body, headers = await it.post("/v1/m", SDK_METRICS, headers=page)
        assert (status, body) == (200, {"success": True})
        assert headers["Access-Control-Allow-Origin"] == "https://www.example.com"
        assert "Ingestd-Ack" not in headers
        assert it.observer.requests == [("", 200, "discarded")]
        assert not it.kept.seen
        assert not it.delivery.batches


async def test_what_is_discarded_is_within_the_limits_of_all_requests() -> None:
    async with world(max_body=Size(1024)) as it:
        evil = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
        assert (await it.post("/v1/m", SDK_METRICS, headers=evil))[0] == 403
        assert (await it.post("/v1/m", bytes(1025)))[0] == 413
        assert (await it.post("/v1/m", gzip.compress(bytes(1025))))[0] == 413
        assert it.server.bytes_in_flight == 0
