"""Validates records: canonical rows out of the good ones, a reason and a path for each of the others.

A row is encoded from the decoded event, never copied from the producer's bytes, and depends on the record alone: its
bytes, its place in the log and its Kafka timestamp. Most records are decoded once, directly into their type. A record
that fails is decoded a second time: unknown fields move into ``properties``, an unknown type becomes a
``GenericEvent``; what fails again is rejected.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import msgspec

from ingestd.core.events import ORIGIN_FIELDS, Event, GenericEvent, Model
from ingestd.core.records import Record, TopicPartition
from ingestd.core.rejections import MESSAGES, Reason, RejectedRecord, check_limits, from_msgspec, parse

ROW_MAX = 16 << 20  # bytes; the default size of a Snowflake column
FIRST_YEAR = 1582  # the first year of Snowflake's timestamps
GENERIC = "generic"  # stands for all unknown types in counts

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS = [timedelta(milliseconds=number) for number in range(1000)]
_BLOCK = 32  # records that are decoded together, and one by one if any of them fails
# A row can be almost four times as long as its event: 1e15 in a list of a user's floats is 1000000000000000.0 there.
_LARGE = ROW_MAX // 4
_ORIGIN_BYTES = 1024  # more than the longest origin, category and channel


class Rejected(NamedTuple):
    """A rejected record. `position` is its index in the chunk; `path` is the field's, as ``$.client_id``."""

    position: int
    record: Record
    reason: Reason
    path: str
    message: str


class Validated(NamedTuple):
    """The outcome of a chunk. `rows` are JSON lines, each ended by a newline; `accepted` counts them by event_type."""

    rows: bytes
    accepted: Mapping[str, int]
    rejected: list[Rejected]


class EventRules(Protocol):
    """The part of the ``events`` section of the configuration that validation reads."""

    @property
    def unknown_types(self) -> str: ...
    @property
    def naive_timestamps(self) -> str: ...
    @property
    def max_bytes(self) -> int: ...


