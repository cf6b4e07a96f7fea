"""Messages of Amazon SNS: what of them is signed, and which of their URLs may be asked. Pure."""

import re
from urllib.parse import parse_qs, urlsplit

import msgspec

from ingestd.collect.hooks.signatures import HOUR_MS

#: SNS repeats a message for an hour at most, with the time and the signature of its publication. The id makes repeats
#: harmless, so that the window leaves room for queues.
SNS_WINDOW_MS = 8 * HOUR_MS

NOTIFICATION = "Notification"
SUBSCRIPTION = "SubscriptionConfirmation"
UNSUBSCRIPTION = "UnsubscribeConfirmation"
_CONFIRMATION_KEYS = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_NOTIFICATION_KEYS = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]{3,32}):[0-9]{12}:[A-Za-z0-9_.-]{1,256}")
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,64}\.pem")


class SnsMessage(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """A message as SNS posts it."""

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: str
    signature: str
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)
    token: str | None = None
    subject: str | None = None


DECODER = msgspec.json.Decoder(SnsMessage)


def signed_text(message: SnsMessage) -> bytes | None:
    """What the signature covers: "key\\nvalue\\n" of each key, sorted; None for a message that cannot be SNS's."""
    values = {
        "Message": message.message,
        "MessageId": message.message_id,
        "Subject": message.subject,
        "SubscribeURL": message.subscribe_url,
        "Timestamp": message.timestamp,
        "Token": message.token,
        "TopicArn": message.topic_arn,
        "Type": message.type,
    }
    if message.type == NOTIFICATION:
        keys = [key for key in _NOTIFICATION_KEYS if values[key] is not None]
    elif message.type in (SUBSCRIPTION, UNSUBSCRIPTION):
        keys = list(_CONFIRMATION_KEYS)
    else:
        return None
    # Without this check, a value with line breaks in one field could stand for the fields after it.
    if any(values[key] is None or (key != "Message" and "\n" in str(values[key])) for key in keys):
        return None
    return "".join(f"{key}\n{values[key]}\n" for key in keys).encode()


def is_certificate_url(url: str, topic_arn: str) -> bool:
    """Whether `url` is where SNS publishes certificates, in the topic's own region.

    The region matters: ``sns.s3-us-west-2.amazonaws.com`` is a bucket, which anybody may have.
    """
    host = _host(topic_arn)
    return (
        host is not None
        and url.startswith(f"https://{host}/")
        and bool(_CERTIFICATE_PATH.fullmatch(url.removeprefix(f"https://{host}")))
    )


def is_subscribe_url(url: str, topic_arn: str) -> bool:
    """Whether a GET of `url` confirms the subscription to this topic, and does nothing else."""
    host = _host(topic_arn)
    if host is None or not url.isascii() or not url.isprintable() or not url.startswith(f"https://{host}/?"):
        return False
    query = parse_qs(urlsplit(url).query)
    return query.get("Action") == ["ConfirmSubscription"] and query.get("TopicArn") == [topic_arn]


def _host(topic_arn: str) -> str | None:
    match = _TOPIC.fullmatch(topic_arn)
    if match is None:
        return None
    return f"sns.{match[1]}.amazonaws.com{'.cn' if match[1].startswith('cn-') else ''}"
