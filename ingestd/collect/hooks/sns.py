"""Verifies messages of Amazon SNS with its certificates, and confirms subscriptions to allowed topics."""

import asyncio
import base64
import logging
from collections.abc import Collection

import msgspec

from ingestd.collect.hooks.endpoint import Fetch, refused
from ingestd.collect.hooks.public_keys import SigningCertificate
from ingestd.collect.hooks.signatures import MISSING, WRONG, Refusal, check_age
from ingestd.collect.hooks.sns_message import (
    DECODER,
    SNS_WINDOW_MS,
    SUBSCRIPTION,
    SnsMessage,
    is_certificate_url,
    is_subscribe_url,
    signed_text,
)
from ingestd.collect.mapping import as_time, time_of
from ingestd.collect.messages import Incoming
from ingestd.ops.http_client import HttpAnswer, HttpFailure

TOPIC_NOT_ALLOWED = "topic_not_allowed"
UNREACHABLE = "sns_unreachable"
CERTIFICATES_MAX = 8  # SNS has one for each region, and changes it about once a year
RETRY_AFTER_S = 10

log = logging.getLogger(__name__)


class SnsVerifier:
    """Verifies messages. Keeps the latest certificates, so that SNS is asked once for each."""

    def __init__(self, topic_arns: Collection[str], fetch: Fetch) -> None:
        self._topic_arns = frozenset(topic_arns)
        self._fetch = fetch
        self._certificates: dict[str, SigningCertificate] = {}
        self._lock = asyncio.Lock()  # one certificate is fetched at a time, however many requests wait for it

    async def verify(self, request: Incoming) -> SnsMessage:
        """The message of the request, whose subscription is confirmed where it asks for that. Raises RefusedError."""
        try:
            message = DECODER.decode(request.body)
            content = signed_text(message)
            signature = base64.b64decode(message.signature, validate=True)
        except (ValueError, RecursionError, msgspec.DecodeError):
            content = None
        if content is None:
            raise refused(Refusal(MISSING, "the body is not a signed message of Amazon SNS"))
        self.check_topic(message.topic_arn)
        sent_at = as_time(message.timestamp)
        age = check_age(
            None if sent_at is None else int(sent_at.timestamp() * 1000), request.received_at, SNS_WINDOW_MS
        )
        if age is not None:
            raise refused(age)
        if message.signature_version not in ("1", "2"):
            raise refused(Refusal(WRONG, "the version of the signature is not 1 or 2"))
        certificate = await self._certificate(message.signing_cert_url, message.topic_arn)
        if not certificate.is_valid_at(time_of(request.received_at)):
            raise refused(Refusal(WRONG, "the certificate is not valid now"))
        if not certificate.has_signed(content, signature, message.signature_version):
            raise refused(Refusal(WRONG, "the signature is not of Amazon SNS"))
        if message.type == SUBSCRIPTION:
            await self._confirm(message)
        return message

    def check_topic(self, topic_arn: str) -> None:
        """Raises RefusedError where messages of this topic are not taken."""
        if topic_arn not in self._topic_arns:
            raise refused(Refusal(TOPIC_NOT_ALLOWED, "the topic is not in topic_arns of this source", 403))

    async def _certificate(self, url: str, topic_arn: str) -> SigningCertificate:
        if not is_certificate_url(url, topic_arn):
            raise refused(Refusal(WRONG, "SigningCertURL is not a URL of Amazon SNS in the topic's region"))
        if (known := self._certificates.get(url)) is not None:
            return known
        async with self._lock:
            if (known := self._certificates.get(url)) is not None:
                return known
            answer = await self._get(url)
            if answer.status != 200:
                raise refused(Refusal(WRONG, f"Amazon SNS answered {answer.status} for the certificate"))
            try:
                certificate = SigningCertificate(answer.body)
            except ValueError as error:
                raise refused(Refusal(WRONG, f"the certificate cannot be used: {error}")) from None
            while len(self._certificates) >= CERTIFICATES_MAX:
                del self._certificates[next(iter(self._certificates))]
            self._certificates[url] = certificate
            return certificate

    async def _confirm(self, message: SnsMessage) -> None:
        if not is_subscribe_url(message.subscribe_url or "", message.topic_arn):
            raise refused(Refusal(WRONG, "SubscribeURL does not confirm a subscription to this topic"))
        answer = await self._get(message.subscribe_url or "")
        if answer.status != 200:
            message_text = f"Amazon SNS answered {answer.status} to the confirmation of the subscription"
            raise refused(Refusal(UNREACHABLE, message_text, 503, _retry()))
        log.info("confirmed the subscription to the SNS topic %s", message.topic_arn)

    async def _get(self, url: str) -> HttpAnswer:
        try:
            answer = await self._fetch(url)
        except HttpFailure as error:
            answer = HttpAnswer(503, str(error).encode())
        if answer.status >= 500:
            raise refused(Refusal(UNREACHABLE, "Amazon SNS cannot be asked now", 503, _retry()))
        return answer


def _retry() -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S)}
