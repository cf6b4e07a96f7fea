"""Segment's or RudderStack's SDK sends calls: ``analytics_python.py PACKAGE URL KEY``, one in each line of stdin.

RudderStack's began as a copy of Segment's, so both have the same calls.
"""

import json
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    """Sends every call, and ends once all are sent or given up."""
    package, url, key = sys.argv[1:]
    client = import_module(f"{package}.analytics.client").Client(
        key, host=url, on_error=fail, gzip=True, upload_size=5, upload_interval=0.1
    )
    for line in sys.stdin:
        send(client, json.loads(line))
    client.shutdown()


def send(client: Any, call: dict[str, object]) -> None:
    who = {"user_id": call.get("userId"), "anonymous_id": call.get("anonymousId")}
    match call["type"]:
        case "track":
            client.track(event=call["event"], properties=call.get("properties"), **who)
        case "page" | "screen" as kind:
            getattr(client, kind)(name=call.get("name"), properties=call.get("properties"), **who)
        case "identify":
            client.identify(traits=call.get("traits"), **who)
        case "group":
            client.group(group_id=call["groupId"], traits=call.get("traits"), **who)
        case "alias":
            client.alias(previous_id=call["previousId"], user_id=call["userId"])


def fail(error: Exception, items: list[object]) -> None:
    sys.stderr.write(f"{len(items)} calls were given up: {error}\n")


if __name__ == "__main__":
    main()
