"""Reads Salesforce's outbound messages: SOAP with up to 100 notifications. Pure.

The only file that uses defusedxml: no document type, no entities, nothing from outside.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ingestd.core.errors import ConfigError

try:
    import defusedxml
    from defusedxml import ElementTree
except ImportError:
    raise ConfigError("the package defusedxml is missing", hint="pip install 'ingestd[collect]'") from None

NOTIFICATIONS_MAX = 100
_DEPTH_MAX = 20
_ORGANIZATION_ID_LENGTH = 15  # of an id without its three characters of check letters
_ENVELOPE = "{http://schemas.xmlsoap.org/soap/envelope/}"
_OUTBOUND = "{http://soap.sforce.com/2005/09/outbound}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"

ACKNOWLEDGED = (
    b'<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
    b'<soapenv:Body><notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>'
    b"</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)


class OutboundMessage(NamedTuple):
    """Who sent a message, and its notifications: their fields by name, with notification_id and sobject."""

    organization_id: str
    notifications: list[dict[str, Any]]


def read_outbound_message(body: bytes) -> OutboundMessage:
    """The message in `body`. ValueError where it is none, which includes XML that could do harm."""
    try:
        root = ElementTree.fromstring(body, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as error:
        raise ValueError(f"not XML that is accepted: {type(error).__name__}") from None
    message = root.find(f"{_ENVELOPE}Body/{_OUTBOUND}notifications")
    if root.tag != f"{_ENVELOPE}Envelope" or message is None:
        raise ValueError("no outbound message in a SOAP envelope")
    notifications = [dict(_fields(it)) for it in message.findall(f"{_OUTBOUND}Notification")]
    if not 1 <= len(notifications) <= NOTIFICATIONS_MAX:
        raise ValueError(f"{len(notifications)} notifications, not 1 to {NOTIFICATIONS_MAX}")
    return OutboundMessage(message.findtext(f"{_OUTBOUND}OrganizationId", ""), notifications)


def is_same_organization(given: str, configured: str) -> bool:
    """Whether two ids are of one organization: with 15 characters or with 18."""
    return given[:_ORGANIZATION_ID_LENGTH] == configured[:_ORGANIZATION_ID_LENGTH]


def _fields(notification: Any) -> Iterator[tuple[str, Any]]:
    yield "notification_id", notification.findtext(f"{_OUTBOUND}Id")
    record = notification.find(f"{_OUTBOUND}sObject")
    if record is None:
        return
    for child in record:
        yield _local(child.tag), _value(child, 0)
    yield "sobject", record.get(_TYPE, "").rpartition(":")[2] or None


def _value(element: Any, depth: int) -> Any:
    if depth > _DEPTH_MAX:
        raise ValueError("elements too deep")
    if element.get(_NIL) == "true":
        return None
    if len(element) == 0:
        return element.text or ""
    return {_local(child.tag): _value(child, depth + 1) for child in element}


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
