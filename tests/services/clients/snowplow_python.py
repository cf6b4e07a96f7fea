"""snowplow-tracker sends calls: ``snowplow_python.py URL KEY``, one call as JSON in each line of stdin."""

import json
import logging
import sys
import threading
from urllib.parse import urlsplit

from snowplow_tracker import Emitter, PageView, SelfDescribing, SelfDescribingJson, StructuredEvent, Subject, Tracker

SCHEMA = "iglu:com.example/call/jsonschema/1-0-0"


def main() -> None:
    """Sends every call, and ends once all are sent."""
    url, key = sys.argv[1:]
    logging.getLogger("snowplow_tracker.emitters").setLevel(logging.WARNING)
    address = urlsplit(url)
    sent = Sent()
    emitter = Emitter(
        str(address.hostname),
        protocol="http",
        port=address.port,
        batch_size=5,
        on_success=sent.add,
        max_retry_delay_seconds=1,
        request_timeout=15,
    )
    tracker = Tracker(namespace="tests", emitters=[emitter], app_id=key)
    count = 0
    for line in sys.stdin:
        count += 1
        send(tracker, json.loads(line))
    tracker.flush()
    sent.wait_for(count)


class Sent:
    """Counts what was sent."""

    def __init__(self) -> None:
        self._count, self._changed = 0, threading.Condition()

    def add(self, payloads: list[object]) -> None:
        with self._changed:
            self._count += len(payloads)
            self._changed.notify()

    def wait_for(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count >= count)


def send(tracker: Tracker, call: dict[str, object]) -> None:
    subject = Subject()
    if user := call.get("userId"):
        subject.set_user_id(user)
    subject.set_domain_user_id(call.get("anonymousId") or call["userId"])
    properties = dict(call.get("properties") or {})  # type: ignore[call-overload]
    match call["type"]:
        case "page":
            event = PageView(
                page_url=properties["url"],
                page_title=properties.get("title"),
                referrer=properties.get("referrer"),
                event_subject=subject,
            )
        case "struct":
            event = StructuredEvent(
                category=properties["category"],
                action=call["event"],
                label=properties.get("label"),
                property_=properties.get("property"),
                value=properties.get("value"),
                event_subject=subject,
            )
        case kind:
            data = {"call": kind, "name": call.get("event"), **properties}
            event = SelfDescribing(SelfDescribingJson(SCHEMA, data), event_subject=subject)
    tracker.track(event)


if __name__ == "__main__":
    main()
