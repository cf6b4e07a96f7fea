"""Maps the events of CRM systems to the event model: HubSpot's webhooks, Salesforce's outbound messages. Pure."""

import re
from typing import Any

from ingestd.collect.hooks.found import Found, parts_id, to_seconds, to_time
from ingestd.collect.mapping import Draft, UnmappableError
from ingestd.core.rejections import Reason

ADVISOR_CALL = "advisor_call"

#: HubSpot's ids of types of objects, for subscriptions to "object.*".
HUBSPOT_OBJECTS = {
    "0-1": "contact", "0-2": "company", "0-3": "deal", "0-5": "ticket", "0-7": "product", "0-8": "line_item",
    "0-27": "task", "0-46": "note", "0-47": "meeting", "0-48": "call", "0-49": "email", "0-18": "communication",
}  # fmt: skip
_WORD_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: In Salesforce, who a record is about: the first of these that it has.
SALESFORCE_CLIENTS = ("WhoId", "ContactId", "AccountId", "PersonContactId", "LeadId", "WhatId")
#: When it happened: the first of these that it has.
SALESFORCE_TIMES = ("CompletedDateTime", "ActivityDateTime", "StartDateTime", "LastModifiedDate", "CreatedDate")


def hubspot(data: dict[str, Any]) -> list[Found]:
    """An event of HubSpot's webhooks, which have ids and one property at most.

    A contact is the client. A call tells of its contact in an association: that is the advisor's call. Its length comes
    as a change of a property, in an event of its own; both have the call as their session.
    """
    subscription = data.pop("subscriptionType", None)
    if type(subscription) is not str:
        raise UnmappableError(Reason.MISSING_FIELD if subscription is None else Reason.WRONG_TYPE)
    kind, _, action = subscription.partition(".")
    if kind == "object":
        kind = HUBSPOT_OBJECTS.get(str(data.get("objectTypeId") or data.get("fromObjectTypeId")), "object")
    event_id = parts_id(data.pop("eventId", None), data.get("occurredAt"), data.get("subscriptionId", 0))
    object_id = data.get("objectId", data.get("fromObjectId"))
    draft = Draft(
        event_type=f"crm_{kind}_{_WORD_BREAK.sub('_', action).lower()}",
        event_id=event_id,
        client_id=object_id if kind == "contact" else parts_id(kind, object_id),
        timestamp=to_time(data.pop("occurredAt"), "milliseconds"),
        event_category="crm",
        properties=data | {"vendor": "hubspot", "vendor_event": subscription},
    )
    if kind == "call":
        draft.session_id = parts_id("call", object_id)
        draft.event_category = "advisor"
        draft.channel = "phone"
        if data.get("propertyName") == "hs_call_duration":
            draft.duration_s = to_seconds(data.get("propertyValue"), "ms")
        if _is_with_contact(data) and data.get("associationRemoved") is not True:
            draft.event_type, draft.client_id = ADVISOR_CALL, data.get("toObjectId")
    return [Found(draft=draft)]


def _is_with_contact(data: dict[str, Any]) -> bool:
    return data.get("associationType") == "CALL_TO_CONTACT" or data.get("toObjectTypeId") == "0-1"


def salesforce(data: dict[str, Any]) -> list[Found]:
    """A notification: its id, the type of its object and the fields that the outbound message lists.

    Calls are tasks of the subtype Call; with Financial Services Cloud, summaries of interactions, too.
    """
    kind = data.pop("sobject", None)
    if type(kind) is not str:
        raise UnmappableError(Reason.MISSING_FIELD)
    is_call = kind == "InteractionSummary" or (
        kind == "Task" and (data.get("TaskSubtype") == "Call" or "CallDurationInSeconds" in data or "CallType" in data)
    )
    client_id = next((data[name] for name in SALESFORCE_CLIENTS if data.get(name)), None)
    if client_id is None and kind in ("Contact", "Account", "Lead"):
        client_id = data.get("Id")
    draft = Draft(
        event_type=ADVISOR_CALL if is_call else f"crm_{_WORD_BREAK.sub('_', kind).lower()}",
        event_id=parts_id(data.pop("notification_id", None)),
        client_id=client_id,
        timestamp=to_time(next((data[name] for name in SALESFORCE_TIMES if data.get(name)), None), "iso"),
        event_category="advisor" if is_call else "crm",
        channel="phone" if is_call else None,
        session_id=data.get("Id"),
        campaign_id=data.get("CampaignId"),
        properties=data | {"vendor": "salesforce", "vendor_event": kind},
    )
    if "CallDurationInSeconds" in data:
        draft.duration_s = to_seconds(draft.properties.pop("CallDurationInSeconds"), "s")
    return [Found(draft=draft, email=data.get("Email"))]
