"""The endpoint for Salesforce's outbound messages, which are not signed: a key in the URL, and the organization."""

from ingestd.collect.hooks.apply import EventBuilder
from ingestd.collect.hooks.endpoint import KeyRing, refused
from ingestd.collect.hooks.signatures import Refusal, key_verifier
from ingestd.collect.hooks.soap import ACKNOWLEDGED, is_same_organization, read_outbound_message
from ingestd.collect.messages import Incoming, Mapped, RefusedError, Reply
from ingestd.core.decoding import ENCODER

WRONG_ORGANIZATION = "wrong_organization"
NOT_XML = "not_xml"

_verify_key = key_verifier(parameter="key")  # Salesforce can send no header: its URL is /hooks/SOURCE?key=KEY


class SalesforceEndpoint:
    """Answers with Salesforce's own acknowledgement, without which it sends a message again for 24 hours."""

    def __init__(self, keys: KeyRing | None, organization_id: str | None, builder: EventBuilder) -> None:
        """Without keys something before the collector has to verify Salesforce's client certificate."""
        self._keys = keys
        self._organization_id = organization_id
        self._builder = builder

    async def collect(self, request: Incoming) -> Mapped:
        """Verify the message and map its notifications. Raises `RefusedError`."""
        if self._keys is not None and (refusal := _verify_key(request, self._keys.all())):
            raise refused(refusal)
        try:
            message = read_outbound_message(request.body)
        except ValueError as error:
            raise RefusedError(400, NOT_XML, f"the body cannot be read: {error}") from None
        configured = self._organization_id
        if configured is not None and not is_same_organization(message.organization_id, configured):
            raise refused(Refusal(WRONG_ORGANIZATION, "the organization is not that of this source"))
        # A notification has no bytes of its own: its fields as JSON stand for them.
        raws = [ENCODER.encode(fields) for fields in message.notifications]
        events = [event for raw in raws for event in self._builder.build(request, raw)]
        return Mapped(events, Reply(body=ACKNOWLEDGED, content_type="text/xml"))
