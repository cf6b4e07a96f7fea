"""Rejection reasons, and msgspec errors mapped to them."""

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

import msgspec

DEPTH_MAX = 100  # nested objects and arrays, the event itself included
MESSAGE_MAX = 500  # characters
PATH_MAX = 300  # characters

_CONTAINERS = (dict, list, tuple)
_BEYOND_DOUBLE = 2**1024 - 2**970  # the first integer that rounds to a double's infinity
_BELOW_DOUBLE = -_BEYOND_DOUBLE


class Reason(StrEnum):
    """Why a record was rejected."""

    NULL_VALUE = "null_value"  # a tombstone: the record has no value
    EMPTY_VALUE = "empty_value"  # a value of no bytes
    TOO_LARGE = "too_large"  # more than events.max_bytes, or a row of more than 16 MiB
    NOT_JSON = "not_json"  # not JSON by its grammar
    TRUNCATED = "truncated"  # JSON that stops before its end
    INVALID_UTF8 = "invalid_utf8"  # a string is not UTF-8
    LONE_SURROGATE = "lone_surrogate"  # half of an escaped surrogate pair, which UTF-8 cannot encode
    TOO_DEEP = "too_deep"  # more than DEPTH_MAX nested objects and arrays
    WRONG_TYPE = "wrong_type"  # a field, or the value itself, has another JSON type
    MISSING_FIELD = "missing_field"  # a required field is absent
    UNKNOWN_FIELD = "unknown_field"  # within a nested type of a user's model; elsewhere it moves into properties
    UNKNOWN_TYPE = "unknown_type"  # the model does not know the event_type, and events.unknown_types is "reject"
    TOO_LONG = "too_long"  # more characters or items than the field holds
    TOO_SHORT = "too_short"  # fewer characters or items than the field needs
    NUMBER_OUT_OF_RANGE = "number_out_of_range"  # beyond a double's range, or beyond the field's
    INVALID_TIMESTAMP = "invalid_timestamp"  # not an RFC 3339 time
    NAIVE_TIMESTAMP = "naive_timestamp"  # without an offset, and events.naive_timestamps is "reject"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"  # before 1582 or after 9999, in UTC
    NOT_AN_ENVELOPE = "not_an_envelope"  # sqs.envelope is "sns", and the message is no notification of SNS
    POINTER = "pointer"  # SQS's extended client has put the event into S3, and the message only names it
    OUTSIDE_OF_SHARD = "outside_of_shard"  # an aggregate of Kinesis holds an event whose key belongs to another shard
    UNKNOWN_SCHEMA = "unknown_schema"  # the registry has no schema of the id that the record names
    UNDECODABLE = "undecodable"  # the value is not of its schema or format, or the schema cannot be used
    INVALID = "invalid"  # anything else that the type rejects


class RejectedRecord(Exception):
    """A record cannot become a row. `args`: reason, path, message."""

    def __init__(self, reason: Reason, path: str, message: str) -> None:
        super().__init__(reason, path[:PATH_MAX], message[:MESSAGE_MAX])


_REASONS = (
    (re.compile(r"Object missing required field "), Reason.MISSING_FIELD),
    (re.compile(r"Object contains unknown field "), Reason.UNKNOWN_FIELD),
    (re.compile(r"Expected `[^`]*`(, got `[^`]*`)?$"), Reason.WRONG_TYPE),
    (re.compile(r"Expected `\w+` of length <= "), Reason.TOO_LONG),
    (re.compile(r"Expected `\w+` of length >= "), Reason.TOO_SHORT),
    (re.compile(r"Expected `\w+` [<>]=? "), Reason.NUMBER_OUT_OF_RANGE),
    (re.compile(r"(Integer value|Number) out of range"), Reason.NUMBER_OUT_OF_RANGE),
    (re.compile(r"Expected `datetime` with a timezone"), Reason.NAIVE_TIMESTAMP),
    (re.compile(r"Invalid RFC3339 encoded datetime"), Reason.INVALID_TIMESTAMP),
)
MESSAGES = {
    Reason.TOO_DEEP: f"more than {DEPTH_MAX} objects and arrays within each other",
    Reason.NUMBER_OUT_OF_RANGE: "number beyond a double's range",
    Reason.LONE_SURROGATE: "half of an escaped surrogate pair, which UTF-8 cannot encode",
}
_FAR_YEAR = re.compile(r"([+-]?\d{5,}|0000)-\d\d-\d\d")


