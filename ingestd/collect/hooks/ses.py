"""The endpoint for Amazon SES, whose events come as messages of Amazon SNS, or as they are (raw delivery)."""

import logging

from ingestd.collect.hooks.apply import EventBuilder
from ingestd.collect.hooks.endpoint import KeyRing, refused
from ingestd.collect.hooks.signatures import MISSING, Refusal, verify_basic
from ingestd.collect.hooks.sns import SnsVerifier
from ingestd.collect.hooks.sns_message import NOTIFICATION, UNSUBSCRIPTION
from ingestd.collect.messages import Incoming, Mapped

#: SES says so once, in plain text, when a topic is set as its destination.
_GREETING = "Successfully validated SNS topic"

log = logging.getLogger(__name__)


class SesEndpoint:
    """Takes messages of allowed topics. Raw deliveries have no signature: they need Basic credentials."""

    def __init__(self, verifier: SnsVerifier, keys: KeyRing | None, builder: EventBuilder) -> None:
        self._verifier = verifier
        self._keys = keys
        self._builder = builder

    async def collect(self, request: Incoming) -> Mapped:
        """Verify the message and map its event. Raises `RefusedError`."""
        if request.headers.get("x-amz-sns-rawdelivery", "").lower() == "true":
            return self._raw(request)
        message = await self._verifier.verify(request)
        if message.type == UNSUBSCRIPTION:
            log.info("the subscription to the SNS topic %s was removed", message.topic_arn)
        if message.type != NOTIFICATION or message.message.startswith(_GREETING):
            return Mapped(())
        return Mapped(self._builder.build(request, message.message.encode(), message.message_id))

    def _raw(self, request: Incoming) -> Mapped:
        if self._keys is None:
            raise refused(Refusal(MISSING, "raw messages are not signed: set key_file and use Basic credentials"))
        if refusal := verify_basic(request, self._keys.all()):
            raise refused(refusal)
        self._verifier.check_topic(request.headers.get("x-amz-sns-topic-arn", ""))
        if request.body.startswith(_GREETING.encode()):
            return Mapped(())
        return Mapped(self._builder.build(request, request.body, request.headers.get("x-amz-sns-message-id")))
