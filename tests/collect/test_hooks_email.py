"""Events of e-mail vendors become rows: types, ids, persons, campaigns, links, and machines that open mail."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from ingestd.collect.hooks.apply import EventBuilder
from ingestd.collect.hooks.email import TYPES, VENDORS
from ingestd.collect.hooks.endpoint import EVENTS_MAX, TOO_MANY
from ingestd.collect.hooks.mapping_file import HookMapping, load_mapping
from ingestd.collect.messages import Client, Incoming, RefusedError
from ingestd.config.model import CollectConfig
from ingestd.config.types import Size
from tests.collect.hooks_world import (
    ANONYMOUS,
    NOW_MS,
    URL,
    VENDOR,
    FakeKeys,
    base64_of,
    columns,
    mac,
    make_endpoint,
    mapping_file,
    post,
    row_of,
    rows_of,
)

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15"
HASH = hashlib.sha256(b"ada@example.com").hexdigest()

SENDGRID: dict[str, Any] = {
    "email": "Ada@Example.com", "timestamp": 1_789_999_000, "event": "click", "sg_event_id": "sg-1",
    "sg_message_id": "14c5d75ce93.dfd.64b469", "url": "https://www.example.com/offer?x=1", "ip": "203.0.113.77",
    "useragent": PHONE, "marketing_campaign_id": 12345, "category": ["spring"], "url_offset": {"index": 0},
}  # fmt: skip
MAILGUN: dict[str, Any] = {
    "id": "G5a6", "timestamp": 1_789_999_000.5, "event": "opened", "recipient": "Ada@Example.com",
    "ip": "2001:db8:1:2::7", "tags": ["spring"], "campaigns": [{"id": "c-1", "name": "Spring"}],
    "user-variables": {"plan": "gold"}, "geolocation": {"country": "DE"},
    "client-info": {"client-type": "mobile browser", "device-type": "mobile", "user-agent": PHONE, "bot": ""},
}  # fmt: skip
POSTMARK: dict[str, Any] = {
    "RecordType": "Click", "MessageStream": "outbound", "MessageID": "883953f4", "Recipient": "Ada@Example.com",
    "ReceivedAt": "2026-09-21T13:56:40.5407131Z", "OriginalLink": "https://www.example.com/a", "Tag": "spring",
    "Metadata": {"plan": "gold"}, "UserAgent": PHONE, "Geo": {"IP": "203.0.113.77", "Country": "Germany"},
    "Platform": "Mobile",
}  # fmt: skip
MANDRILL: dict[str, Any] = {
    "event": "open", "_id": "m-1", "ts": 1_789_999_000, "ip": "203.0.113.77", "user_agent": PHONE,
    "user_agent_parsed": {"mobile": True, "os_family": "iOS"}, "location": {"country": "Germany"},
    "msg": {
        "_id": "m-1", "email": "Ada@Example.com", "subject": "Hello", "tags": ["spring"], "metadata": {"plan": "gold"},
    },
}  # fmt: skip
SES: dict[str, Any] = {
    "eventType": "Click", "mail": {"messageId": "s-1", "timestamp": "2026-09-21T10:00:00Z",
    "destination": ["Ada@Example.com"], "tags": {"campaign": ["spring"]}},
    "click": {"ipAddress": "203.0.113.77", "timestamp": "2026-09-21T13:56:40Z", "userAgent": PHONE,
    "link": "https://www.example.com/a", "linkTags": None},
}  # fmt: skip
EVENTS = {"sendgrid": SENDGRID, "mailgun": MAILGUN, "postmark": POSTMARK, "mandrill": MANDRILL, "ses": SES}


def build(
    vendor: str, event: dict[str, Any], mapping: HookMapping | None = None, client: Client = VENDOR, **config: Any
) -> dict[str, Any]:
    builder = EventBuilder(VENDORS[vendor], mapping or HookMapping(), CollectConfig(**config))
    raw = json.dumps(event).encode()
    (event_built,) = builder.build(post(raw, client=client), raw, "id-of-the-message")
    return row_of(event_built)


def changed(vendor: str, **changes: Any) -> dict[str, Any]:
    return copy.deepcopy(EVENTS[vendor]) | changes


def test_sendgrid() -> None:
    row = build("sendgrid", SENDGRID)
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "page_url", "campaign_id"]) == [
        "email_click", "sg-1", HASH, "2026-09-21T13:56:40Z", "https://www.example.com/offer?x=1", "12345",
    ]  # fmt: skip
    assert row["properties"] == {
        "sg_message_id": "14c5d75ce93.dfd.64b469", "category": ["spring"], "url_offset": {"index": 0},
        "vendor": "sendgrid", "vendor_event": "click", "email": "Ada@Example.com", "ip": "203.0.113.0",
        "user_agent": PHONE,
    }  # fmt: skip


def test_mailgun() -> None:
    row = build("mailgun", MAILGUN)
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "device_type", "campaign_id"]) == [
        "email_open", "G5a6:1789999000.5", HASH, "2026-09-21T13:56:40.500000Z", "mobile", "c-1",
    ]  # fmt: skip
    assert columns(row["properties"], ["email", "ip", "user_agent", "user-variables"]) == [
        "Ada@Example.com", "2001:db8:1::", PHONE, {"plan": "gold"},
    ]  # fmt: skip


def test_mailgun_a_temporary_failure_is_a_deferral_and_a_permanent_one_a_bounce() -> None:
    assert build("mailgun", changed("mailgun", event="failed", severity="temporary"))["event_type"] == "email_deferred"
    assert build("mailgun", changed("mailgun", event="failed", severity="permanent"))["event_type"] == "email_bounce"


def test_postmark() -> None:
    row = build("postmark", POSTMARK)
    assert columns(row, ["event_type", "client_id", "event_timestamp", "page_url", "campaign_id", "device_type"]) == [
        "email_click", HASH, "2026-09-21T13:56:40.540713Z", "https://www.example.com/a", "spring", "Mobile",
    ]  # fmt: skip
    assert columns(row["properties"], ["email", "ip", "Geo"]) == [
        "Ada@Example.com",
        "203.0.113.0",
        {"Country": "Germany"},
    ]


def test_postmark_one_id_for_the_same_click_and_another_for_another() -> None:
    row = build("postmark", POSTMARK)
    assert build("postmark", changed("postmark", UserAgent="another"))["event_id"] == row["event_id"]
    for change in [
        {"OriginalLink": "https://www.example.com/b"}, {"Recipient": "b@example.com"}, {"RecordType": "Open"},
        {"MessageID": "other"}, {"ReceivedAt": "2026-09-21T13:56:41Z"},
    ]:  # fmt: skip
        assert build("postmark", changed("postmark", **change))["event_id"] != row["event_id"]


@pytest.mark.parametrize(
    ("event", "known"),
    [
        ({"RecordType": "Bounce", "ID": 42, "MessageID": "m", "Email": "Ada@Example.com",
          "BouncedAt": "2026-09-21T13:56:40Z"},
         "email_bounce"),
        ({"RecordType": "Delivery", "MessageID": "m", "Recipient": "Ada@Example.com",
          "DeliveredAt": "2026-09-21T13:56:40Z"},
         "email_delivered"),
        ({"RecordType": "SubscriptionChange", "MessageID": "", "Recipient": "Ada@Example.com",
          "ChangedAt": "2026-09-21T13:56:40Z", "SuppressSending": True}, "email_unsubscribe"),
        ({"RecordType": "SubscriptionChange", "MessageID": "", "Recipient": "Ada@Example.com",
          "ChangedAt": "2026-09-21T13:56:40Z", "SuppressSending": False}, "email_resubscribe"),
    ],
)  # fmt: skip
def test_postmark_other_records(event: dict[str, Any], known: str) -> None:
    row = build("postmark", event)
    assert columns(row, ["event_type", "client_id", "event_timestamp"]) == [known, HASH, "2026-09-21T13:56:40Z"]


def test_mandrill() -> None:
    row = build("mandrill", MANDRILL)
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "device_type", "campaign_id"]) == [
        "email_open", "m-1:open:1789999000", HASH, "2026-09-21T13:56:40Z", "mobile", "spring",
    ]  # fmt: skip
    assert row["properties"]["msg"]["subject"] == "Hello"


def test_mandrill_two_links_clicked_in_one_second_are_two_events() -> None:
    ids = {
        build("mandrill", changed("mandrill", event="click", url=url))["event_id"] for url in ("https://a", "https://b")
    }
    assert len(ids) == 2
    assert all(it.startswith("m-1:click:1789999000:") for it in ids)


def test_mandrill_a_change_of_its_lists_is_an_event_too() -> None:
    event = {"type": "blacklist", "action": "add", "ts": 1_789_999_000, "reject": {"email": "Ada@Example.com"}}
    assert columns(build("mandrill", event), ["event_type", "client_id"]) == ["email_blacklist", HASH]


def test_ses() -> None:
    row = build("ses", SES)
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "page_url", "campaign_id"]) == [
        "email_click", "id-of-the-message", HASH, "2026-09-21T13:56:40Z", "https://www.example.com/a", "spring",
    ]  # fmt: skip


@pytest.mark.parametrize(("vendor", "place"), [
    ("sendgrid", []), ("mailgun", ["user-variables"]), ("postmark", ["Metadata"]), ("mandrill", ["msg", "metadata"]),
    ("ses", ["mail", "tags"]),
])  # fmt: skip
def test_the_customers_id_that_was_sent_along_is_the_client(vendor: str, place: list[str]) -> None:
    event = copy.deepcopy(EVENTS[vendor])
    holder = event
    for name in place:
        holder = holder[name]
    holder["client_id"] = ["C-7"] if vendor == "ses" else "C-7"
    holder["campaign_id"] = ["summer"] if vendor == "ses" else "summer"
    assert columns(build(vendor, event), ["client_id", "campaign_id"]) == ["C-7", "summer"]


def test_the_address_in_any_case_is_one_client() -> None:
    for address in ("ada@example.com", " ADA@EXAMPLE.COM "):
        assert build("sendgrid", changed("sendgrid", email=address))["client_id"] == HASH


def test_an_empty_customers_id_is_none() -> None:
    assert build("sendgrid", changed("sendgrid", client_id=""))["client_id"] == HASH


def test_postmark_without_a_message_an_event_has_no_id() -> None:
    raw = json.dumps(changed("postmark", MessageID=None)).encode()
    (event,) = EventBuilder(VENDORS["postmark"], HookMapping(), CollectConfig()).build(post(raw), raw)
    assert event.fault == "missing_field"


@pytest.mark.parametrize("vendor", EVENTS)
def test_every_event_has_a_type_for_each_word(vendor: str) -> None:
    name = {"postmark": "RecordType", "ses": "eventType"}.get(vendor, "event")
    for word, known in TYPES[vendor].items():
        changes = {"event": "failed", "severity": word} if word in ("temporary", "permanent") else {name: word}
        row = build(vendor, changed(vendor, **changes))
        assert columns(row, ["event_type", "event_category", "channel"]) == [known, "email", "email"]
        assert row["properties"]["vendor_event"] == word


def test_an_unknown_word_makes_a_generic_type() -> None:
    assert build("sendgrid", changed("sendgrid", event="Some New"))["event_type"] == "email_some_new"


@pytest.mark.parametrize(
    ("vendor", "changes", "expected"),
    [
        ("sendgrid", {"event": "open", "sg_machine_open": True}, {"machine_open": True}),
        ("sendgrid", {"event": "open", "sg_machine_open": False}, {}),
        ("sendgrid", {"event": "open", "useragent": "Mozilla/5.0"}, {"machine_open": True, "is_bot": True}),
        ("sendgrid", {"event": "click", "useragent": "Mozilla/5.0"}, {"is_bot": True}),
        ("sendgrid", {"event": "open", "useragent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/42.0.2311.135 "
          "Safari/537.36 Edge/12.246 Mozilla/5.0"}, {"machine_open": True}),
        ("sendgrid", {"event": "open", "useragent": "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"},
         {"mail_proxy": "google"}),
        ("sendgrid", {"event": "open", "useragent": "YahooMailProxy; https://help.yahoo.com/"},
         {"mail_proxy": "yahoo"}),
        ("sendgrid", {"event": "click", "useragent": "BarracudaBot/1.0"}, {"is_bot": True}),
        ("mailgun", {"client-info": {"bot": "apple", "user-agent": PHONE}}, {"machine_open": True}),
        ("mailgun", {"event": "clicked", "client-info": {"bot": "generic"}}, {"machine_click": True}),
    ],
)  # fmt: skip
def test_machines_that_open_mail_are_flagged(vendor: str, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    properties = build(vendor, changed(vendor, **changes))["properties"]
    flags = ("machine_open", "machine_click", "mail_proxy", "is_bot")
    assert {name: properties[name] for name in flags if name in properties} == expected


def test_bots_are_not_flagged_where_they_are_ignored() -> None:
    row = build("sendgrid", changed("sendgrid", useragent="BarracudaBot/1.0"), bots="ignore")
    assert "is_bot" not in row["properties"]


@pytest.mark.parametrize(("rule", "kept"), [("keep", "203.0.113.77"), ("drop", None), ("truncate", "203.0.113.0")])
def test_the_persons_ip_follows_the_rule_of_the_collector(rule: str, kept: str | None) -> None:
    assert build("sendgrid", SENDGRID, ip=rule)["properties"].get("ip") == kept


def test_of_an_anonymous_client_no_address_is_kept() -> None:
    row = build("sendgrid", SENDGRID, client=ANONYMOUS)
    assert row["client_id"] == "anonymous"
    text = json.dumps(row)
    assert "xample.com" not in text.replace("www.example.com", "")
    assert HASH not in text
    assert "203.0.113" not in text


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sg_event_id": None}, "missing_field"), ({"sg_event_id": "x" * 300}, "too_long"),
        ({"timestamp": "yesterday"}, "invalid_timestamp"), ({"timestamp": 1e300}, "timestamp_out_of_range"),
        ({"timestamp": 10**14}, "timestamp_out_of_range"), ({"email": None}, "missing_field"),
        ({"email": "no address"}, "missing_field"), ({"event": None}, "missing_field"), ({"event": 7}, "wrong_type"),
        ({"useragent": 7}, "wrong_type"), ({"client_id": {}}, "wrong_type"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_goes_on_as_its_bytes(changes: dict[str, Any], fault: str) -> None:
    raw = json.dumps(changed("sendgrid", **changes)).encode()
    (event,) = EventBuilder(VENDORS["sendgrid"], HookMapping(), CollectConfig()).build(post(raw), raw)
    assert (event.value, event.fault, event.key) == (raw, fault, None)


def test_an_event_that_is_too_large_goes_on_as_its_bytes() -> None:
    config = CollectConfig(max_event=Size(2048))
    for size, fault in [(1000, None), (2000, "too_large")]:
        raw = json.dumps(changed("sendgrid", note="x" * size)).encode()
        (event,) = EventBuilder(VENDORS["sendgrid"], HookMapping(), config).build(post(raw), raw)
        assert event.fault == fault
        assert (event.value == raw) == (fault is not None)


# -- whole requests


def postmark_request(body: bytes) -> Incoming:
    return post(body, {"authorization": f"Basic {base64_of(b'user:secret')}"})


async def test_one_bad_event_refuses_no_other() -> None:
    endpoint = make_endpoint("postmark", FakeKeys(b"user:secret"))
    good, bad = json.dumps(POSTMARK).encode(), b'{"RecordType":"Open", "MessageID" : 7 }'
    mapped = await endpoint.collect(postmark_request(b"[" + good + b"," + bad + b",7," + good + b"]"))
    assert [event.fault for event in mapped.events] == [None, "missing_field", "wrong_type", None]
    assert [event.value for event in mapped.events][1:3] == [bad, b"7"]


@pytest.mark.parametrize("body", [b"", b"[]", b" [] "])
async def test_a_request_without_events_is_answered(body: bytes) -> None:
    mapped = await make_endpoint("postmark", FakeKeys(b"user:secret")).collect(postmark_request(body))
    assert (list(mapped.events), mapped.reply.status) == ([], 200)


async def test_a_request_with_too_many_events_is_refused() -> None:
    with pytest.raises(RefusedError) as caught:
        await make_endpoint("postmark", FakeKeys(b"user:secret")).collect(
            postmark_request(b"[" + b"{}," * EVENTS_MAX + b"{}]")
        )
    assert (caught.value.status, caught.value.reason) == (413, TOO_MANY)


@pytest.mark.parametrize("body", [b"{", b"[{}", b"[{},]", b"\xff", b"[" * 20000, b"<xml/>", b'[{"a":"\xff"}'])
async def test_a_body_that_is_no_json_goes_on_whole(body: bytes) -> None:
    mapped = await make_endpoint("postmark", FakeKeys(b"user:secret")).collect(postmark_request(body))
    assert [event.value for event in mapped.events] == [body]
    assert all(event.fault for event in mapped.events)


async def test_mailguns_event_is_a_part_of_the_body() -> None:
    stamp, token = str(NOW_MS // 1000), "t" * 50
    signature = {"timestamp": stamp, "token": token, "signature": mac(b"key", (stamp + token).encode()).hex()}
    body = json.dumps({"signature": signature, "event-data": MAILGUN}).encode()
    (row,) = rows_of(await make_endpoint("mailgun", FakeKeys(b"key")).collect(post(body)))
    assert row["event_id"] == "G5a6:1789999000.5"


async def test_mandrills_events_are_in_a_form() -> None:
    endpoint = make_endpoint("mandrill", FakeKeys(b"key"))
    for events in ([MANDRILL, changed("mandrill", event="click", url="https://www.example.com/ä")], []):
        text = json.dumps(events)
        body = urlencode({"mandrill_events": text}).encode()
        signature = base64_of(mac(b"key", f"{URL}mandrill_events{text}".encode(), "sha1"))
        mapped = await endpoint.collect(post(body, {"x-mandrill-signature": signature}))
        assert [row["event_type"] for row in rows_of(mapped)] == ["email_open", "email_click"][: len(events)]


# -- a mapping file beside the built-in mapping


def test_a_mapping_file_names_the_customers_id_and_other_types(tmp_path: Path) -> None:
    file = mapping_file(
        tmp_path,
        """
        [fields]
        client_id = ["customer.number", "category[0]"]
        session_id = "sg_message_id"
        [event_types]
        click = "newsletter_click"
        [constants]
        brand = "north"
        """,
    )
    mapping = load_mapping(file, "sendgrid")
    row = build("sendgrid", SENDGRID, mapping)
    assert columns(row, ["client_id", "event_type", "session_id"]) == [
        "spring",
        "newsletter_click",
        SENDGRID["sg_message_id"],
    ]
    assert row["properties"]["brand"] == "north"
    row = build("sendgrid", changed("sendgrid", customer={"number": 7}, event="open"), mapping)
    assert columns(row, ["client_id", "event_type"]) == ["7", "email_open"]