def from_msgspec(error: msgspec.ValidationError, data: Mapping[str, Any]) -> RejectedRecord:
    """Map msgspec's English message about `data` to a reason and a path."""
    message, separator, path = str(error).rpartition(" - at `")
    if separator:
        path = path.removesuffix("`")
    else:
        message, path = path, "$"
    reason = next((reason for pattern, reason in _REASONS if pattern.match(message)), Reason.INVALID)
    if reason is Reason.MISSING_FIELD:
        path = f"{path}.{message.split('`')[1]}"
    elif reason is Reason.INVALID_TIMESTAMP and _FAR_YEAR.match(str(data.get(path.removeprefix("$.")))):
        reason = Reason.TIMESTAMP_OUT_OF_RANGE
    return RejectedRecord(reason, path, message)


def _any_decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        return Decimal("Infinity")


_PARSER = msgspec.json.Decoder(Any, float_hook=_any_decimal)


def parse(value: bytes) -> dict[str, Any]:
    """The JSON object in `value`; of duplicate keys, the last. Raises ``RejectedRecord``."""
    if not value:
        raise RejectedRecord(Reason.EMPTY_VALUE, "$", "the record's value has no bytes")
    try:
        data = _PARSER.decode(value)
    except UnicodeDecodeError as error:
        raise RejectedRecord(Reason.INVALID_UTF8, "$", str(error)) from error
    except RecursionError as error:
        raise RejectedRecord(Reason.TOO_DEEP, "$", MESSAGES[Reason.TOO_DEEP]) from error
    except msgspec.ValidationError as error:
        raise from_msgspec(error, {}) from error
    except msgspec.DecodeError as error:
        if _is_json_but_for_surrogates(value):
            raise RejectedRecord(Reason.LONE_SURROGATE, "$", MESSAGES[Reason.LONE_SURROGATE]) from error
        if value[0] == 0:
            message = "this looks like a schema registry's wire format; set kafka.value_format"
            raise RejectedRecord(Reason.NOT_JSON, "$", message) from error
        reason = Reason.TRUNCATED if "truncated" in str(error) else Reason.NOT_JSON
        raise RejectedRecord(reason, "$", str(error)) from error
    if not isinstance(data, dict):
        raise RejectedRecord(Reason.WRONG_TYPE, "$", "Expected `object`")
    return data


def _is_json_but_for_surrogates(value: bytes) -> bool:
    """Whether the standard library, which accepts lone surrogates, parses what msgspec refuses."""
    if b"\\u" not in value:
        return False
    try:
        # Numbers stay text, because int() refuses the longest ones.
        json.loads(value.decode(), parse_int=str, parse_float=str, parse_constant=int)
    except (ValueError, RecursionError):
        return False
    return True


def check_limits(value: Any, path: str, depth: int) -> None:
    """Reject what Snowflake cannot store: numbers beyond a double's range, and containers nested too deeply.

    The decoder limits the depth, too, but by the stack that its caller happens to have left.
    """
    if not _is_within_limits(value, depth) and (excess := _find_excess(value, depth)):
        reason, steps = excess
        raise RejectedRecord(reason, path + steps, MESSAGES[reason])


def _is_within_limits(value: Any, depth: int) -> bool:
    level = [value] if isinstance(value, _CONTAINERS) else [[value]]
    while level:
        if depth > DEPTH_MAX:
            return False
        below = []
        for container in level:
            for item in container.values() if type(container) is dict else container:
                kind = type(item)
                if kind is str:
                    continue
                if kind is int:
                    if not _BELOW_DOUBLE < item < _BEYOND_DOUBLE:
                        return False
                elif kind is dict or kind is list or kind is tuple:
                    below.append(item)
                elif not _is_in_range(item):
                    return False
        level = below
        depth += 1
    return True


def _is_in_range(value: object) -> bool:
    if isinstance(value, int):
        return _BELOW_DOUBLE < value < _BEYOND_DOUBLE
    if isinstance(value, Decimal):
        if -308 < value.adjusted() < 308:
            return value.is_finite()
        return 0.0 < abs(float(value)) < math.inf
    return True


def _find_excess(value: Any, depth: int) -> tuple[Reason, str] | None:
    """The reason why `value` is beyond the limits, and the path to the place."""
    if not isinstance(value, _CONTAINERS):
        return None if _is_in_range(value) else (Reason.NUMBER_OUT_OF_RANGE, "")
    if depth > DEPTH_MAX:
        return Reason.TOO_DEEP, ""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if excess := _find_excess(item, depth + 1):
            reason, steps = excess
            is_plain = isinstance(key, str) and key.isidentifier()
            return reason, (f".{key}" if is_plain else f"[{json.dumps(key)}]") + steps
    return None
