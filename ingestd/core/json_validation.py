"""Validates records of any JSON object: the row has the object as it is, in ``record``, beside the origin. Pure.

What Snowflake cannot load is rejected, by the same rules as for events: grammar, UTF-8, depth, numbers, sizes.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from typing import Any, Protocol, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ingestd.core.canonical_objects import CanonicalObjects
from ingestd.core.decoding import BOUNDED, are_bounded, is_bounded
from ingestd.core.events import Event, Model
from ingestd.core.record_fields import RecordFields
from ingestd.core.records import Record, TopicPartition
from ingestd.core.rejections import Reason, RejectedRecord, check_limits, parse
from ingestd.core.row_origin import SET_ORIGIN, RowOrigin
from ingestd.core.validation import (
    LARGE,
    EventRules,
    EventValidator,
    Rejected,
    Validated,
    Validator,
    accepted_of,
    block_length,
    check_row,
    encoded_lines,
    in_utc,
    json_values,
    kafka_times,
    ordinary_values,
    with_values,
)
from ingestd.core.values.base import ValueSource

COUNTED_AS = "json"  # in counts by type
FIRST_MILLISECONDS = 10**11  # the smallest number that stands for milliseconds; as seconds it would be the year 5138

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JsonRules(EventRules, Protocol):
    """The part of the ``events`` section of the configuration that is read here."""

    @property
    def timestamp_field(self) -> str | None: ...


class _Row(msgspec.Struct, gc=False):
    """A row, whose fields without a value are UNSET, and are left out. Those of its origin are set as an event's."""

    event_timestamp: datetime | UnsetType
    record: Any
    source_topic: str
    source_partition: int | None
    source_offset: int | str | None
    source_message_id: str | UnsetType
    received_at: datetime | None


def make_validator(
    rules: JsonRules, model: Model, origin: RowOrigin = RowOrigin.OFFSET, values: ValueSource | None = None
) -> Validator:
    """The validator of a model. `values` makes JSON of values in other formats; None: they are JSON."""
    if model.any_json:
        return JsonValidator(rules, origin, values)
    return EventValidator(rules, model, origin, values)


