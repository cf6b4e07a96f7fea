"""Verifies that a request comes from its vendor: signatures, ages and keys, all compared in constant time. Pure.

Each function takes the request and the keys that are valid now, and returns why the request is refused, None where it
is the vendor's. The age of a signature counts from its own signed time to the arrival of the request.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from ingestd.collect.messages import Incoming

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
AHEAD_MS = MINUTE_MS  # by which a sender's clock may be ahead of ours
WINDOW_MS = 5 * MINUTE_MS  # the age that is accepted of vendors which sign each attempt anew
#: SendGrid tries again for 24 hours, and does not tell whether it signs again. The body is signed with the ids of its
#: events, so a repeat within this time makes no new event; a short window could lose what an outage has delayed.
SENDGRID_WINDOW_MS = 25 * HOUR_MS
#: Mailgun tries again for 8 hours, with the signature of the first attempt.
MAILGUN_WINDOW_MS = 8 * HOUR_MS + 30 * MINUTE_MS

MISSING = "signature_missing"
WRONG = "signature_wrong"
EXPIRED = "signature_expired"
FUTURE = "signature_in_future"
REPLAYED = "signature_replayed"
WRONG_KEY = "wrong_key"

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="ingestd"'}  # some senders (SNS) send credentials only when asked
_FIELDS_MAX = 100  # of a form
_SIGNATURES_MAX = 20  # of a request: a sender that rotates its key gives two
_DIGITS = re.compile(r"[0-9]{1,15}")
#: The characters that HubSpot signs as themselves where they stand percent-encoded in the URL.
_HUBSPOT_PLAIN = re.compile(r"%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


class Refusal(NamedTuple):
    """Why a request is refused: a label of metrics, and words for the sender."""

    reason: str
    message: str
    status: int = 401
    headers: dict[str, str] = {}  # noqa: RUF012 - a default that nobody changes


Verifier = Callable[[Incoming, Sequence[bytes]], Refusal | None]


class HmacScheme(msgspec.Struct, frozen=True):
    """How a sender signs with HMAC; `signed` names the parts: {method} {url} {timestamp} {id} {body}."""

    header: str  # in lower case, as the others
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    signed: str = "{body}"
    timestamp_header: str = ""
    timestamp_ms: bool = False
    id_header: str = ""
    window_ms: int = WINDOW_MS


def is_any(expected: Iterable[bytes], given: bytes) -> bool:
    """Whether `given` is one of `expected`, in a time that does not tell which, or how much of it is right."""
    found = False
    for value in expected:
        found |= hmac.compare_digest(value, given)
    return found


def check_age(signed_at: int | None, now: int, window_ms: int) -> Refusal | None:
    """Refuse a signature without a time, from the future, or older than the window; times in milliseconds."""
    if signed_at is None:
        return Refusal(MISSING, "the signature has no valid timestamp")
    if signed_at > now + AHEAD_MS:
        return Refusal(FUTURE, "the signature's timestamp is in the future: check both clocks")
    if now - signed_at > window_ms:
        return Refusal(EXPIRED, f"the signature is older than {window_ms // 1000} seconds")
    return None


def _milliseconds(text: str, unit: int) -> int | None:
    return int(text) * unit if _DIGITS.fullmatch(text) else None


def _macs(keys: Iterable[bytes], algorithm: str, *parts: bytes) -> Iterable[bytes]:
    for key in keys:
        mac = hmac.new(key, digestmod=algorithm)
        for part in parts:
            mac.update(part)
        yield mac.digest()


def _decoded(text: str, encoding: str) -> bytes:
    """The bytes of a signature; none where it is not in this encoding."""
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def verify_mailgun(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
    """Mailgun: HMAC-SHA256 in hex over timestamp and token, which are in the body.

    406 tells Mailgun not to try again: right for what no later attempt can mend. A wrong signature is 401, because a
    new key may not have come to our key file yet, and Mailgun's attempts of the next 8 hours give time to add it.
    """
    block = mailgun_signature(request.body)
    if block is None:
        return Refusal(MISSING, "the body has no signature of Mailgun", 406)
    given = _decoded(block.signature, "hex")
    if not is_any(_macs(keys, "sha256", block.timestamp.encode(), block.token.encode()), given):
        return Refusal(WRONG, "the signature is not of this source's key")
    refusal = check_age(_milliseconds(block.timestamp, 1000), request.received_at, MAILGUN_WINDOW_MS)
    return refusal and refusal._replace(status=406)


class MailgunSignature(msgspec.Struct, frozen=True):
    """The part of Mailgun's body that is signed, and its signature."""

    timestamp: str
    token: str
    signature: str


class _MailgunBody(msgspec.Struct, frozen=True):
    signature: MailgunSignature


_MAILGUN = msgspec.json.Decoder(_MailgunBody)


def mailgun_signature(body: bytes) -> MailgunSignature | None:
    """The signature in a body of Mailgun; None where there is none."""
    try:
        block = _MAILGUN.decode(body).signature
        (block.timestamp + block.token).encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return block if block.token else None