class Validator:
    """Validates chunks of records against one model. Holds no state between chunks."""

    def __init__(self, rules: EventRules, model: Model) -> None:
        self._size_max = int(rules.max_bytes)  # comparing with a subclass takes twice as long
        self._ordinary_max = min(self._size_max, _LARGE)
        self._accept_unknown = rules.unknown_types == "accept"
        self._naive_is_utc = rules.naive_timestamps == "utc"
        self._timestamps = model.timestamps
        self._unbounded = model.unbounded
        self._check_all = any((*model.timestamps.values(), *model.unbounded.values()))
        self._counted_as: dict[type[Event], str] = {kind: tag for tag, kind in model.types.items()}
        self._counted_as[GenericEvent] = GENERIC
        self._known = {tag: _known_fields(kind) for tag, kind in model.types.items()}
        self._known_generic = _known_fields(GenericEvent)
        self._decode = _decoder(model.union)
        self._decode_generic = _decoder(GenericEvent)

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        """Validate consecutive records of `partition`. Never raises, whatever a producer sends."""
        topic, number = partition
        check_all = self._check_all
        events: list[Event] = []
        rejected: list[Rejected] = []
        second = 0  # in milliseconds, and as a time: neighbouring records mostly share it
        whole: datetime | None = _EPOCH

        def reject(record: Record, refused: RejectedRecord) -> None:
            rejected.append(Rejected(len(events) + len(rejected), record, *refused.args))

        for begin in range(0, len(records), _BLOCK):
            for record, event in self._decoded(records[begin : begin + _BLOCK], reject):
                time = event.event_timestamp
                if time.tzinfo is not UTC or time.year < FIRST_YEAR or event.properties is not None or check_all:
                    try:
                        self._check(event)
                    except RejectedRecord as refused:
                        reject(record, refused)
                        continue
                past = record.timestamp - second
                if not 0 <= past < 1000:
                    second, past = record.timestamp // 1000 * 1000, record.timestamp % 1000
                    whole = _kafka_time(second)
                event.received_at = whole + _MILLISECONDS[past] if whole is not None else None
                if event.event_category is None:
                    event.event_category = event.default_category
                if event.channel is None:
                    event.channel = event.default_channel
                event.source_topic = topic
                event.source_partition = number
                event.source_offset = record.offset
                events.append(event)
        accepted: Counter[str] = Counter()
        for kind, count in Counter(map(type, events)).items():
            accepted[self._counted_as[kind]] += count  # a user's tag may be "generic", too
        return Validated(_ENCODER.encode_lines(events), accepted, rejected)

    def _decoded(
        self, block: Sequence[Record], reject: Callable[[Record, RejectedRecord], None]
    ) -> Iterable[tuple[Record, Event]]:
        """The events of the records that are not rejected: decoded together, or one by one if any of them fails."""
        values = [record.value for record in block]
        try:
            if max(map(len, values)) <= self._ordinary_max:  # type: ignore[arg-type] # None raises, as other odd values do
                return zip(block, list(map(self._decode, values)), strict=True)  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001, S110 - a user's type may raise anything; the second attempt tells what it was
            pass
        return self._one_by_one(block, reject)

    def _one_by_one(
        self, block: Sequence[Record], reject: Callable[[Record, RejectedRecord], None]
    ) -> Iterator[tuple[Record, Event]]:
        for record in block:
            try:
                event = self._decode_any(record.value)
            except RejectedRecord as refused:
                reject(record, refused)
            else:
                yield record, event

    def _decode_any(self, value: bytes | None) -> Event:
        if value is None:
            raise RejectedRecord(Reason.NULL_VALUE, "$", "the record has no value")
        if len(value) > self._size_max:
            raise RejectedRecord(
                Reason.TOO_LARGE, "$", f"{len(value)} bytes, above events.max_bytes = {self._size_max}"
            )
        try:
            event = self._decode(value)
        except Exception:  # noqa: BLE001 - a user's type may raise anything; the second attempt tells what it was
            event = self._decode_again(value)
        if len(value) > _LARGE:
            self._check(event)  # before what follows, which cannot encode everything
            _check_row(event)
        return event

    def _check(self, event: Event) -> None:
        """Bring times to UTC, and refuse what the decoder lets pass."""
        event.event_timestamp = self._utc(event.event_timestamp, "event_timestamp")
        if event.properties is not None:
            check_limits(event.properties, "$.properties", depth=2)
        if self._check_all:
            self._check_fields(event)

    def _check_fields(self, event: Event) -> None:
        for name in self._timestamps[type(event)]:
            if (time := getattr(event, name)) is not None:
                setattr(event, name, self._utc(time, name))
        for name in self._unbounded[type(event)]:
            try:
                plain = msgspec.to_builtins(getattr(event, name), builtin_types=(Decimal,), str_keys=True)
            except RecursionError:
                raise RejectedRecord(Reason.TOO_DEEP, f"$.{name}", MESSAGES[Reason.TOO_DEEP]) from None
            check_limits(plain, f"$.{name}", depth=2)

    def _utc(self, time: datetime, name: str) -> datetime:
        if time.tzinfo is None:
            if not self._naive_is_utc:
                raise RejectedRecord(Reason.NAIVE_TIMESTAMP, f"$.{name}", "the time has no offset from UTC")
            time = datetime.combine(time, time.time(), UTC)  # as time.replace(tzinfo=UTC), in a sixth of its time
        elif time.tzinfo is not UTC:
            try:
                time = time.astimezone(UTC)
            except OverflowError:
                message = "not within the years 1 to 9999 in UTC"
                raise RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, f"$.{name}", message) from None
        if time.year < FIRST_YEAR:
            raise RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, f"$.{name}", f"before the year {FIRST_YEAR} in UTC")
        return time

    def _decode_again(self, value: bytes) -> Event:
        """Decode with unknown fields moved into ``properties``. Raises ``RejectedRecord``."""
        data = parse(value)
        check_limits(data, "$", depth=1)
        event_type = data.get("event_type")
        decode, known = self._decode, self._known_generic
        if isinstance(event_type, str):
            if event_type in self._known:
                known = self._known[event_type]
            elif self._accept_unknown:
                decode = self._decode_generic
            else:
                raise RejectedRecord(Reason.UNKNOWN_TYPE, "$.event_type", f"the model has no event_type {event_type!r}")
        # Not by msgspec.convert, which differs from the decoder: it turns 1e400 into an infinite float.
        again = _ENCODER.encode(_gather(data, known))
        try:
            return decode(again)
        except msgspec.ValidationError as error:
            raise from_msgspec(error, data) from error
        except MemoryError:
            raise
        except Exception as error:
            raise RejectedRecord(Reason.INVALID, "$", f"{type(error).__name__}: {error}") from error


_ENCODER = msgspec.json.Encoder(decimal_format="number")


def _decoder(kind: Any) -> Callable[[bytes], Event]:
    # Decimal itself, not a checking function: a call per number costs more than a check afterwards.
    return msgspec.json.Decoder(kind, float_hook=Decimal).decode


def _known_fields(kind: type[Event]) -> frozenset[str]:
    return frozenset(("event_type", *kind.__struct_encode_fields__)) - frozenset(ORIGIN_FIELDS)


def _kafka_time(milliseconds: int) -> datetime | None:
    """None if Kafka has no timestamp (-1), or none that is a valid date."""
    if milliseconds < 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


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


def _check_row(event: Event) -> None:
    if (size := len(_ENCODER.encode(event)) + _ORIGIN_BYTES) > ROW_MAX:
        raise RejectedRecord(Reason.TOO_LARGE, "$", f"a row of {size} bytes, above the {ROW_MAX} that a column holds")
