"""The requests that senders send. Pure."""

from typing import NamedTuple

EVENT = (
    b'{"event_id":"0191f4c2-7d1e-7c3a-9a53-3f1d2b7c9e11","client_id":"c-1234567","event_type":"web_visit",'
    b'"event_timestamp":"2026-01-01T00:00:00.000Z","page_url":"https://www.example.com/funds/global?utm_source=mail",'
    b'"session_id":"s-98765","device_type":"phone","campaign_id":"spring","consent":true,"properties":{"title":"Funds"}}'
)
_USER_AGENT = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0"
_FIELDS = (
    b"Host: e.example.com\r\nUser-Agent: " + _USER_AGENT + b"\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en\r\nReferer: https://www.example.com/funds\r\n"
)
_BATCH = 50


class Request(NamedTuple):
    """One kind of request. `events` is how many it has."""

    name: str
    events: int
    text: bytes


def _post(key: bytes, body: bytes) -> bytes:
    head = b"POST /v1/events?key=" + key + b" HTTP/1.1\r\n" + _FIELDS + b"Origin: https://www.example.com\r\n"
    return head + b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body


PIXEL = Request(
    "pixel",
    1,
    b"GET /i?key=web&client_id=c-1234567&event_id=e-1&campaign_id=spring HTTP/1.1\r\n" + _FIELDS + b"\r\n",
)
PAGE = Request("one event of a page", 1, _post(b"web", EVENT))
ONE = Request("one event", 1, _post(b"api", EVENT))
BATCH = Request("batch of 50", _BATCH, _post(b"api", b"[" + b",".join([EVENT] * _BATCH) + b"]"))
#: A request whose headers never end.
UNENDED = b"POST /v1/events?key=api HTTP/1.1\r\n" + _FIELDS
