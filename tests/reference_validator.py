"""The slowest way from records to rows, which leaves nothing out: what each ``Validator`` must be equal to.

Each value is decoded into its type, and checked as a whole; what fails is parsed into a dict, checked, encoded with
its unknown fields in ``properties``, and decoded again.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from ingestd.core.events import ORIGIN_FIELDS, Event, GenericEvent, Model
from ingestd.core.json_validation import COUNTED_AS, JsonRules
from ingestd.core.records import Record, TopicPartition
from ingestd.core.rejections import Reason, RejectedRecord, check_limits, from_msgspec, parse
from ingestd.core.validation import FIRST_YEAR, GENERIC, EventRules, Rejected, Validated

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ReferenceValidator:
    """For values of ordinary size, and models without times or unbounded fields of their own."""

    def __init__(self, rules: EventRules, model: Model) -> None:
        self._accept_unknown = rules.unknown_types == "accept"
        self._naive_is_utc = rules.naive_timestamps == "utc"
        self._kinds = dict(model.types)
        self._decoder = msgspec.json.Decoder(model.union, float_hook=Decimal)
        self._generic = msgspec.json.Decoder(GenericEvent, float_hook=Decimal)

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        rows: list[bytes] = []
        accepted: Counter[str] = Counter()
        rejected: list[Rejected] = []
        for position, record in enumerate(records):
            try:
                event = self._checked(record.value)
            except RejectedRecord as refused:
                rejected.append(Rejected(position, record, *refused.args))
                continue
            event.received_at = _EPOCH + timedelta(milliseconds=record.timestamp)
            event.event_category = event.default_category if event.event_category is None else event.event_category
            event.channel = event.default_channel if event.channel is None else event.channel
            event.source_topic, event.source_partition = partition
            event.source_offset = record.offset
            rows.append(_ENCODER.encode(event) + b"\n")
            accepted[GENERIC if isinstance(event, GenericEvent) else str(event.__struct_config__.tag)] += 1
        return Validated(rows, accepted, rejected)

    def _checked(self, value: bytes | None) -> Event:
        if value is None:
            raise RejectedRecord(Reason.NULL_VALUE, "$", "the record has no value")
        try:
            event: Event = self._decoder.decode(value)
        except Exception:  # noqa: BLE001 - the second attempt tells what it was
            event = self._decoded_again(value)
        event.event_timestamp = self._utc(event.event_timestamp)
        if event.properties is not None:
            check_limits(event.properties, "$.properties", depth=2)
        return event

    def _decoded_again(self, value: bytes) -> Event:
        data = parse(value)
        check_limits(data, "$", depth=1)
        event_type = data.get("event_type")
        kind: type[Event] = GenericEvent
        decoder: msgspec.json.Decoder[Any] = self._decoder
        if isinstance(event_type, str):
            if event_type in self._kinds:
                kind = self._kinds[event_type]
            elif self._accept_unknown:
                decoder = self._generic
            else:
                raise RejectedRecord(Reason.UNKNOWN_TYPE, "$.event_type", f"the model has no event_type {event_type!r}")
        try:
            return decoder.decode(_ENCODER.encode(_gathered(data, kind)))  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            raise from_msgspec(error, data) from error
        except Exception as error:
            raise RejectedRecord(Reason.INVALID, "$", f"{type(error).__name__}: {error}") from error

    def _utc(self, time: datetime) -> datetime:
        return _utc(time, "$.event_timestamp", naive_is_utc=self._naive_is_utc)


class ReferenceJsonValidator:
    """Any JSON object, for values of ordinary size, and times that are text at the top level."""

    def __init__(self, rules: JsonRules) -> None:
        self._rules = rules

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        rows: list[bytes] = []
        rejected: list[Rejected] = []
        for position, record in enumerate(records):
            try:
                rows.append(_ENCODER.encode(self._row(partition, record)) + b"\n")
            except RejectedRecord as refused:
                rejected.append(Rejected(position, record, *refused.args))
        return Validated(rows, {COUNTED_AS: len(rows)} if rows else {}, rejected)

    def _row(self, partition: TopicPartition, record: Record) -> dict[str, Any]:
        value, times, data = record.value, {}, None
        if value is not None:
            if len(value) > self._rules.max_bytes:
                message = f"{len(value)} bytes, above events.max_bytes = {self._rules.max_bytes:d}"
                raise RejectedRecord(Reason.TOO_LARGE, "$", message)
            data = parse(value)
            check_limits(data, "$", depth=1)
            if name := self._rules.timestamp_field:
                times = {"event_timestamp": self._time(data, name)}
        elif self._rules.tombstones != "row":
            raise RejectedRecord(Reason.NULL_VALUE, "$", "the record has no value")
        return times | {
            "record": data,
            "source_topic": partition.topic,
            "source_partition": partition.partition,
            "source_offset": record.offset,
            "received_at": None if record.timestamp < 0 else _EPOCH + timedelta(milliseconds=record.timestamp),
        }

    def _time(self, data: dict[str, Any], name: str) -> datetime:
        if name not in data:
            message = "events.timestamp_field names it, and it is missing"
            raise RejectedRecord(Reason.MISSING_FIELD, f"$.{name}", message)
        if isinstance(data[name], str):
            with suppress(msgspec.ValidationError):
                time = msgspec.convert(data[name], datetime)
                return _utc(time, f"$.{name}", naive_is_utc=self._rules.naive_timestamps == "utc")
        message = "neither an RFC 3339 time, nor a number of seconds or milliseconds since 1970"
        raise RejectedRecord(Reason.INVALID_TIMESTAMP, f"$.{name}", message)


def _utc(time: datetime, path: str, *, naive_is_utc: bool) -> datetime:
    if time.tzinfo is None:
        if not naive_is_utc:
            raise RejectedRecord(Reason.NAIVE_TIMESTAMP, path, "the time has no offset from UTC")
        time = time.replace(tzinfo=UTC)
    try:
        time = time.astimezone(UTC)
    except OverflowError:
        message = "not within the years 1 to 9999 in UTC"
        raise RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, path, message) from None
    if time.year < FIRST_YEAR:
        raise RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, path, f"before the year {FIRST_YEAR} in UTC")
    return time


def _gathered(data: dict[str, Any], kind: type[Event]) -> dict[str, Any]:
    known = {"event_type", *kind.__struct_encode_fields__} - {*ORIGIN_FIELDS}
    rest = {key: value for key, value in data.items() if key in known}
    unknown = sorted(key for key in data if key not in known)
    if not unknown or not isinstance(rest.get("properties"), dict | None):
        return rest
    properties = dict(rest.get("properties") or {})
    for key in unknown:
        free = key
        while free in properties:
            free = f"_{free}"
        properties[free] = data[key]
    return rest | {"properties": properties}
