"""Amazon SES by SNS: signatures of a certificate made here, subscriptions, raw delivery, and what is never asked."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from ingestd.collect.hooks.signatures import EXPIRED, FUTURE, MISSING, WRONG, WRONG_KEY
from ingestd.collect.hooks.sns import CERTIFICATES_MAX, TOPIC_NOT_ALLOWED, UNREACHABLE, SnsVerifier
from ingestd.collect.hooks.sns_message import SNS_WINDOW_MS, is_certificate_url, is_subscribe_url
from ingestd.collect.messages import Incoming, Mapped, RefusedError
from ingestd.ops.http_client import HttpAnswer, HttpFailure
from tests.collect.hooks_world import NOW_MS, FakeKeys, FakeSns, base64_of, columns, make_endpoint, post, rows_of

TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail-events"
HOST = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE_URL = f"{HOST}/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
SUBSCRIBE_URL = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)

OPEN: dict[str, Any] = {
    "eventType": "Open",
    "mail": {
        "timestamp": "2026-09-21T10:00:00.000Z",
        "source": "news@example.com",
        "messageId": "0100017-abc",
        "destination": ["Ada@Example.com"],
        "tags": {"ses:configuration-set": ["marketing"], "client_id": ["C-7"], "campaign_id": ["spring"]},
    },
    "open": {
        "ipAddress": "203.0.113.77",
        "timestamp": "2026-09-21T12:00:00.123Z",
        "userAgent": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15",
    },
}


def certificate(days: int = 30, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = _KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begin, end = sorted((NOW + timedelta(days=days), NOW - timedelta(days=abs(days) + 1)))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def sign(message: dict[str, Any], key: rsa.RSAPrivateKey = _KEY) -> dict[str, Any]:
    """With a signature as Amazon describes it, written here without ingestd's own code."""
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    content = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    algorithm = hashes.SHA256() if message["SignatureVersion"] == "2" else hashes.SHA1()  # noqa: S303
    return message | {"Signature": base64_of(key.sign(content.encode(), padding.PKCS1v15(), algorithm))}


def notification(event: object = OPEN, **changes: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": event if isinstance(event, str) else json.dumps(event),
        "Timestamp": "2026-09-21T12:00:01.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
        "UnsubscribeURL": f"{HOST}/?Action=Unsubscribe",
    } | changes


def subscription(**changes: Any) -> dict[str, Any]:
    extra = {"Type": "SubscriptionConfirmation", "SubscribeURL": SUBSCRIBE_URL, "Token": "2336412f37"}
    return notification("You have chosen to subscribe", **extra) | changes


def sns(pem: bytes | None = None) -> FakeSns:
    answers = {CERTIFICATE_URL: HttpAnswer(200, pem or certificate()), SUBSCRIBE_URL: HttpAnswer(200, b"<xml/>")}
    return FakeSns(answers)


def request(message: dict[str, Any], **changes: Any) -> Incoming:
    at = int(datetime.fromisoformat("2026-09-21T12:00:02Z").timestamp() * 1000)
    return post(json.dumps(message).encode(), {"x-amz-sns-message-type": message["Type"]}, received_at=at, **changes)


async def collect(message: dict[str, Any], server: FakeSns | None = None, **changes: Any) -> Mapped:
    endpoint = make_endpoint("ses", sns=server or sns(), topic_arns=(TOPIC,))
    return await endpoint.collect(request(message, **changes))


async def refusal(message: dict[str, Any], server: FakeSns | None = None) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        await collect(message, server)
    return caught.value


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("more", [{}, {"Subject": "Amazon SES event"}])
async def test_a_signed_message_becomes_an_event_with_the_messages_id(version: str, more: dict[str, str]) -> None:
    (row,) = rows_of(await collect(sign(notification(SignatureVersion=version, **more))))
    assert columns(row, ["event_type", "event_id", "client_id", "campaign_id", "channel"]) == [
        "email_open", "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "C-7", "spring", "email",
    ]  # fmt: skip
    assert row["event_timestamp"] == "2026-09-21T12:00:00.123000Z"
    assert row["properties"]["email"] == "Ada@Example.com"
    assert row["properties"]["ip"] == "203.0.113.0"
    assert "iPhone" in row["properties"]["user_agent"]


