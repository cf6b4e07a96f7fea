"""The answers of SQS, decoded by msgspec. Pure."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType, field

T = TypeVar("T")


class NotAnAnswer(Exception):
    """The body is not what SQS answers."""


class Attribute(msgspec.Struct, gc=False, rename="pascal"):
    """One of a message's attributes: a text, a number as text, or bytes in base64."""

    string_value: str | UnsetType = UNSET
    binary_value: str | UnsetType = UNSET

    def data(self) -> bytes:
        """The value's bytes; those of the text itself where it is not base64."""
        if self.binary_value is UNSET:
            return self.string_value.encode(errors="surrogatepass") if self.string_value is not UNSET else b""
        try:
            return base64.b64decode(self.binary_value, validate=True)
        except ValueError:
            return self.binary_value.encode(errors="surrogatepass")


class SystemAttributes(msgspec.Struct, gc=False, rename="pascal"):
    """What SQS says of a message; its numbers are texts."""

    sent_timestamp: int
    approximate_receive_count: int
    approximate_first_receive_timestamp: int
    message_group_id: str = ""


class ReceivedMessage(msgspec.Struct, gc=False, rename="pascal"):
    """A message of an answer to ReceiveMessage."""

    message_id: str
    receipt_handle: str
    body: str
    attributes: SystemAttributes
    md5: str = field(name="MD5OfBody", default="")
    message_attributes: dict[str, Attribute] = {}

    def value(self) -> bytes | None:
        """The body's bytes; None where they are not those that were sent, by their MD5.

        Half of a surrogate pair, which SQS does not take and an emulator may, leads to bytes that are no UTF-8.
        """
        try:
            value = self.body.encode()
        except UnicodeEncodeError:
            return self.body.encode(errors="surrogatepass")  # which bytes were counted is not known
        if self.md5 and hashlib.md5(value, usedforsecurity=False).hexdigest() != self.md5:
            return None
        return value

    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The attributes, as headers of a record."""
        return tuple((name, it.data()) for name, it in self.message_attributes.items())


class _Received(msgspec.Struct, rename="pascal"):
    messages: list[ReceivedMessage] = []


class FailedEntry(msgspec.Struct, rename="pascal"):
    """An entry of a batch that failed inside a successful answer."""

    id: str
    code: str = ""
    message: str = ""
    sender_fault: bool = False


class SentEntry(msgspec.Struct, rename="pascal"):
    """An entry of a batch that succeeded."""

    id: str


class BatchAnswer(msgspec.Struct, rename="pascal"):
    """The answer to a batch: each entry is in one of both."""

    successful: list[SentEntry] = []
    failed: list[FailedEntry] = []


class _Attributes(msgspec.Struct, rename="pascal"):
    attributes: dict[str, str] = {}


class _Error(msgspec.Struct):
    type: str = field(name="__type", default="")
    message: str = ""
    capital: str = field(name="Message", default="")


# Not strict: the numbers of a message's attributes are texts.
_RECEIVED = msgspec.json.Decoder(_Received, strict=False)
_BATCH = msgspec.json.Decoder(BatchAnswer)
_ATTRIBUTES = msgspec.json.Decoder(_Attributes)
_ERROR = msgspec.json.Decoder(_Error)
_FAILURES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def received(body: bytes) -> list[ReceivedMessage]:
    """The messages of an answer to ReceiveMessage. ``NotAnAnswer`` where it is none."""
    try:
        return _RECEIVED.decode(body).messages
    except msgspec.ValidationError as error:
        raise NotAnAnswer(str(error)) from None
    except _FAILURES as error:
        return _received_by_the_standard_library(body, error)


def _received_by_the_standard_library(body: bytes, refused: Exception) -> list[ReceivedMessage]:
    """It accepts half of a surrogate pair, which msgspec does not. One message must not keep nine others away."""
    try:
        return msgspec.convert(json.loads(body), _Received, strict=False).messages
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise NotAnAnswer(str(refused)) from None


def batch(body: bytes) -> BatchAnswer:
    """The answer to a batch. ``NotAnAnswer`` where it is none."""
    return _decode(_BATCH, body)


def queue_attributes(body: bytes) -> Mapping[str, str]:
    """The answer to GetQueueAttributes. ``NotAnAnswer`` where it is none."""
    return _decode(_ATTRIBUTES, body).attributes


def error(body: bytes, headers: Mapping[str, str]) -> tuple[str, str]:
    """The code and the message of an error; both empty where the body is not one of SQS's."""
    try:
        found = _ERROR.decode(body)
    except _FAILURES:
        return "", ""
    code = found.type.rpartition("#")[2] or headers.get("x-amzn-query-error", "").partition(";")[0]
    return code, found.message or found.capital


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except _FAILURES as error:
        raise NotAnAnswer(str(error)) from None


def encode(request: Mapping[str, Any]) -> bytes:
    """The body of a request."""
    return msgspec.json.encode(request)
