"""What a vendor's event has for an event of the model: its parts, times, durations and ids. Pure."""

import hashlib
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from ingestd.collect.mapping import Draft, UnmappableError, as_time, time_of
from ingestd.core.rejections import Reason

_NUMBER = re.compile(r"[0-9]{1,13}(\.[0-9]{1,9})?")
_DOTNET = re.compile(r"/Date\((-?[0-9]{1,15})([+-][0-9]{4})?\)/")
_UNITS = {"seconds": 1000, "milliseconds": 1}


class Found(msgspec.Struct, kw_only=True):
    """The parts of one event. Without a client_id, a hash of the address stands for the person."""

    draft: Draft
    email: object = None
    ip: object = None  # of the person, as the vendor saw it
    user_agent: object = None


def hashed_address(email: object) -> str | None:
    """The SHA-256 of an e-mail address in lower case, in hex; None where there is no address.

    Advertising networks and vendors of e-mail hash addresses in this way, so a table of customers joins with it:
    SHA2(LOWER(TRIM(email))). The address itself would stand in the key of each record, in traces and in logs of Kafka.
    """
    if type(email) is not str or "@" not in email:
        return None
    return hashlib.sha256(email.strip().lower().encode()).hexdigest()


def to_time(value: object, form: str) -> datetime | None:
    """The time in a vendor's form: iso, seconds, milliseconds, dotnet, or a pattern of strptime.

    None where there is no value. Raises `UnmappableError` where it is not of this form.
    """
    if value is None:
        return None
    time: datetime | None = None
    try:
        if form in _UNITS:
            time = time_of(int(_number(value) * _UNITS[form]))
        elif form == "iso":
            time = as_time(value)
        elif form == "dotnet":
            match = _DOTNET.fullmatch(value) if type(value) is str else None
            time = time_of(int(match[1])) if match is not None else None
        else:
            time = as_time(datetime.strptime(str(value), form).isoformat())  # noqa: DTZ007 - as_time takes it as UTC
    except OverflowError:
        raise UnmappableError(Reason.TIMESTAMP_OUT_OF_RANGE) from None
    except ValueError:
        pass
    if time is None:
        raise UnmappableError(Reason.INVALID_TIMESTAMP)
    return time


def _number(value: object) -> Decimal:
    if type(value) is int or type(value) is Decimal or (type(value) is str and _NUMBER.fullmatch(value)):
        number = Decimal(value)
    else:
        raise ValueError
    if abs(number) >= 10**15:
        raise OverflowError
    return number


def to_seconds(value: object, unit: str) -> object:
    """A duration in whole seconds; `value` itself where it is no number."""
    try:
        number = _number(value)
    except (ValueError, OverflowError):
        return value
    return int(number * 60 if unit == "min" else number / 1000 if unit == "ms" else number)


def table(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if type(value) is dict else {}


def first(value: object) -> object:
    """The first item of a list; `value` itself where it is none."""
    if type(value) is not list:
        return value
    return value[0] if value else None


def parts_id(*parts: object) -> str:
    """An id out of parts that must all be there. Raises `UnmappableError`."""
    if any(part is None for part in parts):
        raise UnmappableError(Reason.MISSING_FIELD)
    if not all(type(part) in (str, int, Decimal) for part in parts):
        raise UnmappableError(Reason.WRONG_TYPE)
    return ":".join(map(str, parts))


def digest_id(*parts: object) -> str:
    """An id for an event that has none: a hash of what tells it from others."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(errors="surrogatepass"), digest_size=16).hexdigest()
