"""Maps the events of e-mail vendors to the event model: SendGrid, Mailgun, Postmark, Mandrill, Amazon SES. Pure.

Each vendor's words for what happened become one list of types: email_open and email_click of the model, and generic
ones. What makes no column stays in the properties, with the vendor's own word as ``vendor_event``.
"""

from collections.abc import Callable
from typing import Any

from ingestd.collect.hooks.found import Found, digest_id, first, parts_id, table, to_time
from ingestd.collect.mapping import Draft, UnmappableError
from ingestd.core.rejections import Reason

#: Where senders put the customer's id into a vendor's own data (custom arguments, user variables, metadata, tags).
CLIENT_ID = "client_id"
CAMPAIGN_ID = "campaign_id"

TYPES: dict[str, dict[str, str]] = {
    "sendgrid": {
        "processed": "email_sent", "delivered": "email_delivered", "deferred": "email_deferred",
        "bounce": "email_bounce", "blocked": "email_bounce", "dropped": "email_dropped", "open": "email_open",
        "click": "email_click", "unsubscribe": "email_unsubscribe", "group_unsubscribe": "email_unsubscribe",
        "group_resubscribe": "email_resubscribe", "spamreport": "email_spam_report",
    },
    "mailgun": {
        "accepted": "email_sent", "delivered": "email_delivered", "temporary": "email_deferred",
        "permanent": "email_bounce", "rejected": "email_dropped", "opened": "email_open", "clicked": "email_click",
        "unsubscribed": "email_unsubscribe", "complained": "email_spam_report",
    },
    "postmark": {
        "Delivery": "email_delivered", "Bounce": "email_bounce", "Open": "email_open", "Click": "email_click",
        "SpamComplaint": "email_spam_report", "SubscriptionChange": "email_unsubscribe",
    },
    "mandrill": {
        "send": "email_sent", "delivered": "email_delivered", "deferral": "email_deferred",
        "hard_bounce": "email_bounce", "soft_bounce": "email_bounce", "reject": "email_dropped", "open": "email_open",
        "click": "email_click", "unsub": "email_unsubscribe", "spam": "email_spam_report",
    },
    "ses": {
        "Send": "email_sent", "Delivery": "email_delivered", "DeliveryDelay": "email_deferred",
        "Bounce": "email_bounce", "Reject": "email_dropped", "Rendering Failure": "email_dropped",
        "Open": "email_open", "Click": "email_click", "Subscription": "email_unsubscribe",
        "Complaint": "email_spam_report",
    },
}  # fmt: skip
#: User agents that load the pictures of a message before anybody reads it: Apple's Mail Privacy Protection sends the
#: bare word, Gmail's prefetch has this tail.
_MACHINES = ("Mozilla/5.0",)
_GMAIL_PREFETCH = "Edge/12.246 Mozilla/5.0"
#: Proxies that load them when somebody reads it: the open is real, its address and device are the proxy's.
_PROXIES = {"GoogleImageProxy": "google", "YahooMailProxy": "yahoo"}


def sendgrid(data: dict[str, Any]) -> list[Found]:
    """An event of SendGrid's webhook. Custom arguments are members of the event itself."""
    word = data.pop("event", None)
    found = _found("sendgrid", word, data)
    found.email, found.ip, found.user_agent = (data.pop(name, None) for name in ("email", "ip", "useragent"))
    draft = found.draft
    draft.event_id = parts_id(data.pop("sg_event_id", None))
    draft.timestamp = to_time(data.pop("timestamp", None), "seconds")
    draft.client_id = data.pop(CLIENT_ID, None)
    draft.campaign_id = data.pop(CAMPAIGN_ID, None) or data.pop("marketing_campaign_id", None)
    draft.page_url = data.pop("url", None)
    _flag_machines(found, known=data.get("sg_machine_open") is True)
    return [found]


def mailgun(data: dict[str, Any]) -> list[Found]:
    """An event of Mailgun: the member ``event-data`` of the body."""
    word = data.pop("event", None)
    is_failure = word == "failed"
    found = _found("mailgun", data.get("severity") if is_failure else word, data)
    found.email, found.ip = data.pop("recipient", None), data.pop("ip", None)
    client = table(data.get("client-info"))
    found.user_agent = client.pop("user-agent", None)
    draft = found.draft
    draft.event_id = parts_id(data.pop("id", None), data.get("timestamp"))
    draft.timestamp = to_time(data.pop("timestamp", None), "seconds")
    variables = table(data.get("user-variables"))
    draft.client_id = variables.pop(CLIENT_ID, None)
    draft.campaign_id = variables.pop(CAMPAIGN_ID, None) or table(first(data.get("campaigns"))).get("id")
    draft.page_url = data.pop("url", None)
    draft.device_type = client.pop("device-type", None)
    _flag_machines(found, known=bool(client.get("bot")))
    return [found]


