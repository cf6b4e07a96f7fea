"""RudderStack's API: Segment's messages, its beacon, its pixels, and the configuration that its SDKs ask for first."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ingestd.collect.mapping import collect
from ingestd.collect.messages import Collected, Incoming, Mapped, Reply, Route
from ingestd.collect.pixel import PICTURE
from ingestd.collect.sdk.segment import SegmentEndpoint, basic_user, find_key
from ingestd.config.model import CollectConfig, CollectSource

_QUOTED = re.compile(r'"(.*)"', re.DOTALL)
_STEPS_MAX = 10
_ENCODE = msgspec.json.Encoder().encode


class RudderEndpoint(SegmentEndpoint):
    """Takes what RudderStack's SDKs send."""

    reply = Reply(200, b"OK", "text/plain")

    def __init__(self, name: str, source: CollectSource, config: CollectConfig) -> None:
        super().__init__(name, source, config)
        self._name = name

    async def collect(self, request: Incoming) -> Mapped:
        """The events of the request, one for each of its messages; none of a question for the configuration."""
        if request.path.startswith("/sourceConfig"):
            key = basic_user(request.headers.get("authorization", "")) or request.query.get("writeKey") or ""
            return Mapped((), Reply(200, source_config(self._name, key), headers={"Cache-Control": "no-store"}))
        if request.path.startswith("/pixel/"):
            return Mapped([self._pixel(request)], PICTURE)
        return await super().collect(request)

    def _pixel(self, request: Incoming) -> Collected:
        message = pixel_message(request.query)
        raw = _ENCODE(message)
        kind = request.path.rstrip("/").rpartition("/")[2]

        def make() -> Collected:
            return self.event(raw, message, kind, request)

        return collect(raw, request.client, make)


def pixel_message(query: Mapping[str, str]) -> dict[str, Any]:
    """The message in a pixel's query, where dots in names stand for objects: ``properties.price=5``."""
    message: dict[str, Any] = {}
    for name, value in query.items():
        if name == "writeKey":
            continue
        *path, last = _clean(name).split(".", _STEPS_MAX)
        holder = message
        for step in path:
            inner = holder.setdefault(step, {})
            if type(inner) is not dict:  # a=1&a.b=2
                holder, last = message, _clean(name)
                break
            holder = inner
        while last in holder:
            last = f"_{last}"
        holder[last] = _clean(value)
    anonymous = message.get("anonymousId")
    if type(anonymous) is str and (quoted := _QUOTED.fullmatch(anonymous)):
        message["anonymousId"] = quoted[1]
    return message


def source_config(name: str, key: str) -> bytes:
    """What an SDK needs to start: a source that is enabled, and no destination that it would send to by itself."""
    nothing = {"enabled": False}
    source = {
        "id": name,
        "name": name,
        "writeKey": key,
        "enabled": True,
        "workspaceId": "ingestd",
        "createdBy": "ingestd",
        "createdAt": "2020-01-01T00:00:00.000Z",
        "updatedAt": "2020-01-01T00:00:00.000Z",
        "config": {"statsCollection": {"errors": nothing, "metrics": nothing}},
        "dataplanes": {},  # none: the SDK keeps the URL that it was loaded with
        "destinations": [],
        "connections": [],
    }
    return _ENCODE({"isHosted": True, "source": source})


def _clean(text: str) -> str:
    """`text` without surrogates, which bytes of a URL that are not UTF-8 may have become."""
    return text.encode("utf-8", "replace").decode()


_KINDS = ("rudderstack",)
ROUTES = (
    Route("POST", "/beacon/v1/batch", _KINDS, find_key, cross_origin=True),
    Route("GET", "/sourceConfig/", _KINDS, find_key, cross_origin=True),
    Route("GET", "/sourceConfig", _KINDS, find_key, cross_origin=True),
    Route("GET", "/pixel/v1/track", _KINDS, find_key, cross_origin=True, refused=PICTURE),
    Route("GET", "/pixel/v1/page", _KINDS, find_key, cross_origin=True, refused=PICTURE),
)
