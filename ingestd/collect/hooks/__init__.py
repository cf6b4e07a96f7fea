"""Webhooks: e-mail vendors, CRM systems and any other sender post their events to /hooks/SOURCE."""

from collections.abc import Callable

from ingestd.collect.hooks.apply import EventBuilder, Vendor
from ingestd.collect.hooks.crm import hubspot, salesforce
from ingestd.collect.hooks.email import VENDORS
from ingestd.collect.hooks.endpoint import (
    Fetch,
    KeyRing,
    MailgunEndpoint,
    MandrillEndpoint,
    StandardEndpoint,
    WebhookEndpoint,
)
from ingestd.collect.hooks.mapping_file import HookMapping, hmac_scheme, load_mapping
from ingestd.collect.hooks.signatures import (
    Verifier,
    hmac_verifier,
    key_verifier,
    standard_key,
    verify_basic,
    verify_hubspot,
    verify_mailgun,
    verify_mandrill,
    verify_standard,
)
from ingestd.collect.messages import Endpoint, Route
from ingestd.config.model import CollectConfig, CollectSource
from ingestd.core.errors import ConfigError
from ingestd.ops.http_client import HttpAnswer, get

KINDS = ("sendgrid", "mailgun", "ses", "postmark", "mandrill", "hubspot", "salesforce", "webhook")
#: The server answers GET and HEAD, by which some vendors ask whether somebody is there, without an endpoint.
ROUTES = (Route("POST", "/hooks/{source}", KINDS),)
FETCH_TIMEOUT_S = 4.0  # within the time that SNS waits for us
FETCH_MAX_BYTES = 64 << 10

_MAPPERS: dict[str, Vendor] = {**VENDORS, "hubspot": hubspot, "salesforce": salesforce}


async def fetch(url: str) -> HttpAnswer:
    """GET a certificate or a confirmation of Amazon SNS. Raises HttpFailure."""
    return await get(url, timeout_s=FETCH_TIMEOUT_S, max_bytes=FETCH_MAX_BYTES)


def hook_endpoint(
    name: str, source: CollectSource, config: CollectConfig, keys: KeyRing | None, fetch: Fetch = fetch
) -> Endpoint:
    """The endpoint of a source. ConfigError where its mapping or a key cannot be used, or a package is missing."""
    mapping = HookMapping() if source.mapping is None else load_mapping(source.mapping, source.kind)
    builder = EventBuilder(_MAPPERS.get(source.kind), mapping, config)
    if source.kind == "ses":
        return _ses(source, keys, builder, fetch)
    if source.kind == "salesforce":
        return _salesforce(name, source, keys, builder)
    if keys is None:
        raise _missing(name, source.kind, "key_file")
    if source.kind == "webhook":
        return _generic(name, mapping, keys, builder)
    verifier, check = _verifier(source.kind)
    _check_keys(name, source.kind, keys, check)
    return _ENDPOINTS.get(source.kind, WebhookEndpoint)(verifier, keys, builder)


def _ses(source: CollectSource, keys: KeyRing | None, builder: EventBuilder, fetch: Fetch) -> Endpoint:
    from ingestd.collect.hooks.ses import SesEndpoint  # noqa: PLC0415 - it needs an extra
    from ingestd.collect.hooks.sns import SnsVerifier  # noqa: PLC0415

    return SesEndpoint(SnsVerifier(source.topic_arns, fetch), keys, builder)


def _salesforce(name: str, source: CollectSource, keys: KeyRing | None, builder: EventBuilder) -> Endpoint:
    from ingestd.collect.hooks.outbound import SalesforceEndpoint  # noqa: PLC0415 - it needs an extra

    if keys is None and source.organization_id is None:
        raise _missing(name, source.kind, "key_file or organization_id")
    return SalesforceEndpoint(keys, source.organization_id, builder)


def _generic(name: str, mapping: HookMapping, keys: KeyRing, builder: EventBuilder) -> Endpoint:
    if (verify := mapping.verify) is None:
        raise _missing(name, "webhook", "mapping")
    if verify.scheme == "standard":
        _check_keys(name, "webhook", keys, standard_key)
        return StandardEndpoint(verify_standard, keys, builder, mapping.events)
    if verify.scheme == "basic":
        _check_keys(name, "webhook", keys, _check_basic)
        verifier: Verifier = verify_basic
    elif verify.scheme == "key":
        verifier = key_verifier(verify.header.lower(), verify.prefix, verify.parameter)
    else:
        verifier = hmac_verifier(hmac_scheme(verify))
    return WebhookEndpoint(verifier, keys, builder, mapping.events)


def _verifier(kind: str) -> tuple[Verifier, Callable[[bytes], object]]:
    """The verifier of a vendor, and what checks one of its keys."""
    if kind == "sendgrid":
        from ingestd.collect.hooks.public_keys import load_ecdsa_key  # noqa: PLC0415 - it needs an extra
        from ingestd.collect.hooks.sendgrid_signature import verify_sendgrid  # noqa: PLC0415

        return verify_sendgrid, load_ecdsa_key
    return _VERIFIERS[kind]


def _check_keys(name: str, kind: str, keys: KeyRing, check: Callable[[bytes], object]) -> None:
    for number, key in enumerate(keys.all(), 1):
        try:
            check(key)
        except ValueError:  # not shown: it is a secret
            raise ConfigError(
                f"key {number} of collect.sources.{name}.key_file is not one of {kind}", hint=_KEY_HINTS[check.__name__]
            ) from None


def _check_basic(key: bytes) -> None:
    if b":" not in key:
        raise ValueError


_VERIFIERS: dict[str, tuple[Verifier, Callable[[bytes], object]]] = {
    "mailgun": (verify_mailgun, bytes),
    "mandrill": (verify_mandrill, bytes),
    "hubspot": (verify_hubspot, bytes),
    "postmark": (verify_basic, _check_basic),
}
_ENDPOINTS: dict[str, type[MailgunEndpoint | MandrillEndpoint]] = {
    "mailgun": MailgunEndpoint,
    "mandrill": MandrillEndpoint,
}
_KEY_HINTS = {
    "_check_basic": "write user:password",
    "standard_key": "write whsec_ and the secret in base64, as the sender shows it",
    "load_ecdsa_key": "write the verification key, in base64, as SendGrid shows it: its letters begin with MFkw",
}


def _missing(name: str, kind: str, what: str) -> ConfigError:
    return ConfigError(
        f"collect.sources.{name} has kind = {kind} and no {what}", hint=f"set {what} in [collect.sources.{name}]"
    )