class JsonValidator:
    """Validates chunks of records. It learns how producers write their objects."""

    def __init__(
        self, rules: JsonRules, origin: RowOrigin = RowOrigin.OFFSET, values: ValueSource | None = None
    ) -> None:
        self.origin = origin
        self.values = values
        self._set_origin = SET_ORIGIN.get(origin)
        self._size_max = int(rules.max_bytes)
        self._ordinary_max = min(self._size_max, LARGE)
        self._naive_is_utc = rules.naive_timestamps == "utc"
        self._tombstones = rules.tombstones
        self._path = rules.timestamp_field.split(".") if rules.timestamp_field else None
        self._fields = RecordFields(rules.include) if rules.include else None
        self._canonical = CanonicalObjects()
        self._decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(
            dict[str, Any], float_hook=BOUNDED
        ).decode

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        """Validate consecutive records of `partition`. Never raises, whatever a producer sends."""
        blocks: list[bytes] = []
        rejected: list[Rejected] = []
        accepted = 0
        given, records = len(records), with_values(records) if self._tombstones == "skip" else records
        length = block_length(records)
        for begin in range(0, len(records), length):
            block = records[begin : begin + length]
            rows = self._rows(partition, block, begin, rejected)
            if self._set_origin is not None:
                self._set_origin(cast("Sequence[Event]", rows), accepted_of(block, rejected))
            blocks += encoded_lines(self._fields, rows, block, begin, rejected)
            accepted += len(rows)
        return Validated(blocks, {COUNTED_AS: accepted} if accepted else {}, rejected, given - len(records))

    def _rows(
        self, partition: TopicPartition, block: Sequence[Record], begin: int, rejected: list[Rejected]
    ) -> list[_Row]:
        """The rows of a block, whose first record is at `begin` of its chunk. Adds to `rejected`."""
        values, unreadable = json_values(self.values, block, self._size_max)
        objects = self._objects(values)
        times = self._times(objects)
        # No step of Python's interpreter for each row: of flat events that would be a tenth of the time.
        rows = list(
            map(
                _Row,
                repeat(UNSET) if times is None else times,
                objects,
                repeat(partition.topic),
                repeat(partition.partition),
                [record.offset for record in block],
                repeat(UNSET),
                kafka_times(block),
            )
        )
        if times is not None and not unreadable and all(objects):  # checking an empty object does no harm
            return rows
        kept: list[_Row] = []
        for index, (row, value, record) in enumerate(zip(rows, values, block, strict=True)):
            try:
                if index in unreadable:
                    raise RejectedRecord(*unreadable[index])
                self._check(row, value, record)
                kept.append(row)
            except RejectedRecord as error:
                rejected.append(Rejected(begin + index, record, *error.args))
        return kept

    def _objects(self, values: Sequence[bytes | None]) -> Sequence[dict[str, Any] | Raw | None]:
        """Of each value the object in it, None where the quick way is not sure of it."""
        if are_bounded(values, self._ordinary_max):
            if self._path is None and (same := self._canonical.as_they_are(values)):
                return same
            objects = self._decoded(values)
            self._canonical.learn(objects)
            return objects
        ordinary = ordinary_values(values, self._ordinary_max)
        found = self._decoded(ordinary)
        return [it if it and is_bounded(value, it) else None for value, it in zip(ordinary, found, strict=True)]

    def _decoded(self, values: Sequence[bytes]) -> list[dict[str, Any] | None]:
        """Of each value the object in it, which may be beyond the limits; None where it cannot be decoded."""
        found: list[dict[str, Any] | None] = []
        while (begin := len(found)) < len(values):
            with suppress(Exception):  # the exact way tells what it was
                found.extend(map(self._decode, values[begin:] if begin else values))  # keeps what came before an error
            if len(found) < len(values):
                found.append(None)
        return found

    def _times(self, objects: Sequence[dict[str, Any] | Raw | None]) -> Iterable[datetime | UnsetType] | None:
        """Of each object its time, UNSET where none is asked for; None where the quick way is not sure of one."""
        if self._path is None:
            return repeat(UNSET)
        found: Sequence[Any] = objects
        with suppress(Exception):  # the exact way tells what it was
            for part in self._path:
                found = [it[part] for it in found]
            times = msgspec.convert(found, list[datetime])  # of text alone; a call for each takes eight times as long
            return [in_utc(time, "$", naive_is_utc=self._naive_is_utc) for time in times]
        return None

    def _check(self, row: _Row, value: bytes | None, record: Record) -> None:
        """Complete a row, from the JSON `value` of its record. Raises ``RejectedRecord``."""
        if value is None:
            if self._tombstones == "row":
                return
            raise RejectedRecord(Reason.NULL_VALUE, "$", "the record has no value")
        if row.record is None:
            row.record = self._exact(value, record)
        if self._path is not None:
            row.event_timestamp = self._time(row.record)
        if len(value) > LARGE:
            check_row(row)

    def _exact(self, value: bytes, record: Record) -> dict[str, Any]:
        """The object in `value`. Raises ``RejectedRecord``."""
        if (size := len(record.value or b"")) > self._size_max:
            message = f"{size} bytes, above events.max_bytes = {self._size_max}"
            raise RejectedRecord(Reason.TOO_LARGE, "$", message)
        data = parse(value)
        check_limits(data, "$", depth=1)
        return data

    def _time(self, data: dict[str, Any]) -> datetime:
        """The time at the configured path. Raises ``RejectedRecord``."""
        path, found = "$", cast("object", data)
        for part in self._path or ():
            path = f"{path}.{part}"
            if not isinstance(found, dict) or part not in found:
                raise RejectedRecord(Reason.MISSING_FIELD, path, "events.timestamp_field names it, and it is missing")
            found = found[part]
        return in_utc(_time_of(found, path), path, naive_is_utc=self._naive_is_utc)


def _time_of(value: object, path: str) -> datetime:
    """A time from RFC 3339 text, or from a number of seconds or milliseconds since 1970."""
    if isinstance(value, str):
        with suppress(msgspec.ValidationError):
            return msgspec.convert(value, datetime)
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        try:
            return _EPOCH + timedelta(
                microseconds=round(number * (1_000_000 if abs(number) < FIRST_MILLISECONDS else 1000))
            )
        except OverflowError:
            message = "not within the years 1 to 9999 in UTC"
            raise RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, path, message) from None
    message = "neither an RFC 3339 time, nor a number of seconds or milliseconds since 1970"
    raise RejectedRecord(Reason.INVALID_TIMESTAMP, path, message)
