"""Verifies SendGrid's signed event webhook: ECDSA over timestamp and raw body. Pure."""

import base64
from collections.abc import Sequence

from ingestd.collect.hooks.public_keys import is_signed_ecdsa
from ingestd.collect.hooks.signatures import MISSING, SENDGRID_WINDOW_MS, WRONG, Refusal, check_age
from ingestd.collect.messages import Incoming

_SECONDS_DIGITS_MAX = 12


def verify_sendgrid(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
    """The keys are the verification keys that SendGrid shows, in base64."""
    text = request.headers.get("x-twilio-email-event-webhook-signature", "")
    timestamp = request.headers.get("x-twilio-email-event-webhook-timestamp", "")
    try:
        signature = base64.b64decode(text, validate=True)
    except ValueError:
        signature = b""
    if not signature:
        return Refusal(MISSING, "the request has no header X-Twilio-Email-Event-Webhook-Signature")
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _SECONDS_DIGITS_MAX
    if refusal := check_age(int(timestamp) * 1000 if is_number else None, request.received_at, SENDGRID_WINDOW_MS):
        return refusal
    content = timestamp.encode() + request.raw_body
    if not any(is_signed_ecdsa(key, signature, content) for key in keys):  # public keys: nothing to hide in time
        return Refusal(WRONG, "the signature is not of this source's key")
    return None