@pytest.mark.parametrize(
    "changes",
    [
        {"Message": json.dumps(OPEN | {"eventType": "Click"})}, {"MessageId": "another"}, {"Subject": "another"},
        {"Timestamp": "2026-09-21T12:00:00.000Z"}, {"SignatureVersion": "1"}, {"SignatureVersion": "3"},
        {"Type": "UnsubscribeConfirmation", "SubscribeURL": SUBSCRIBE_URL, "Token": "t"}, {"Signature": "AAAA"},
    ],
)  # fmt: skip
async def test_a_message_that_was_changed_is_refused(changes: dict[str, Any]) -> None:
    refused = await refusal(sign(notification()) | changes)
    assert (refused.status, refused.reason) == (401, WRONG)


async def test_the_version_of_the_signature_is_1_or_2() -> None:
    assert (await refusal(sign(notification(SignatureVersion="1")) | {"SignatureVersion": "3"})).reason == WRONG


async def test_a_line_break_cannot_move_text_from_one_field_to_another() -> None:
    honest = sign(notification(Subject="s\nTimestamp\n2026-09-21T12:00:01.000Z"))
    forged = dict(honest)
    del forged["Subject"]
    assert (await refusal(honest)).reason == MISSING
    assert (await refusal(forged)).reason == WRONG


async def test_another_persons_certificate_is_refused() -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert (await refusal(sign(notification(), other))).reason == WRONG


@pytest.mark.parametrize("pem", [certificate(-10), certificate(10, ec.generate_private_key(ec.SECP256R1())), b"none"])
async def test_a_certificate_that_is_over_or_of_another_kind_is_refused(pem: bytes) -> None:
    assert (await refusal(sign(notification()), sns(pem))).reason == WRONG


@pytest.mark.parametrize(
    ("timestamp", "reason"),
    [("2026-09-21T03:59:59Z", EXPIRED), ("2026-09-21T12:05:00Z", FUTURE), ("today", MISSING), ("", MISSING)],
)
async def test_old_and_future_messages_are_refused(timestamp: str, reason: str) -> None:
    assert SNS_WINDOW_MS == 8 * 3600 * 1000
    assert (await refusal(sign(notification(Timestamp=timestamp)))).reason == reason


async def test_other_topics_are_refused_before_anything_is_asked() -> None:
    server = sns()
    other = "arn:aws:sns:eu-west-1:999999999999:mail-events"
    refused = await refusal(sign(subscription(TopicArn=other)), server)
    assert (refused.status, refused.reason) == (403, TOPIC_NOT_ALLOWED)
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-0.pem",
        "https://user@sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-0.pem",
        "https://sns.s3-eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem?x=1",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem#x",
        "https://sns.eu-west-1.amazonaws.com/../SimpleNotificationService-0.pem",
        "https://sns.eu-west-1.amazonaws.com/other.pem",
        "https://169.254.169.254/SimpleNotificationService-0.pem",
        "file:///etc/passwd",
        "",
    ],
)
async def test_certificates_come_from_sns_in_the_topics_region_only(url: str) -> None:
    server = sns()
    assert not is_certificate_url(url, TOPIC)
    assert (await refusal(sign(notification(SigningCertURL=url)), server)).reason == WRONG
    assert server.asked == []


def test_urls_of_other_partitions() -> None:
    china = "arn:aws-cn:sns:cn-north-1:123456789012:t"
    assert is_certificate_url("https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0a.pem", china)
    assert not is_certificate_url("https://sns.cn-north-1.amazonaws.com/SimpleNotificationService-0a.pem", china)
    assert not is_certificate_url(CERTIFICATE_URL, "arn:aws:sns:eu-west-1/x:123456789012:t")


