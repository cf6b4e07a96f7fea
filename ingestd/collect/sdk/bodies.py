"""Splits a request's body into its messages, so that one broken message spoils no other. Pure."""

import re
from typing import Any

import msgspec

from ingestd.collect.mapping import DUPLICATE_KEY, UnmappableError, decode
from ingestd.core.rejections import Reason, RejectedRecord, parse

_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw]).decode
_ENCODE = msgspec.json.Encoder().encode
#: A string of a masked text, whose last quote is missing where it has no end, or a character of JSON's structure. No
#: group is repeated: `re` keeps some 300 bytes for each time, and possessive groups are wrong before Python 3.11.5.
_TOKEN = re.compile(rb'"[^"]*"?|[\[\]{},]')
_TOKENS_MAX = 200_000  # of a body that is split by hand: up to 0.2 s, in which no other request is answered
#: Batches of shorter messages than any SDK sends are not mapped: it would keep all other requests waiting.
_MESSAGES_MAX = 1000
_MESSAGE_MIN_BYTES = 64  # on average, from that many on


def members(body: bytes) -> dict[str, bytes]:
    """The members of the JSON object in `body`, each as its bytes. Raises `UnmappableError` where it is none."""
    try:
        raw = _RAW_MEMBERS(body)
    except Exception:  # noqa: BLE001 - one broken message is enough: half of an emoji, cut by JavaScript's substr
        return _split_members(body)
    again = _ENCODE(raw)
    if again != body and again.count(b'"') != body.count(b'"'):
        raise UnmappableError(DUPLICATE_KEY)
    return {name: bytes(value) for name, value in raw.items()}


def items(array: bytes) -> list[bytes]:
    """The items of the JSON array in `array`, each as its bytes. Raises `UnmappableError` where it is none."""
    try:
        found = [bytes(item) for item in _RAW_ITEMS(array)]
    except Exception:  # noqa: BLE001 - as above
        found = _split(array, b"[]")
    if len(found) > _MESSAGES_MAX and len(found) * _MESSAGE_MIN_BYTES > len(array):
        raise UnmappableError(Reason.TOO_LARGE)
    return found


def shared_members(raw: dict[str, bytes], *left_out: str) -> dict[str, Any]:
    """What a batch says of all its messages. Raises `UnmappableError`."""
    kept = {name: value for name, value in raw.items() if name not in left_out}
    return decode(b"{%s}" % b",".join(_ENCODE(name) + b":" + value for name, value in kept.items()))


def _split_members(body: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in _split(body, b"{}"):
        end = _masked(part).find(b'"', 1) + 1
        name, value = _text_of(part[:end]), part[end:].lstrip()
        if name is None or value[:1] != b":":
            raise UnmappableError(_reason(body))
        if name in found:
            raise UnmappableError(DUPLICATE_KEY)
        found[name] = value[1:].strip()
    return found


def _masked(text: bytes) -> bytes:
    """`text` without escaped quotes, as long as before: each quote begins or ends a string."""
    return text.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def _text_of(raw: bytes) -> str | None:
    """The JSON string in `raw`; None where it is something else."""
    try:
        return msgspec.json.decode(raw, type=str)
    except Exception:  # noqa: BLE001 - whatever it is, it is no text
        return None


def _split(text: bytes, brackets: bytes) -> list[bytes]:
    """The parts between the commas of the outermost object or array, however broken they are inside."""
    text = text.strip()
    if text[:1] != brackets[:1] or text[-1:] != brackets[1:]:
        raise UnmappableError(_reason(text))
    parts: list[bytes] = []
    begin, depth = 1, 0
    for count, token in enumerate(_TOKEN.finditer(_masked(text))):
        kind = token[0]
        if count > _TOKENS_MAX:
            raise UnmappableError(Reason.TOO_LARGE)
        if kind == b",":
            if depth == 1:
                parts.append(text[begin : token.start()].strip())
                begin = token.end()
        elif kind in b"[{":
            depth += 1
        elif kind in b"]}":
            depth -= 1
            if depth == 0 and token.end() != len(text):
                break
        elif len(kind) == 1 or not kind.endswith(b'"'):
            break  # a string without an end
    else:
        if depth == 0:
            parts.append(text[begin:-1].strip())
            return [part for part in parts if part]  # between two commas is nothing to keep
    raise UnmappableError(_reason(text))


def _reason(text: bytes) -> str:
    try:
        parse(text)
    except RejectedRecord as error:
        return str(error.args[0])
    return Reason.WRONG_TYPE
