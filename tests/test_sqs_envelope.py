"""Events inside messages: notifications of SNS, pointers of extended clients, and everything else as it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.rejections import Reason
from ingestd.sources.sqs.envelope import Envelope, unwrap

EVENT = '{"event_id":"1","text":"ü€😀","nested":{"Type":"Notification"}}'
POINTERS = (
    '["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]',
    ' [ "com.amazon.sqs.javamessaging.MessageS3Pointer", {"s3BucketName": "b", "s3Key": "k"}]',
)


def notification(message: str, **more: Any) -> bytes:
    """As SNS writes it."""
    content = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:events",
        "Message": message,
        "Timestamp": "2026-11-29T00:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "https://sns.eu-central-1.amazonaws.com/x.pem",
        "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe",
        **more,
    }
    return json.dumps(content, indent=2).encode()


@pytest.mark.parametrize("envelope", ["sns", "auto"])
def test_the_event_of_a_notification_takes_its_place(envelope: Envelope) -> None:
    attributes = {"a": {"Type": "String", "Value": "ü"}, "b": {"Type": "Binary", "Value": "AP8="}}
    found = unwrap(notification(EVENT, MessageAttributes=attributes), [("of", b"sqs")], envelope)
    assert found.value == EVENT.encode()
    assert dict(found.headers) == {"a": "ü".encode(), "b": b"\x00\xff"}
    assert found.refused is None


def test_without_an_envelope_a_notification_is_data() -> None:
    value = notification(EVENT)
    assert unwrap(value, [("a", b"b")], "none") == (value, [("a", b"b")], None)


@pytest.mark.parametrize(
    "value",
    [EVENT.encode(), b"", b"\xff", b"[" * 100_000, b'{"Records":[{"s3":{}}]}', b'{"Type":"Notification"}', b"null"],
)
def test_auto_leaves_what_is_no_notification(value: bytes) -> None:
    assert unwrap(value, [], "auto") == (value, [], None)


@pytest.mark.parametrize(
    "value",
    [EVENT.encode(), b"", b"\xff", b"[" * 100_000, b'{"Type":"Notification","TopicArn":"t","Message":{}}', b"null",
     notification(EVENT).replace(b"EXAMPLE", b"\\ud800")[:-20]],
)  # fmt: skip
def test_what_is_no_notification_is_refused_as_it_came(value: bytes) -> None:
    found = unwrap(value, [("a", b"b")], "sns")
    assert (found.value, found.headers) == (value, [("a", b"b")])
    assert found.refused is not None
    assert found.refused.reason is Reason.NOT_AN_ENVELOPE
    assert 'sqs.envelope = "auto"' in found.refused.message


@pytest.mark.parametrize("envelope", ["sns", "auto"])
def test_a_confirmation_is_refused_and_not_visited(envelope: Envelope) -> None:
    value = notification("You have chosen to subscribe", Type="SubscriptionConfirmation", SubscribeURL="https://evil")
    found = unwrap(value, [], envelope)
    assert found.value == value
    assert found.refused is not None
    assert found.refused.reason is Reason.NOT_AN_ENVELOPE
    assert "SubscriptionConfirmation" in found.refused.message


@pytest.mark.parametrize("pointer", POINTERS)
@pytest.mark.parametrize("envelope", ["none", "sns", "auto"])
def test_a_pointer_is_refused_as_it_came(pointer: str, envelope: Envelope) -> None:
    value = notification(pointer) if envelope == "sns" else pointer.encode()
    found = unwrap(value, [("ExtendedPayloadSize", b"300000")], envelope)
    assert found.value == value
    assert found.headers == [("ExtendedPayloadSize", b"300000")]
    assert found.refused is not None
    assert found.refused.reason is Reason.POINTER
    assert "S3" in found.refused.message


@given(st.binary(max_size=200), st.sampled_from(["none", "sns", "auto"]))
def test_any_bytes_are_either_handed_on_or_refused(value: bytes, envelope: Envelope) -> None:
    found = unwrap(value, [], envelope)
    assert found.value == value


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_in_a_notification_is_the_event(message: str) -> None:
    assert unwrap(notification(message), [], "sns").value == message.encode()