def verify_mandrill(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
    """Mandrill: HMAC-SHA1 in base64 over the URL and the form's fields, sorted by name. It has no timestamp."""
    given = request.headers.get("x-mandrill-signature")
    if not given:
        return Refusal(MISSING, "the request has no header X-Mandrill-Signature")
    fields = form(request.body)
    if fields is None:
        return Refusal(MISSING, "the body is not a form")
    parts = [request.url.encode(errors="surrogatepass")]
    parts += [part.encode(errors="surrogateescape") for field in sorted(fields) for part in field]
    if not is_any(_macs(keys, "sha1", *parts), _decoded(given, "base64")):
        return Refusal(WRONG, "the signature is not of this source's key and URL: check collect.public_url")
    return None


def form(body: bytes) -> list[tuple[str, str]] | None:
    """The fields of a form; None where the body is none."""
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="surrogateescape",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        return None


def verify_hubspot(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
    """HubSpot v3: HMAC-SHA256 in base64 over method, URL, body and timestamp."""
    given = request.headers.get("x-hubspot-signature-v3")
    timestamp = request.headers.get("x-hubspot-request-timestamp", "")
    if not given:
        return Refusal(MISSING, "the request has no header X-HubSpot-Signature-V3")
    if refusal := check_age(_milliseconds(timestamp, 1), request.received_at, WINDOW_MS):
        return refusal
    path, mark, query = request.url.partition("?")
    url = f"{_hubspot_plain(path)}{mark}{_hubspot_plain(query)}".encode(errors="surrogatepass")
    parts = request.method.encode(), url, request.raw_body, timestamp.encode()
    if not is_any(_macs(keys, "sha256", *parts), _decoded(given, "base64")):
        return Refusal(WRONG, "the signature is not of this source's key and URL: check collect.public_url")
    return None


def _hubspot_plain(text: str) -> str:
    return _HUBSPOT_PLAIN.sub(lambda match: chr(int(match[1], 16)), text)


def verify_standard(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
    """Standard Webhooks: HMAC-SHA256 in base64 over id, timestamp and body; several signatures may be given."""
    headers = request.headers
    prefix = "webhook-" if "webhook-id" in headers else "svix-"  # the name before it became a standard
    message_id, timestamp = headers.get(f"{prefix}id", ""), headers.get(f"{prefix}timestamp", "")
    signatures = [text[3:] for text in headers.get(f"{prefix}signature", "").split(" ") if text.startswith("v1,")]
    if not message_id or not signatures:
        return Refusal(MISSING, "the request has no headers webhook-id and webhook-signature of version 1")
    if refusal := check_age(_milliseconds(timestamp, 1000), request.received_at, WINDOW_MS):
        return refusal
    content = f"{message_id}.{timestamp}.".encode(errors="surrogatepass")
    expected = list(_macs(_standard_keys(keys), "sha256", content, request.raw_body))
    if not sum(is_any(expected, _decoded(text, "base64")) for text in signatures[:_SIGNATURES_MAX]):
        return Refusal(WRONG, "no signature is of this source's key")
    return None


def _standard_keys(keys: Iterable[bytes]) -> Iterable[bytes]:
    for key in keys:
        with suppress(ValueError):  # written into the file since the start
            yield standard_key(key)


def standard_key(key: bytes) -> bytes:
    """The bytes of a key such as ``whsec_BASE64``. ValueError where it is none."""
    return base64.b64decode(key.removeprefix(b"whsec_"), validate=True)


def hmac_verifier(scheme: HmacScheme) -> Verifier:
    """Verifies any other signature with HMAC in a header."""

    def verify(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
        text = request.headers.get(scheme.header, "")
        if not text or not text.startswith(scheme.prefix):
            return Refusal(MISSING, f"the request has no header {scheme.header} with a signature")
        timestamp = request.headers.get(scheme.timestamp_header, "")
        if scheme.timestamp_header:
            signed_at = _milliseconds(timestamp, 1 if scheme.timestamp_ms else 1000)
            if refusal := check_age(signed_at, request.received_at, scheme.window_ms):
                return refusal
        values = {
            "method": request.method.encode(),
            "url": request.url.encode(errors="surrogatepass"),
            "timestamp": timestamp.encode(errors="surrogatepass"),
            "id": request.headers.get(scheme.id_header, "").encode(errors="surrogatepass"),
            "body": request.raw_body,
        }
        parts = [values[part[1:-1]] if part[:1] == "{" else part.encode() for part in signed_parts(scheme.signed)]
        given = _decoded(text.removeprefix(scheme.prefix), scheme.encoding)
        if not is_any(_macs(keys, scheme.algorithm, *parts), given):
            return Refusal(WRONG, "the signature is not of this source's key")
        return None

    return verify


def signed_parts(template: str) -> list[str]:
    """The texts and the names in braces of which a signed content consists."""
    return [part for part in re.split(r"(\{(?:method|url|timestamp|id|body)\})", template) if part]


def verify_basic(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
    """Basic credentials; a key is ``user:password``."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return Refusal(MISSING, "the request has no Basic credentials", headers=_CHALLENGE)
    if not is_any(map(_digest, keys), _digest(_decoded(text.strip(), "base64"))):
        return Refusal(WRONG_KEY, "the credentials are not those of this source", headers=_CHALLENGE)
    return None


def key_verifier(header: str = "", prefix: str = "", parameter: str = "") -> Verifier:
    """Verifies a key in a header or in a parameter of the query."""

    def verify(request: Incoming, keys: Sequence[bytes]) -> Refusal | None:
        text = request.headers.get(header, "") if header else request.query.get(parameter, "")
        if not text or not text.startswith(prefix):
            place = f"header {header}" if header else f"parameter {parameter}"
            return Refusal(MISSING, f"the request has no key in its {place}")
        if not is_any(map(_digest, keys), _digest(text.removeprefix(prefix).encode(errors="surrogatepass"))):
            return Refusal(WRONG_KEY, "the key is not one of this source")
        return None

    return verify


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()  # equal lengths: a comparison of others tells the length of the key
