"""Finds the event inside a message: notifications of SNS, and pointers of SQS's extended client. Pure.

The signature of a notification is not verified: whoever may send to the queue is named by the queue's policy, and SQS
has checked it. What a notification asks to visit is not visited.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from ingestd.core.records import SourceRefusal
from ingestd.core.rejections import Reason
from ingestd.sources.sqs.answers import Attribute

Envelope = Literal["none", "sns", "auto"]

_POINTER = re.compile(
    rb'\s*\[\s*"(?:software\.amazon\.payloadoffloading\.PayloadS3Pointer|'
    rb'com\.amazon\.sqs\.javamessaging\.MessageS3Pointer)"'
)
_SNS_TYPE = re.compile(rb'"Type"\s*:\s*"(?:Notification|SubscriptionConfirmation|UnsubscribeConfirmation)"')
_NOTIFICATION = "Notification"


class _SnsAttribute(msgspec.Struct, rename="pascal"):
    type: str
    value: str


class _Sns(msgspec.Struct, rename="pascal"):
    type: str
    topic_arn: str
    message: str
    message_attributes: dict[str, _SnsAttribute] = {}


_SNS = msgspec.json.Decoder(_Sns)


class Content(NamedTuple):
    """A message's event and attributes; where it is refused, the message as it was received."""

    value: bytes
    headers: Sequence[tuple[str, bytes]]
    refused: SourceRefusal | None = None


def unwrap(value: bytes, headers: Sequence[tuple[str, bytes]], envelope: Envelope) -> Content:
    """The event in a message. `auto` unwraps what looks like SNS's, and takes any other message for the event."""
    content = Content(value, headers)
    if envelope == "sns" or (envelope == "auto" and _SNS_TYPE.search(value) is not None):
        content = _unwrap_sns(content, envelope)
    if content.refused is None and _POINTER.match(content.value):
        return Content(value, headers, _POINTER_REFUSED)
    return content


_POINTER_REFUSED = SourceRefusal(
    Reason.POINTER,
    "the event is in an object of S3, where SQS's or SNS's extended client has put it, and is not read from there: "
    "let the sender send events of up to 1 MiB themselves",
)


def _unwrap_sns(content: Content, envelope: Envelope) -> Content:
    try:
        found = _SNS.decode(content.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if envelope == "auto":  # the validation says what is wrong with it
            return content
        return _not_an_envelope(
            content,
            f"not a notification of SNS ({error}): where the subscription has raw message delivery, or the message "
            'does not come from SNS, set sqs.envelope = "auto"',
        )
    if found.type != _NOTIFICATION:
        return _not_an_envelope(
            content,
            f"SNS sent a {found.type[:50]} and no event: confirm the subscription by its SubscribeURL with the "
            "subscriber's rights; ingestd does not visit it",
        )
    headers = tuple((name, _bytes(it)) for name, it in found.message_attributes.items())
    return Content(found.message.encode(), headers)


def _bytes(attribute: _SnsAttribute) -> bytes:
    value = attribute.value
    return (Attribute(binary_value=value) if attribute.type == "Binary" else Attribute(string_value=value)).data()


def _not_an_envelope(content: Content, message: str) -> Content:
    return content._replace(refused=SourceRefusal(Reason.NOT_AN_ENVELOPE, message))
