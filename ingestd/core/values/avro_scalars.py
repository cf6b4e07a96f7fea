"""Readers of Avro's varints, texts and logical types, which generated readers call. Pure.

A reader takes the payload and a position, and returns a value and the position behind it. Lengths are never negative,
so that a position only grows; it may be beyond the payload, where reading on raises IndexError.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import cache
from uuid import UUID

from ingestd.core.rejections import Reason, RejectedRecord

UNSCALED_MAX = 1024  # bytes of a decimal: far beyond a double's range
WINDOWS_MAX = 1000

#: The number that a byte is, if it is a varint of one byte.
SMALL = tuple([(byte >> 1) ^ -(byte & 1) for byte in range(128)])
#: Bytes of a text and its length, by the length's first byte; 0 if that is not all of a length.
SPANS = tuple([0 if byte & 129 else 1 + (byte >> 1) for byte in range(256)])

_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1)
_DAY_US = 24 * 3600 * 10**6
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_WINDOW_BYTES, _MILLIS_BYTES = 2, 6


def truncated() -> RejectedRecord:
    return RejectedRecord(Reason.TRUNCATED, "$", "the value ends before its Avro type does")


def undecodable(why: str) -> RejectedRecord:
    return RejectedRecord(Reason.UNDECODABLE, "$", f"not of its Avro schema: {why}")


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint of 64 bits. Raises IndexError, ``RejectedRecord``."""
    first = data[at]
    if first < 128:
        return SMALL[first], at + 1
    second = data[at + 1]
    if second < 128:
        low = first & 127 | second << 7
        return (low >> 1) ^ -(low & 1), at + 2
    # Integers above 2**30 are slow: the lower 28 bits and the others are put together at the end.
    low = high = shift = 0
    for byte in data[at : at + 4]:
        at += 1
        low |= (byte & 127) << shift
        if byte < 128:
            return (low >> 1) ^ -(low & 1), at
        shift += 7
    shift = 0
    for byte in data[at : at + 6]:
        at += 1
        high |= (byte & 127) << shift
        if byte < 128 and high < 1 << 36:
            number = high << 27 | low >> 1
            return (~number if low & 1 else number), at
        shift += 7
    if shift < 42 and high < 1 << 36:
        raise truncated()
    raise undecodable("a number of more than 64 bits")


def read_span(data: bytes, at: int) -> tuple[int, int]:
    """The last byte of a length, and the end of what has this length. Raises IndexError, ``RejectedRecord``."""
    length, at = read_long(data, at)
    if length < 0:
        raise undecodable(f"a length of {length}")
    return at - 1, at + length


def read_branch(data: bytes, at: int) -> tuple[int, int]:
    """Twice the index of a union's branch, as its varint has it."""
    index, at = read_long(data, at)
    return 2 * index, at


def bad_text(error: UnicodeDecodeError, data: bytes, end: int) -> RejectedRecord:
    """`end` is where the text should end."""
    return truncated() if end > len(data) else RejectedRecord(Reason.INVALID_UTF8, "$", str(error))


def bad_index(kind: str, index: int) -> RejectedRecord:
    return undecodable(f"the {kind} has no index {index}")


def bad_number(number: float) -> RejectedRecord:
    return RejectedRecord(Reason.NUMBER_OUT_OF_RANGE, "$", f"{number} is no number in JSON")


def decimal_of(data: bytes, scale: int) -> Decimal:
    """Of an unscaled integer, big-endian and signed. Every digit, also beyond the schema's precision."""
    if len(data) > UNSCALED_MAX:
        raise RejectedRecord(Reason.NUMBER_OUT_OF_RANGE, "$", f"a decimal of {len(data)} bytes")
    return Decimal(int.from_bytes(data, signed=True)).scaleb(-scale, _EXACT)


def uuid_text(text: str) -> str:
    """In the form of RFC 9562. Raises ValueError."""
    return text if _UUID.fullmatch(text) else str(UUID(text))


def date_of(days: int) -> date:
    return _FIRST_DAY + timedelta(days)


def time_of_millis(number: int) -> time:
    return time_of_micros(number * 1000)


def time_of_micros(number: int) -> time:
    if not 0 <= number < _DAY_US:
        raise undecodable(f"{number} is no time of a day")
    return (_EPOCH + timedelta(0, 0, number)).time()


def micros(number: int) -> datetime:
    return _EPOCH + timedelta(0, 0, number)


def local_micros(number: int) -> datetime:
    return micros(number).replace(tzinfo=None)


def local_millis(number: int) -> datetime:
    return micros(number * 1000).replace(tzinfo=None)


def nanos(number: int) -> str:
    return f"{local_nanos(number)}Z"


def local_nanos(number: int) -> str:
    seconds, nanoseconds = divmod(number, 10**9)
    return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}.{nanoseconds:09d}"


@cache
def _offsets() -> list[timedelta]:
    """The times within a window."""
    return [timedelta(milliseconds=number) for number in range(1 << 13)]


def millis_reader() -> Callable[[bytes, int], tuple[datetime, int]]:
    """A reader of milliseconds in UTC.

    Neighbouring records mostly share all bytes of a time but the first two: they are in the same window of 8 s, and
    making a time of 64 bits is most of the work of a short record.
    """
    windows: dict[bytes, datetime] = {}  # by the bytes behind the first two: the window's begin
    offsets = _offsets()

    def read(data: bytes, at: int) -> tuple[datetime, int]:
        begin = windows.get(data[at + _WINDOW_BYTES : at + _MILLIS_BYTES])
        if begin is not None:
            first, second = data[at], data[at + 1]
            if first & second & 128 and not first & 1:
                return begin + offsets[(first & 127) >> 1 | (second & 127) << 6], at + _MILLIS_BYTES
        number, end = read_long(data, at)
        moment = _EPOCH + timedelta(0, 0, number * 1000)
        if end == at + _MILLIS_BYTES and number >= 0:
            if len(windows) >= WINDOWS_MAX:
                windows.clear()
            windows[data[at + _WINDOW_BYTES : end]] = moment - offsets[number & 0x1FFF]
        return moment, end

    return read