async def test_a_subscription_to_an_allowed_topic_is_confirmed() -> None:
    server = sns()
    mapped = await collect(sign(subscription()), server)
    assert (list(mapped.events), mapped.reply.status) == ([], 200)
    assert server.asked == [CERTIFICATE_URL, SUBSCRIBE_URL]


@pytest.mark.parametrize(
    "url",
    [
        "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        "https://evil.example/?Action=ConfirmSubscription&TopicArn=" + TOPIC,
        f"{HOST}@evil.example/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        f"{HOST}/?Action=Unsubscribe&TopicArn={TOPIC}",
        f"{HOST}/?Action=ConfirmSubscription&Action=Publish&TopicArn={TOPIC}",
        f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}x",
        f"{HOST}/?Action=ConfirmSubscription",
        f"{HOST}/x/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        "http://127.0.0.1/",
    ],
)
async def test_no_other_url_is_asked_for_a_subscription(url: str) -> None:
    server = sns()
    assert not is_subscribe_url(url, TOPIC)
    assert (await refusal(sign(subscription(SubscribeURL=url)), server)).reason == WRONG
    assert server.asked == [CERTIFICATE_URL]


async def test_a_subscription_with_a_wrong_signature_is_not_confirmed() -> None:
    server = sns()
    await refusal(sign(subscription()) | {"Token": "another"}, server)
    assert SUBSCRIBE_URL not in server.asked


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_confirmation_that_fails_is_tried_again_later(status: int) -> None:
    server = sns()
    server.answers[SUBSCRIBE_URL] = HttpAnswer(status, b"")
    refused = await refusal(sign(subscription()), server)
    assert (refused.status, refused.reason) == (503, UNREACHABLE)
    assert refused.headers["Retry-After"]


async def test_the_end_of_a_subscription_is_no_event_and_asks_nobody() -> None:
    server = sns()
    mapped = await collect(sign(subscription(Type="UnsubscribeConfirmation")), server)
    assert list(mapped.events) == []
    assert server.asked == [CERTIFICATE_URL]


async def test_no_certificate_now_means_to_send_again() -> None:
    async def unreachable(url: str) -> HttpAnswer:
        raise HttpFailure(TimeoutError())

    verifier = SnsVerifier([TOPIC], unreachable)
    with pytest.raises(RefusedError) as caught:
        await verifier.verify(request(sign(notification())))
    assert (caught.value.status, caught.value.reason) == (503, UNREACHABLE)


async def test_a_certificate_is_fetched_once_for_many_requests() -> None:
    server = sns()
    verifier = SnsVerifier([TOPIC], server.fetch)
    await asyncio.gather(*(verifier.verify(request(sign(notification()))) for _ in range(20)))
    assert server.asked == [CERTIFICATE_URL]


async def test_certificates_that_are_kept_are_bounded() -> None:
    server = sns()
    verifier = SnsVerifier([TOPIC], server.fetch)
    for number in range(CERTIFICATES_MAX + 1):
        url = f"{HOST}/SimpleNotificationService-{number}.pem"
        server.answers[url] = HttpAnswer(200, certificate())
        await verifier.verify(request(sign(notification(SigningCertURL=url))))
    await verifier.verify(request(sign(notification(SigningCertURL=f"{HOST}/SimpleNotificationService-0.pem"))))
    assert len(server.asked) == CERTIFICATES_MAX + 2
    await verifier.verify(request(sign(notification(SigningCertURL=f"{HOST}/SimpleNotificationService-8.pem"))))
    assert len(server.asked) == CERTIFICATES_MAX + 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'"x"', b"[" * 5000, b'{"Type":1}'])
