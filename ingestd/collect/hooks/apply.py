"""Builds events of the model from a vendor's event, its built-in mapping and the source's mapping file. Pure."""

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from ingestd.collect.bots import is_bot
from ingestd.collect.hooks.found import Found, hashed_address, parts_id, to_seconds, to_time
from ingestd.collect.hooks.json_paths import Path, find
from ingestd.collect.hooks.mapping_file import HookMapping
from ingestd.collect.mapping import Draft, UnmappableError, decode, keep, limited, make_event
from ingestd.collect.mapping import collect as collect_or_keep
from ingestd.collect.messages import Client, Collected, Incoming
from ingestd.collect.privacy import truncate
from ingestd.config.model import CollectConfig
from ingestd.core.rejections import Reason

Vendor = Callable[[dict[str, Any]], list[Found]]
"""Maps a vendor's event, whose members it may take away."""


class EventBuilder:
    """Builds the events of one source."""

    def __init__(self, vendor: Vendor | None, mapping: HookMapping, config: CollectConfig) -> None:
        """`vendor` is None for senders that only the mapping file knows."""
        self._vendor = vendor
        self._mapping = mapping
        self._ip = config.ip
        self._max_event = int(config.max_event)
        self._flags_bots = config.bots == "flag"

    def build(self, request: Incoming, raw: bytes, event_id: str | None = None) -> list[Collected]:
        """The events in `raw`, which is a JSON object; `raw` itself and a fault where it cannot be mapped.

        `event_id` is that of the request, for vendors whose events have none.
        """
        built: list[Collected] = []

        def make() -> Collected:
            data = decode(raw)
            for number, found in enumerate(self._found(data)):
                if event_id is not None and found.draft.event_id is None:
                    found.draft.event_id = f"{event_id}:{number}" if number else event_id
                built.append(self._event(request, raw, found))
            return built[0]

        whole = collect_or_keep(raw, request.client, make)
        return built if whole.fault is None else [whole]  # all of a message, or its bytes

    def _found(self, data: dict[str, Any]) -> list[Found]:
        fields = self._mapping.fields
        taken = {name: _look(data, paths) for name, paths in fields.items() if name != "event_id"}
        parts = [find(data, path) for path in fields.get("event_id", ())]
        if self._vendor is not None:
            found = self._vendor(data)
        else:
            for name, paths in fields.items():
                if name != "event_id" or len(paths) == 1:
                    _remove(data, paths)
            found = [Found(draft=Draft(event_type=None, client_id=None, properties=data))]
        for one in found:
            self._apply(one, taken, parts)
        return found

    def _apply(self, found: Found, taken: Mapping[str, Any], parts: list[Any]) -> None:
        mapping, draft = self._mapping, found.draft
        for name, value in mapping.constants.items():
            if name in _COLUMNS:
                setattr(draft, name, value)
            else:
                keep(draft.properties, name, value)
        for name, value in taken.items():
            if value is None:
                continue
            if name == "timestamp":
                draft.timestamp = to_time(value, mapping.timestamp)
            elif name == "duration_s":
                draft.duration_s = to_seconds(value, mapping.duration)
            else:
                setattr(draft if name in _COLUMNS else found, name, value)
        if parts:
            draft.event_id = parts_id(*parts)
        word = draft.event_type if self._vendor is None else draft.properties.get("vendor_event")
        if type(word) in (str, int) and (known := mapping.event_types.get(str(word))) is not None:
            if self._vendor is None:
                keep(draft.properties, "vendor_event", word)
            draft.event_type = known

    def _event(self, request: Incoming, raw: bytes, found: Found) -> Collected:
        draft = found.draft
        if draft.client_id in (None, ""):
            draft.client_id = hashed_address(found.email)
        if found.email is not None:
            keep(draft.properties, "email", found.email)
        agent = found.user_agent
        if agent is not None and type(agent) is not str:
            raise UnmappableError(Reason.WRONG_TYPE)
        client = Client(
            ip=shown_address(found.ip, self._ip),
            user_agent=agent or "",
            is_bot=self._flags_bots and agent is not None and is_bot(agent),
            anonymous=request.client.anonymous,
        )
        return limited(make_event(raw, request.received_at, client, draft), self._max_event)


_COLUMNS = frozenset(Draft.__struct_fields__) - {"properties"}


def shown_address(address: object, rule: str) -> str | None:
    """A person's address by the rule of ``collect.ip``: truncate, drop, keep. None for what is no address."""
    if type(address) is not str or rule == "drop" or len(address) > 64:
        return None
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return str(truncate(parsed) if rule == "truncate" else parsed)


def _look(data: Any, paths: tuple[Path, ...]) -> Any:
    return next((value for path in paths if (value := find(data, path)) is not None), None)


def _remove(data: Any, paths: tuple[Path, ...]) -> None:
    """Remove what `_look` has found: it is a column then, and no property."""
    path = next((path for path in paths if find(data, path) is not None), ())
    if path and type(holder := find(data, path[:-1])) is dict:
        holder.pop(path[-1], None)
