"""Validates records: canonical rows out of the good ones, a reason and a path for each of the others.

A row is encoded from the decoded event, never copied from the producer's bytes, and depends on the record alone: its
bytes, its place in the log and its Kafka timestamp. Records are decoded and encoded in small blocks, whose objects are
still in the processor's cache when they are encoded.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import msgspec

from ingestd.core.decoding import ENCODER, EventDecoder, is_bounded
from ingestd.core.events import Event, GenericEvent, Model
from ingestd.core.learned_types import model_type
from ingestd.core.record_fields import RecordFields, check_fields
from ingestd.core.records import Record, TopicPartition, refusals
from ingestd.core.rejections import MESSAGES, Reason, RejectedRecord, check_limits
from ingestd.core.row_origin import SET_ORIGIN, MessageRecord, RowOrigin
from ingestd.core.values.base import ValueSource

ROW_MAX = 16 << 20  # bytes; the default size of a Snowflake column
FIRST_YEAR = 1582  # the first year of Snowflake's timestamps
GENERIC = "generic"  # stands for all unknown types in counts

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS = [timedelta(milliseconds=number) for number in range(1000)]
# Records are decoded and encoded in blocks of about so many bytes, whose objects fit the processor's cache; each block
# has a cost of its own, which counts where events are small.
_BLOCK_BYTES, _SMALLEST_BLOCK, _LARGEST_BLOCK = 40 << 10, 32, 128
# A row can be almost four times as long as its event: 1e15 in a list of a user's floats is 1000000000000000.0 there.
LARGE = ROW_MAX // 4
ORIGIN_BYTES = 1024  # more than the longest origin, category and channel

Row = TypeVar("Row", bound=msgspec.Struct)
Why = tuple[Any, ...]  # the arguments of `RejectedRecord`: the exception itself has its frames


class Rejected(NamedTuple):
    """A rejected record. `path` is the field's, as ``$.client_id``.

    `position` is its index in the chunk, in which skipped records do not count.
    """

    position: int
    record: Record
    reason: Reason
    path: str
    message: str


class Validated(NamedTuple):
    """The outcome of a chunk: `blocks` of JSON lines, each ended by a newline; `accepted` counts by event_type."""

    blocks: Sequence[bytes]  # not joined: the copy would be as large as the chunk, and be copied again
    accepted: Mapping[str, int]
    rejected: list[Rejected]
    skipped: int = 0  # tombstones, which are neither

    @property
    def rows(self) -> bytes:
        """All lines."""
        return b"".join(self.blocks)

    @property
    def row_bytes(self) -> int:
        """The size of all lines."""
        return sum(map(len, self.blocks))


class EventRules(Protocol):
    """The part of the ``events`` section of the configuration that validation reads."""

    @property
    def unknown_types(self) -> str: ...
    @property
    def naive_timestamps(self) -> str: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def include(self) -> Sequence[str]: ...
    @property
    def rename(self) -> Mapping[str, str]: ...
    @property
    def tombstones(self) -> str: ...


class Validator(Protocol):
    """Makes rows of records. What it remembers between chunks changes no row."""

    @property
    def origin(self) -> RowOrigin: ...

    @property
    def values(self) -> ValueSource | None:
        """What makes JSON of values in other formats; None: they are JSON."""
        ...

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        """Validate consecutive records of `partition`. Never raises, whatever a producer sends."""
        ...


class _Undecoded(Event):
    """Stands for an event that no quick way could decode. It is before the first year, so that it is checked."""

    why: Any = None  # a `Why`, where it is known


_UNDECODED: dict[str, Any] = {"event_id": "", "client_id": "", "event_timestamp": datetime.min.replace(tzinfo=UTC)}


class EventValidator:
    """Validates chunks of records against a model of event types. It learns which unknown fields are frequent."""

    def __init__(
        self,
        rules: EventRules,
        model: Model,
        origin: RowOrigin = RowOrigin.OFFSET,
        values: ValueSource | None = None,
    ) -> None:
        """`values` makes JSON of values in other formats; None: they are JSON."""
        self.origin = origin
        self.values = values
        self._set_origin = SET_ORIGIN.get(origin)
        self._size_max = int(rules.max_bytes)  # comparing with a subclass takes twice as long
        self._ordinary_max = min(self._size_max, LARGE)
        self._naive_is_utc = rules.naive_timestamps == "utc"
        self._skips_tombstones = rules.tombstones == "skip"
        self._timestamps = model.timestamps
        self._unbounded = model.unbounded
        self._check_all = any((*model.timestamps.values(), *model.unbounded.values()))
        self._counted_as: dict[type[Event], str] = {kind: tag for tag, kind in model.types.items()}
        self._counted_as[GenericEvent] = GENERIC
        check_fields(model, rules.include)
        self._fields = RecordFields(rules.include) if rules.include else None
        self._decoder = EventDecoder(model, accept_unknown=rules.unknown_types == "accept", rename=rules.rename)

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        """Validate consecutive records of `partition`. Never raises, whatever a producer sends."""
        topic, number = partition
        given, records = len(records), with_values(records) if self._skips_tombstones else records
        blocks: list[bytes] = []
        kinds: Counter[type[Event]] = Counter()
        rejected: list[Rejected] = []
        check_all = self._check_all  # a local name: it is read for each event

        length = block_length(records)
        for begin in range(0, len(records), length):
            block = records[begin : begin + length]
            events: list[Event] = []
            values, unreadable = json_values(self.values, block, self._size_max)
            found = self._decoded(values)
            for index, why in unreadable.items():
                found[index] = _Undecoded(**_UNDECODED, why=why)
            times = kafka_times(block)
            for record, value, decoded, received_at in zip(block, values, found, times, strict=True):
                event, time = decoded, decoded.event_timestamp
                if time.tzinfo is not UTC or time.year < FIRST_YEAR or event.properties is not None or check_all:
                    try:
                        event = self._checked(event, value, record)
                    except RejectedRecord as error:
                        position = kinds.total() + len(events) + len(rejected)
                        rejected.append(Rejected(position, record, *error.args))
                        continue
                event.received_at = received_at
                if event.event_category is None:
                    event.event_category = event.default_category
                if event.channel is None:
                    event.channel = event.default_channel
                event.source_topic = topic
                event.source_partition = number
                event.source_offset = record.offset
                events.append(event)
            if self._set_origin is not None:
                self._set_origin(events, accepted_of(block, rejected))
            blocks += encoded_lines(self._fields, events, block, begin, rejected)
            kinds.update(map(type, events))
        accepted: Counter[str] = Counter()
        for kind, count in kinds.items():
            accepted[self._counted_as[model_type(kind)]] += count  # a user's tag may be "generic", too
        return Validated(blocks, accepted, rejected, given - len(records))

    def _decoded(self, block: Sequence[bytes | None]) -> list[Event]:
        """Of each value its event, which is still to be checked, or `_Undecoded`."""
        values = ordinary_values(block, self._ordinary_max)
        decode = self._decoder.quick
        found: list[Event] = []
        while (begin := len(found)) < len(values):
            with suppress(Exception):  # a user's type may raise anything; the exact way tells what it was
                found.extend(map(decode, values[begin:] if begin else values))  # keeps what came before an error
            if (end := len(found)) < len(values):
                event = self._decoded_wide(values[end])
                found.append(event)
                if end == begin and not isinstance(event, _Undecoded):  # two in a row
                    decode = self._decoded_wide
        return found

    def _decoded_wide(self, value: bytes) -> Event:
        try:
            return self._decoder.wide(value)
        except RejectedRecord as refused:
            return _Undecoded(**_UNDECODED, why=refused.args)
        except Exception:  # noqa: BLE001 - as above
            return _Undecoded(**_UNDECODED)

    def _checked(self, event: Event, value: bytes | None, record: Record) -> Event:
        """`event`, decoded from `value`, or another if a quick way was not sure. Raises ``RejectedRecord``."""
        if isinstance(event, _Undecoded):
            if event.why is not None:
                raise RejectedRecord(*event.why)
            return self._exact(value, record)
        assert value is not None, "nothing decodes a record without a value"
        if event.properties is not None and not is_bounded(value, event.properties):
            return self._exact(value, record)
        event.event_timestamp = self._utc(event.event_timestamp, "event_timestamp")
        if self._check_all:
            self._check_fields(event)
        return event

    def _exact(self, value: bytes | None, record: Record) -> Event:
        """The event in `value`. Raises ``RejectedRecord``."""
        if value is None:
            raise RejectedRecord(Reason.NULL_VALUE, "$", "the record has no value")
        if (size := len(record.value or b"")) > self._size_max:
            message = f"{size} bytes, above events.max_bytes = {self._size_max}"
            raise RejectedRecord(Reason.TOO_LARGE, "$", message)
        event = self._decoder.exact(value)
        event.event_timestamp = self._utc(event.event_timestamp, "event_timestamp")
        if event.properties is not None:
            check_limits(event.properties, "$.properties", depth=2)
        self._check_fields(event)
        if len(value) > LARGE:
            check_row(event)  # the last, because it cannot encode everything
        return event

    def _check_fields(self, event: Event) -> None:
        kind = model_type(type(event))
        for name in self._timestamps[kind]:
            if (time := getattr(event, name)) is not None:
                setattr(event, name, self._utc(time, name))
        for name in self._unbounded[kind]:
            try:
                plain = msgspec.to_builtins(getattr(event, name), builtin_types=(Decimal,), str_keys=True)
            except RecursionError:
                raise RejectedRecord(Reason.TOO_DEEP, f"$.{name}", MESSAGES[Reason.TOO_DEEP]) from None
            check_limits(plain, f"$.{name}", depth=2)

    def _utc(self, time: datetime, name: str) -> datetime:
        return in_utc(time, f"$.{name}", naive_is_utc=self._naive_is_utc)


def in_utc(time: datetime, path: str, *, naive_is_utc: bool) -> datetime:
    """The time in UTC. Raises ``RejectedRecord``."""
    if time.tzinfo is None:
        if not naive_is_utc:
            raise RejectedRecord(Reason.NAIVE_TIMESTAMP, path, "the time has no offset from UTC")
        time = datetime.combine(time, time.time(), UTC)  # as time.replace(tzinfo=UTC), in a sixth of its time
    elif time.tzinfo is not UTC:
        try:
            time = time.astimezone(UTC)
        except OverflowError:
            message = "not within the years 1 to 9999 in UTC"
            raise RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, path, message) from None
    if time.year < FIRST_YEAR:
        raise RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, path, f"before the year {FIRST_YEAR} in UTC")
    return time


def json_values(
    source: ValueSource | None, block: Sequence[Record], size_max: int
) -> tuple[list[bytes | None], dict[int, Why]]:
    """Of each record its value as JSON, and by index why some have none: their source has refused them, or `source`."""
    why: dict[int, Why] = {}
    if source is None:
        values = [record.value for record in block]
    else:
        values, decode = [], source.decode
        for index, record in enumerate(block):
            value = record.value
            try:
                values.append(decode(record) if value is not None and len(value) <= size_max else value)
            except RejectedRecord as error:
                values.append(b"")
                why[index] = error.args
    for index, refusal in refusals(block).items():
        why[index] = (refusal.reason, "$", refusal.message)
    return values, why


def ordinary_values(values: Sequence[bytes | None], size_max: int) -> list[bytes]:
    """The values for a quick way of decoding: b"", which it refuses, for none and for more bytes than the maximum."""
    found = [value or b"" for value in values]
    if max(map(len, found)) > size_max:
        return [value if len(value) <= size_max else b"" for value in found]
    return found


def with_values(records: Sequence[Record]) -> Sequence[Record]:
    """The records that are no tombstones."""
    return [record for record in records if record.value is not None]


def block_length(records: Sequence[Record]) -> int:
    """The number of records in a block, as if all were like the first."""
    size = len(records[0].value or b"") if records else 0
    return min(max(_BLOCK_BYTES // max(size, 1), _SMALLEST_BLOCK), _LARGEST_BLOCK)


def accepted_of(block: Sequence[Record], rejected: Sequence[Rejected]) -> Sequence[MessageRecord]:
    """The records of a block without those that were rejected last."""
    refused = {id(one.record) for one in rejected[-len(block) :]}
    return cast("Sequence[MessageRecord]", [record for record in block if id(record) not in refused])


def encoded_lines(
    fields: RecordFields | None, rows: list[Row], block: Sequence[Record], begin: int, rejected: list[Rejected]
) -> list[bytes]:
    """The lines of the rows, with the `fields` of their records. Rows that become too large move into `rejected`."""
    if fields is None:
        return [ENCODER.encode_lines(rows)] if rows else []
    refused = {one.position for one in rejected[-len(block) :]}
    positions = [position for position in range(begin, begin + len(block)) if position not in refused]
    lines: list[bytes] = []
    kept: list[Row] = []
    for position, row in zip(positions, rows, strict=True):
        record = block[position - begin]
        line = fields.joined(ENCODER.encode(row), record)
        if len(line) > ROW_MAX:
            message = f"a row of {len(line)} bytes with its key and headers, above the {ROW_MAX} that a column holds"
            rejected.append(Rejected(position, record, Reason.TOO_LARGE, "$", message))
        else:
            kept.append(row)
            lines.append(line)
    if len(kept) < len(rows):
        rows[:] = kept
        rejected.sort(key=lambda one: one.position)
    return [b"\n".join((*lines, b""))] if lines else []


def kafka_times(records: Sequence[Record]) -> list[datetime | None]:
    """The timestamp of each record as a time."""
    second = 0  # in milliseconds, and as a time: neighbouring records mostly share it
    whole: datetime | None = _EPOCH
    found: list[datetime | None] = []
    milliseconds = _MILLISECONDS  # a local name: it is read for each record
    for record in records:
        timestamp = record.timestamp
        past = timestamp - second
        if not 0 <= past < 1000:
            second, past = timestamp // 1000 * 1000, timestamp % 1000
            whole = kafka_time(second)
        found.append(whole + milliseconds[past] if whole is not None else None)
    return found


def kafka_time(milliseconds: int) -> datetime | None:
    """None if Kafka has no timestamp (-1), or none that is a valid date."""
    if milliseconds < 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def check_row(event: msgspec.Struct) -> None:
    """Raises ``RejectedRecord`` for a row that no column holds."""
    if (size := len(ENCODER.encode(event)) + ORIGIN_BYTES) > ROW_MAX:
        raise RejectedRecord(Reason.TOO_LARGE, "$", f"a row of {size} bytes, above the {ROW_MAX} that a column holds")