async def test_a_body_that_is_no_message_is_refused(body: bytes) -> None:
    endpoint = make_endpoint("ses", sns=sns(), topic_arns=(TOPIC,))
    with pytest.raises(RefusedError) as caught:
        await endpoint.collect(post(body))
    assert (caught.value.status, caught.value.reason) == (401, MISSING)


async def test_the_greeting_of_ses_is_no_event() -> None:
    text = "Successfully validated SNS topic for Amazon SES event publishing."
    assert list((await collect(sign(notification(text)))).events) == []


async def test_a_message_that_is_no_event_goes_on_as_its_bytes() -> None:
    (event,) = (await collect(sign(notification("hello")))).events
    assert (event.value, event.fault) == (b"hello", "not_json")


# -- raw delivery


def raw_request(topic: str = TOPIC, credentials: bytes = b"ses:secret") -> Incoming:
    headers = {
        "x-amz-sns-rawdelivery": "true", "x-amz-sns-topic-arn": topic, "x-amz-sns-message-id": "m-1",
        "authorization": f"Basic {base64_of(credentials)}",
    }  # fmt: skip
    return post(json.dumps(OPEN).encode(), headers)


async def test_raw_delivery_needs_credentials_and_an_allowed_topic() -> None:
    endpoint = make_endpoint("ses", FakeKeys(b"ses:secret"), sns(), topic_arns=(TOPIC,))
    (row,) = rows_of(await endpoint.collect(raw_request()))
    assert (row["event_id"], row["client_id"]) == ("m-1", "C-7")
    for refused, reason in [
        (raw_request(credentials=b"ses:wrong"), WRONG_KEY),
        (raw_request("arn:aws:sns:eu-west-1:123456789012:other"), TOPIC_NOT_ALLOWED),
    ]:
        with pytest.raises(RefusedError) as caught:
            await endpoint.collect(refused)
        assert caught.value.reason == reason


async def test_raw_delivery_without_a_key_file_is_refused() -> None:
    endpoint = make_endpoint("ses", sns=sns(), topic_arns=(TOPIC,))
    with pytest.raises(RefusedError) as caught:
        await endpoint.collect(raw_request())
    assert caught.value.reason == MISSING


# -- events


async def test_a_bounce_of_several_people_is_one_event_for_each() -> None:
    people = [{"emailAddress": "a@example.com"}, {"emailAddress": "b@example.com"}]
    mail = {"messageId": "m", "timestamp": "2026-09-21T10:00:00Z", "destination": ["a@example.com", "b@example.com"]}
    bounce = {"eventType": "Bounce", "mail": mail, "bounce": {"bouncedRecipients": people, "bounceType": "Permanent"}}
    rows = rows_of(await collect(sign(notification(bounce, MessageId="id"))))
    assert [row["event_id"] for row in rows] == ["id", "id:1"]
    assert [row["properties"]["email"] for row in rows] == ["a@example.com", "b@example.com"]
    assert len({row["client_id"] for row in rows}) == 2


async def test_a_bounce_that_cannot_be_mapped_for_one_of_its_people_goes_on_whole() -> None:
    people = [{"emailAddress": "a@example.com"}, {"emailAddress": 7}]
    bounce = {"eventType": "Bounce", "mail": {"destination": []}, "bounce": {"bouncedRecipients": people}}
    (event,) = (await collect(sign(notification(bounce)))).events
    assert (json.loads(event.value), event.fault) == (bounce, "missing_field")


async def test_an_open_of_a_message_to_several_people_is_of_none_of_them() -> None:
    event = json.loads(json.dumps(OPEN))
    event["mail"]["destination"] = ["a@example.com", "b@example.com"]
    del event["mail"]["tags"]["client_id"]
    (row,) = rows_of(await collect(sign(notification(event))))
    assert row["client_id"] == "ses:0100017-abc"
    assert row["properties"]["mail"]["destination"] == ["a@example.com", "b@example.com"]