def postmark(data: dict[str, Any]) -> list[Found]:
    """A record of Postmark, which has no id: a hash of what tells it from others stands for one."""
    word = data.pop("RecordType", None)
    found = _found("postmark", word, data)
    if word == "SubscriptionChange" and data.get("SuppressSending") is False:
        found.draft.event_type = "email_resubscribe"
    found.email = data.pop("Recipient", None) or data.pop("Email", None)
    found.ip, found.user_agent = table(data.get("Geo")).pop("IP", None), data.pop("UserAgent", None)
    draft = found.draft
    times = ("ReceivedAt", "DeliveredAt", "BouncedAt", "ChangedAt")
    time = next((data.pop(name) for name in times if data.get(name) is not None), None)
    link = data.pop("OriginalLink", None)
    if not data.get("MessageID") and not data.get("ID") and word != "SubscriptionChange":
        raise UnmappableError(Reason.MISSING_FIELD)
    draft.event_id = digest_id(data.get("MessageID"), word, found.email, time, link or "")
    draft.timestamp = to_time(time, "iso")
    metadata = table(data.get("Metadata"))
    draft.client_id = metadata.pop(CLIENT_ID, None)
    draft.campaign_id = metadata.pop(CAMPAIGN_ID, None) or data.pop("Tag", None) or None
    draft.page_url = link
    draft.device_type = data.pop("Platform", None)
    _flag_machines(found)
    return [found]


def mandrill(data: dict[str, Any]) -> list[Found]:
    """An event of Mandrill (Mailchimp Transactional)."""
    word = data.pop("event", None)
    if (
        word is None and "type" in data
    ):  # its lists of refused addresses changed: {"type": "blacklist", "action": "add"}
        return [_mandrill_list(data)]
    found = _found("mandrill", word, data)
    message = table(data.get("msg"))
    found.email, found.ip, found.user_agent = (
        message.pop("email", None),
        data.pop("ip", None),
        data.pop("user_agent", None),
    )
    draft = found.draft
    link = data.pop("url", None)
    parts = [data.pop("_id", None), word, data.get("ts")]
    # Clicks on two links of a message within a second are two events.
    draft.event_id = parts_id(*parts, digest_id(link)) if link is not None else parts_id(*parts)
    draft.timestamp = to_time(data.pop("ts", None), "seconds")
    metadata = table(message.get("metadata"))
    draft.client_id = metadata.pop(CLIENT_ID, None)
    draft.campaign_id = metadata.pop(CAMPAIGN_ID, None) or first(message.get("tags"))
    draft.page_url = link
    parsed = table(data.get("user_agent_parsed"))
    if type(parsed.get("mobile")) is bool:
        draft.device_type = "mobile" if parsed["mobile"] else "desktop"
    _flag_machines(found)
    return [found]


def _mandrill_list(data: dict[str, Any]) -> Found:
    found = _found("mandrill", data.get("type"), data)
    member = table(data.get("reject")) or table(data.get("entry"))
    found.email = member.pop("email", None)
    found.draft.event_id = digest_id(data.get("type"), data.get("action"), found.email, data.get("ts"))
    found.draft.timestamp = to_time(data.pop("ts", None), "seconds")
    return found


def ses(data: dict[str, Any]) -> list[Found]:
    """An event of Amazon SES: one for each recipient, where it tells of whom it is. Their ids follow the message's."""
    word = data.pop("eventType", None) or data.pop("notificationType", None)
    mail = table(data.get("mail"))
    name = word[:1].lower() + word[1:] if type(word) is str else ""
    detail = table(data.get("failure" if name == "rendering Failure" else name))
    tags = table(mail.get("tags"))
    client_id, campaign = first(tags.get(CLIENT_ID)), first(tags.get(CAMPAIGN_ID))
    recipients = _ses_recipients(detail, mail)
    time = to_time(detail.get("timestamp") or mail.get("timestamp"), "iso")
    found = []
    for recipient in recipients or [None]:
        one = _found("ses", word, data if len(recipients) < 2 else dict(data))
        one.email, one.ip, one.user_agent = recipient, detail.get("ipAddress"), detail.get("userAgent")
        draft = one.draft
        if recipient is None and client_id is None and mail.get("messageId"):
            draft.client_id = parts_id("ses", mail["messageId"])  # a message to several people: nobody knows whose
        else:
            draft.client_id = client_id
        draft.campaign_id = campaign or first(tags.get("campaign")) or first(tags.get("ses:configuration-set"))
        draft.timestamp = time
        draft.page_url = detail.get("link")
        _flag_machines(one)
        found.append(one)
    return found


def _ses_recipients(detail: dict[str, Any], mail: dict[str, Any]) -> list[object]:
    for name in ("bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients"):
        if type(listed := detail.get(name)) is list and listed:
            return [it.get("emailAddress") if type(it) is dict else it for it in listed]
    destination = mail.get("destination")
    return destination if type(destination) is list and len(destination) == 1 else []


def _found(vendor: str, word: object, data: dict[str, Any]) -> Found:
    if type(word) is not str:
        raise UnmappableError(Reason.MISSING_FIELD if word is None else Reason.WRONG_TYPE)
    known = TYPES[vendor].get(word) or "email_" + word.lower().replace(" ", "_")
    data["vendor"], data["vendor_event"] = vendor, word
    return Found(
        draft=Draft(event_type=known, client_id=None, event_category="email", channel="email", properties=data)
    )


def _flag_machines(found: Found, *, known: bool = False) -> None:
    """Tell opens that no person made from those that a proxy hides."""
    agent = found.user_agent if type(found.user_agent) is str else ""
    is_open = found.draft.event_type == "email_open"
    if known or (is_open and (agent in _MACHINES or agent.endswith(_GMAIL_PREFETCH))):
        found.draft.properties["machine_open" if is_open else "machine_click"] = True
    for sign, proxy in _PROXIES.items():
        if sign in agent:
            found.draft.properties["mail_proxy"] = proxy


VENDORS: dict[str, Callable[[dict[str, Any]], list[Found]]] = {
    "sendgrid": sendgrid, "mailgun": mailgun, "postmark": postmark, "mandrill": mandrill, "ses": ses,
}  # fmt: skip
