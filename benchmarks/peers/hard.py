"""Records that are hard to bring into JSON lines, and what has become of them. Pure."""

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import msgspec

AROUND = 200  # good events before and behind

#: Numbers as a producer writes them, none of which a double holds.
NUMBERS = (
    "9007199254740993",
    "18446744073709551617",
    "123456789012345678901234567890",
    "12345678901234567.89",
    "0.1234567890123456789012345",
)


def event(name: str) -> bytes:
    """A good event of this id."""
    return (
        b'{"event_id":"%b","client_id":"CLIENT_000001","event_timestamp":"2026-11-22T10:00:00.000Z",'
        b'"event_type":"web_visit","page_url":"https://www.example.com/pricing"}' % name.encode()
    )


def _with(name: str, field: str) -> bytes:
    return event(name)[:-1] + b"," + field.encode() + b"}"


def _over_lines(value: bytes) -> bytes:
    return msgspec.json.format(value, indent=2)


class Kind(NamedTuple):
    """One kind of record. `good`: it has to become a row."""

    key: str
    title: str
    good: bool
    values: tuple[bytes | None, ...]


KINDS = (
    Kind("truncated", "cut off", False, (event("bad-truncated")[:70],)),
    Kind("text", "no JSON", False, (b"bad-text, and no JSON",)),
    Kind("nothing", "empty, null", False, (b"", None)),
    Kind("encoding", "not UTF-8", False, (event("bad-encoding").replace(b"pricing", b"pric\xff\xfeing"),)),
    Kind("nan", "NaN", False, (_with("bad-nan", '"properties":{"amount":NaN}'),)),
    Kind("contract", "field missing", False, (event("bad-contract").replace(b"client_id", b"client_no"),)),
    Kind("lines", "over lines", True, (_over_lines(event("hard-lines")),)),
    Kind("numbers", "digits kept", True,
         tuple(_with(f"hard-number-{it}", f'"properties":{{"amount":{number}}}') for it, number in enumerate(NUMBERS))),
)  # fmt: skip


def records(kind: Kind) -> Iterator[bytes | None]:
    """What is written into one partition: good events, the hard ones, good events."""
    yield from (event(f"{kind.key}-before-{number}") for number in range(AROUND))
    yield from kind.values
    yield from (event(f"{kind.key}-behind-{number}") for number in range(AROUND))


def ordinary(kind: Kind) -> set[bytes]:
    """The ids of the good events around the hard ones."""
    return {f"{kind.key}-{side}-{number}".encode() for side in ("before", "behind") for number in range(AROUND)}


def outcome(kind: Kind, rows: Sequence[bytes], aside: Sequence[bytes]) -> str:
    """In a word or two what has become of a kind. `rows` are lines of data, `aside` what was kept apart from them."""
    if kind.key == "numbers":
        return f"{sum(map(_keeps, NUMBERS, kind.values, [rows] * len(NUMBERS)))} of {len(NUMBERS)}"
    if kind.key == "lines":
        whole = [row for row in rows if b"hard-lines" in row and _is_json(row)]
        return "one row" if whole else "broken" if any(b"hard-lines" in row for row in rows) else "dropped"
    mine = _FINDERS.get(kind.key, lambda line: f"bad-{kind.key}".encode() in line)
    written, kept = sum(map(mine, rows)), sum(map(mine, aside)) or _told(kind, aside)
    if written:
        return "written as a row" if written == len(kind.values) else f"{written} of {len(kind.values)} written"
    return "quarantined" if kept >= len(kind.values) else "dropped"


def _told(kind: Kind, aside: Sequence[bytes]) -> int:
    """How many of them are quarantined by lines that hold the value in base64, as ours do."""
    wanted = list(kind.values)
    for line in aside:
        try:
            value = msgspec.json.decode(line, type=_Rejected).value
        except msgspec.MsgspecError:
            continue
        if value in wanted:
            wanted.remove(value)
    return len(kind.values) - len(wanted)


class _Rejected(msgspec.Struct):
    value: bytes | None = None


def _is_blank(row: bytes) -> bool:
    return row.strip() in {b"", b"null"} or b'"_value":null' in row


_FINDERS: dict[str, Callable[[bytes], bool]] = {"nothing": _is_blank}


def _keeps(number: str, value: bytes | None, rows: Sequence[bytes]) -> bool:
    """Whether the row of this event has the number with all of its digits."""
    assert value is not None
    name = re.search(rb'"event_id":"([^"]+)"', value)
    assert name
    for row in rows:
        if b'"' + name[1] + b'"' in row:
            found = re.search(rb'"amount":\s*"?([-+.0-9eE]+)', row)
            return found is not None and _same(found[1].decode(), number)
    return False


def _same(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False


def _is_json(row: bytes) -> bool:
    try:
        msgspec.json.decode(row)
    except msgspec.MsgspecError:
        return False
    return True
