"""From a value's bytes to an event: two quick ways for what is sound, and an exact one that tells what is wrong.

``quick`` decodes into the type of the event at once, or into one that was learned from the stream. ``wide`` is for
fields that no type knows, or that are renamed: it decodes into a dict, renames, moves unknown fields into
``properties``, and decodes only the rest into the type. Both raise whatever comes where they are not sure. What they
decode, and `is_bounded` is sure of, is equal to what ``exact`` decodes, and needs none of its checks, which walk
through every value.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal
from functools import partial
from string import digits
from typing import Any, NamedTuple, TypeGuard, cast

import msgspec

from ingestd.core.events import ORIGIN_FIELDS, Event, GenericEvent, Model
from ingestd.core.learned_types import LearnedTypes
from ingestd.core.rejections import DEPTH_MAX, Reason, RejectedRecord, check_limits, from_msgspec, parse
from ingestd.core.renaming import Renaming, check_targets

ENCODER = msgspec.json.Encoder(decimal_format="number")

# Makes a Decimal that has every digit and is within a double's range, or raises. The limits are narrower than a
# double's: with 100 digits and exponents from -200 a zero such as 0e-400, which `check_limits` refuses, is clamped.
BOUNDED = Context(
    prec=100, Emin=-200, Emax=200, traps=[Clamped, Inexact, InvalidOperation, Overflow, Rounded, Subnormal]
).create_decimal
# In every 50th byte of a value: an integer beyond a double's range has 309 digits. `_DIGITS` makes zeros of them.
_STRIDE = 50
_LONG_NUMBER = b"0" * 6
_DIGITS = bytes(ord("0" if chr(byte) in digits else " ") for byte in range(256))
_SHALLOW_BYTES = 5 * DEPTH_MAX  # without arrays no deeper: {"":} around another object takes five
# To count brackets takes less than to look at how they nest, and tells enough of a short value.
_COUNTED_BYTES = 6000
_NO_BRACKETS = bytes(set(range(256)).difference(b'[]{}"'))
_LEVELS = 16


class _Kind(NamedTuple):
    """How one type of event is decoded."""

    quick: Callable[[bytes], Event]
    exact: Callable[[bytes], Event]
    known: frozenset[str]
    whole: bool  # its `__post_init__` may look at properties, so they are decoded with the rest


class EventDecoder:
    """Decodes values into events of a model. An unknown type becomes a ``GenericEvent``, if it is accepted."""

    def __init__(self, model: Model, *, accept_unknown: bool, rename: Mapping[str, str]) -> None:
        """Raises ``ConfigError`` where `rename` names a field that the model does not have."""
        check_targets(model, rename)
        self._renaming = Renaming(rename) if rename else None
        typed: Callable[[bytes], Event] = _decoder(model.union, BOUNDED)
        # What is tried first: a type knows its fields by their own names only.
        self.quick: Callable[[bytes], Event] = typed if self._renaming is None else self.wide
        self._typed_exact: Callable[[bytes], Event] = _decoder(model.union, Decimal)
        self._any: Callable[[bytes], Any] = _decoder(Any, BOUNDED)
        self._kinds = {tag: _kind(kind, typed, self._typed_exact) for tag, kind in model.types.items()}
        generic = _kind(GenericEvent, _decoder(GenericEvent, BOUNDED), _decoder(GenericEvent, Decimal))
        self._generic = generic if accept_unknown else None
        self._learned = LearnedTypes(model, partial(_decoder, float_hook=BOUNDED))
        self._untyped = generic._replace(exact=self._typed_exact)  # whose event_type is no text, as the model will say

    def wide(self, value: bytes) -> Event:
        """The event in `value`, which `is_bounded` has still to judge. Raises anything, ``RejectedRecord`` for good."""
        data = self._any(value)
        if self._renaming is not None:
            self._renaming.apply(data)
        event_type = data["event_type"]
        kind = self._kinds.get(event_type, self._generic)
        if kind is None or type(event_type) is not str:
            raise ValueError
        properties = data.pop("properties", None)
        if moved := sorted([key for key in data if key not in kind.known]):
            self._learn(event_type, moved)
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

    def _learn(self, event_type: str, unknown: Sequence[str]) -> None:
        if self._renaming is None and (decode := self._learned.decoder_after(event_type, unknown)) is not None:
            self.quick = decode

    def exact(self, value: bytes) -> Event:
        """The event in `value`, whose numbers and depth are still to be checked. Raises ``RejectedRecord``."""
        if self._renaming is None:
            with suppress(Exception):  # a user's type may raise anything; what follows tells what it was
                return self._typed_exact(value)
        return self._gathered(value)

    def _gathered(self, value: bytes) -> Event:
        """With unknown fields moved into ``properties``."""
        data = parse(value)
        if self._renaming is not None:
            self._renaming.apply(data)
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
    return not _has_long_number(value) and (
        (len(value) < _COUNTED_BYTES and value.count(b"{") + value.count(b"[") < DEPTH_MAX)
        or nests_little(value)
        or _is_shallow(properties)
    )


def nests_little(value: bytes) -> bool:
    """Whether the brackets of valid JSON alone prove that it is not deep, without a look at each container.

    A string without a bracket leaves two quotes side by side, and one with a bracket leaves a quote behind, as long as
    no quote is escaped. Each round removes one level at least and two at most.
    """
    if b'\\"' in value:
        return False
    brackets = value.translate(None, _NO_BRACKETS).replace(b'""', b"")
    for _ in range(_LEVELS):
        if not brackets:
            return True
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return False


def are_bounded(values: Sequence[bytes | None], size_max: int) -> TypeGuard[Sequence[bytes]]:
    """Whether, by one look at all of them, no value is too large, and `is_bounded` holds for those that are objects."""
    if not all(values):
        return False
    present = cast("Sequence[bytes]", values)
    if max(map(len, present)) > min(size_max, _SHALLOW_BYTES):
        return False
    joined = b"".join(present)
    return b"[" not in joined and not _has_long_number(joined)


def _has_long_number(value: bytes) -> bool:
    return _LONG_NUMBER in value[::_STRIDE].translate(_DIGITS)


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
    """`data` with its unknown keys moved into ``properties``, sorted: a key that exists there gets a "_" prefix."""
    unknown = sorted([key for key in data if key not in known])
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
