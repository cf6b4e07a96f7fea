"""From a value's bytes to an event: two quick ways for what is sound, and an exact one that tells what is wrong.

``typed`` decodes into the type of the event at once. ``wide`` is for fields that the type does not know: it decodes
into a dict, moves them into ``properties``, and decodes only the rest into the type. Both raise whatever comes where
they are not sure. What they decode, and `is_bounded` is sure of, is equal to what ``exact`` decodes, and needs none of
its checks, which walk through every value.
"""

import re
from collections.abc import Callable
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal
from typing import Any, NamedTuple

import msgspec

from ingestd.core.events import ORIGIN_FIELDS, Event, GenericEvent, Model
from ingestd.core.rejections import DEPTH_MAX, Reason, RejectedRecord, check_limits, from_msgspec, parse

ENCODER = msgspec.json.Encoder(decimal_format="number")

# Makes a Decimal that has every digit and is within a double's range, or raises. The limits are narrower than a
# double's: with 100 digits and exponents from -200 a zero such as 0e-400, which `check_limits` refuses, is clamped.
BOUNDED = Context(
    prec=100, Emin=-200, Emax=200, traps=[Clamped, Inexact, InvalidOperation, Overflow, Rounded, Subnormal]
).create_decimal
# In every 50th byte of a value: an integer beyond a double's range has 309 digits.
_STRIDE = 50
_LONG_NUMBER = re.compile(rb"[0-9]{6}")


class _Kind(NamedTuple):
    """How one type of event is decoded."""

    quick: Callable[[bytes], Event]
    exact: Callable[[bytes], Event]
    known: frozenset[str]
    whole: bool  # its `__post_init__` may look at properties, so they are decoded with the rest


class EventDecoder:
    """Decodes values into events of a model. An unknown type becomes a ``GenericEvent``, if it is accepted."""

    def __init__(self, model: Model, *, accept_unknown: bool) -> None:
        self.typed: Callable[[bytes], Event] = _decoder(model.union, BOUNDED)
        self._typed_exact: Callable[[bytes], Event] = _decoder(model.union, Decimal)
        self._any: Callable[[bytes], Any] = _decoder(Any, BOUNDED)
        self._kinds = {tag: _kind(kind, self.typed, self._typed_exact) for tag, kind in model.types.items()}
        generic = _kind(GenericEvent, _decoder(GenericEvent, BOUNDED), _decoder(GenericEvent, Decimal))
        self._generic = generic if accept_unknown else None
        self._untyped = generic._replace(exact=self._typed_exact)  # whose event_type is no text, as the model will say

    def wide(self, value: bytes) -> Event:
        """The event in `value`, which `is_bounded` has still to judge. Raises anything, ``RejectedRecord`` for good."""
        data = self._any(value)
        event_type = data["event_type"]
        kind = self._kinds.get(event_type, self._generic)
        if kind is None or type(event_type) is not str:
            raise ValueError
        properties = data.pop("properties", None)
        if moved := [key for key in data if key not in kind.known]:
            if properties is None:
                properties = {}
            elif not properties.keys().isdisjoint(moved):
                raise ValueError
            for key in moved:
                properties[key] = data.pop(key)
        if kind.whole or type(properties) is not dict:
            data["properties"] = properties
        try:
            event = kind.quick(ENCODER.encode(data))
        except msgspec.ValidationError as error:
            if isinstance(properties, dict | None) and is_bounded(value, properties or {}):
                raise from_msgspec(error, data) from error
            raise
        if "properties" not in data:
            event.properties = properties
        return event

    def exact(self, value: bytes) -> Event:
        """The event in `value`, whose numbers and depth are still to be checked. Raises ``RejectedRecord``."""
        try:
            return self._typed_exact(value)
        except Exception:  # noqa: BLE001 - a user's type may raise anything; what follows tells what it was
            return self._gathered(value)

    def _gathered(self, value: bytes) -> Event:
        """With unknown fields moved into ``properties``."""
        data = parse(value)
        check_limits(data, "$", depth=1)
        event_type = data.get("event_type")
        kind = self._kinds.get(event_type, self._generic) if isinstance(event_type, str) else self._untyped
        if kind is None:
            raise RejectedRecord(Reason.UNKNOWN_TYPE, "$.event_type", f"the model has no event_type {event_type!r}")
        # Not by msgspec.convert, which differs from the decoder: it turns 1e400 into an infinite float.
        again = ENCODER.encode(_gather(data, kind.known))
        try:
            return kind.exact(again)
        except msgspec.ValidationError as error:
            raise from_msgspec(error, data) from error
        except MemoryError:
            raise
        except Exception as error:
            raise RejectedRecord(Reason.INVALID, "$", f"{type(error).__name__}: {error}") from error


def is_bounded(value: bytes, properties: dict[str, Any]) -> bool:
    """Whether it is sure that no integer in `value` is beyond a double's range, and its `properties` not too deep."""
    return not _LONG_NUMBER.search(value[::_STRIDE]) and (
        value.count(b"{") + value.count(b"[") < DEPTH_MAX or _is_shallow(properties)
    )


def _is_shallow(properties: dict[str, Any]) -> bool:
    level: list[Any] = [properties]
    for _ in range(DEPTH_MAX - 1):  # the event itself is the first
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return True
    return False


def _decoder(kind: Any, float_hook: Callable[[str], Decimal]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind, float_hook=float_hook).decode


def _kind(kind: type[Event], quick: Callable[[bytes], Event], exact: Callable[[bytes], Event]) -> _Kind:
    known = frozenset(("event_type", *kind.__struct_encode_fields__)) - frozenset(ORIGIN_FIELDS)
    return _Kind(quick, exact, known, hasattr(kind, "__post_init__"))


def _gather(data: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """`data` with its unknown keys moved into ``properties``: a key that exists there gets a "_" prefix."""
    unknown = [key for key in data if key not in known]
    rest = {key: value for key, value in data.items() if key in known}
    properties = rest.get("properties")
    if not unknown or not isinstance(properties, dict | None):
        return rest
    properties = dict(properties or {})
    beyond: dict[str, str] = {}  # the next name to try after a taken one: a walk over each "_" would be quadratic
    for key in unknown:
        free, taken = key, []
        while free in properties:
            taken.append(free)
            free = beyond.get(free) or f"_{free}"
        beyond.update(dict.fromkeys(taken, free))
        properties[free] = data[key]
    return rest | {"properties": properties}
