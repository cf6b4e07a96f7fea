"""Events of CRM systems become rows: HubSpot's webhooks, Salesforce's outbound messages and the XML that is refused."""

import json
from typing import Any

import pytest

from ingestd.collect.hooks.outbound import NOT_XML, WRONG_ORGANIZATION
from ingestd.collect.hooks.signatures import MISSING, WRONG_KEY
from ingestd.collect.hooks.soap import read_outbound_message
from ingestd.collect.messages import Mapped, RefusedError
from tests.collect.hooks_world import NOW_MS, URL, FakeKeys, base64_of, columns, mac, make_endpoint, post, rows_of

# -- HubSpot

BASE: dict[str, Any] = {
    "eventId": 3816279340, "subscriptionId": 25, "portalId": 33, "appId": 1160452, "occurredAt": 1_789_999_000_500,
    "attemptNumber": 0, "changeSource": "CRM_UI",
}  # fmt: skip


async def hubspot(*events: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps(events).encode()
    signature = base64_of(mac(b"secret", b"POST" + URL.encode() + body + str(NOW_MS).encode()))
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(NOW_MS)}
    return rows_of(await make_endpoint("hubspot", FakeKeys(b"secret")).collect(post(body, headers)))


async def test_hubspot_a_contact_is_the_client() -> None:
    change = {
        "subscriptionType": "contact.propertyChange",
        "objectId": 123,
        "propertyName": "stage",
        "propertyValue": "x",
    }
    (row,) = await hubspot(BASE | change)
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "event_category"]) == [
        "crm_contact_property_change", "3816279340:1789999000500:25", "123", "2026-09-21T13:56:40.500000Z", "crm",
    ]  # fmt: skip
    assert row["properties"]["vendor_event"] == "contact.propertyChange"


async def test_hubspot_a_repeat_keeps_the_id_and_another_event_has_another() -> None:
    event = BASE | {"subscriptionType": "deal.creation", "objectId": 9}
    rows = await hubspot(event, event | {"attemptNumber": 3}, event | {"subscriptionId": 26})
    assert rows[0]["event_id"] == rows[1]["event_id"] != rows[2]["event_id"]
    assert rows[0]["client_id"] == "deal:9"


async def test_hubspot_a_call_with_a_contact_is_an_advisor_call_of_that_contact() -> None:
    association = {
        "subscriptionType": "object.associationChange", "fromObjectTypeId": "0-48", "toObjectTypeId": "0-1",
        "fromObjectId": 77, "toObjectId": 123, "associationRemoved": False,
    }  # fmt: skip
    named = {"subscriptionType": "call.associationChange", "associationType": "CALL_TO_CONTACT"}
    removed = association | {"associationRemoved": True}
    rows = await hubspot(BASE | association, BASE | association | named, BASE | removed)
    assert [columns(row, ["event_type", "client_id", "session_id", "channel"]) for row in rows] == [
        ["advisor_call", "123", "call:77", "phone"], ["advisor_call", "123", "call:77", "phone"],
        ["crm_call_association_change", "call:77", "call:77", "phone"],
    ]  # fmt: skip


async def test_hubspot_the_length_of_a_call_is_in_seconds_and_joins_by_its_session() -> None:
    change = {
        "subscriptionType": "object.propertyChange", "objectTypeId": "0-48", "objectId": 77,
        "propertyName": "hs_call_duration", "propertyValue": "754900",
    }  # fmt: skip
    (row,) = await hubspot(BASE | change)
    assert columns(row, ["event_type", "duration_s", "session_id"]) == ["crm_call_property_change", 754, "call:77"]


# -- Salesforce

ORGANIZATION = "00D5g000004abcDEAQ"
TASK = """<sf:Id>00T1</sf:Id><sf:WhoId>0031</sf:WhoId><sf:OwnerId>0051</sf:OwnerId><sf:TaskSubtype>Call</sf:TaskSubtype>
<sf:CallDurationInSeconds>754</sf:CallDurationInSeconds><sf:CompletedDateTime>2026-09-21T13:56:40.000Z</sf:CompletedDateTime>
<sf:Description xsi:nil="true"/><sf:Subject>Caf\u00e9 &amp; plan</sf:Subject>"""


def soap(*records: tuple[str, str, str], organization: str = ORGANIZATION, head: str = "") -> bytes:
    notifications = "".join(
        f"<Notification><Id>{number}</Id>"
        f'<sObject xsi:type="sf:{kind}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
        f"{fields}</sObject></Notification>"
        for number, kind, fields in records
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        '<soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
        f'<OrganizationId>{organization}</OrganizationId><ActionId>04k1</ActionId><SessionId xsi:nil="true"/>'
        f"<EnterpriseUrl>https://x</EnterpriseUrl><PartnerUrl>https://x</PartnerUrl>{notifications}"
        "</notifications></soapenv:Body></soapenv:Envelope>"
    ).encode()


async def salesforce(body: bytes, key: str = "s3cret", organization: str | None = ORGANIZATION) -> Mapped:
    endpoint = make_endpoint("salesforce", FakeKeys(b"s3cret"), organization_id=organization)
    return await endpoint.collect(post(body, query={"key": key}))


async def refusal(body: bytes, key: str = "s3cret", organization: str | None = ORGANIZATION) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        await salesforce(body, key, organization)
    return caught.value


async def test_salesforce_a_task_of_the_subtype_call_is_an_advisor_call() -> None:
    mapped = await salesforce(soap(("04l1", "Task", TASK)))
    (row,) = rows_of(mapped)
    assert columns(row, ["event_type", "event_id", "client_id", "event_timestamp", "duration_s", "session_id"]) == [
        "advisor_call", "04l1", "0031", "2026-09-21T13:56:40Z", 754, "00T1",
    ]  # fmt: skip
    assert columns(row["properties"], ["Subject", "OwnerId", "Description"]) == ["Café & plan", "0051", None]
    assert mapped.reply.content_type == "text/xml"
    assert b"<Ack>true</Ack>" in mapped.reply.body


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("InteractionSummary", "<sf:Id>a</sf:Id><sf:AccountId>0011</sf:AccountId>", ["advisor_call", "0011"]),
        (
            "Task",
            "<sf:Id>a</sf:Id><sf:WhoId>0031</sf:WhoId><sf:TaskSubtype>Email</sf:TaskSubtype>",
            ["crm_task", "0031"],
        ),
        (
            "Task",
            "<sf:Id>a</sf:Id><sf:WhoId>0031</sf:WhoId><sf:CallDurationInSeconds>7</sf:CallDurationInSeconds>",
            ["advisor_call", "0031"],
        ),
        ("Contact", "<sf:Id>0031</sf:Id>", ["crm_contact", "0031"]),
        ("CampaignMember", "<sf:Id>a</sf:Id><sf:ContactId>0031</sf:ContactId>", ["crm_campaign_member", "0031"]),
    ],
)
async def test_salesforce_other_objects(kind: str, fields: str, expected: list[str]) -> None:
    (row,) = rows_of(await salesforce(soap(("04l1", kind, fields))))
    assert columns(row, ["event_type", "client_id"]) == expected


async def test_salesforce_a_hundred_notifications_are_a_hundred_events_and_a_bad_one_refuses_no_other() -> None:
    records = [(f"04l{number}", "Task", TASK) for number in range(99)]
    mapped = await salesforce(soap(*records, ("04lx", "Invoice", "<sf:Name>n</sf:Name>")))
    assert [event.fault for event in mapped.events] == [None] * 99 + ["missing_field"]
    assert json.loads(mapped.events[-1].value) == {"notification_id": "04lx", "Name": "n", "sobject": "Invoice"}
    assert (await refusal(soap(*records, *records))).reason == NOT_XML


async def test_salesforce_the_key_in_the_url_and_the_organization_count() -> None:
    body = soap(("04l1", "Task", TASK))
    assert (await refusal(body, "wrong")).reason == WRONG_KEY
    assert (await refusal(body, "")).reason == MISSING
    for other in ("00D5g000004abcX", "00d5g000004abcDEAQ", "", "00D"):
        refused = await refusal(soap(("04l1", "Task", TASK), organization=other))
        assert (refused.status, refused.reason) == (401, WRONG_ORGANIZATION)
    assert len((await salesforce(body, organization=ORGANIZATION[:15])).events) == 1


ENTITY = '<!DOCTYPE a [<!ENTITY x "y">]>'
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HARMFUL = {
    "billion laughs": soap(("1", "Task", "<sf:Id>&i;</sf:Id>"), head=BOMB + "]>"),
    "entity": soap(("1", "Task", "<sf:Id>&x;</sf:Id>"), head=ENTITY),
    "external entity": soap(
        ("1", "Task", "<sf:Id>&x;</sf:Id>"), head='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    ),
    "external document type": soap(("1", "Task", TASK), head='<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">'),
    "parameter entity": soap(
        ("1", "Task", TASK), head='<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]>'
    ),
}


@pytest.mark.parametrize("name", HARMFUL)
async def test_salesforce_xml_that_could_do_harm_is_refused(name: str) -> None:
    refused = await refusal(HARMFUL[name])
    assert (refused.status, refused.reason) == (400, NOT_XML)
    with pytest.raises(ValueError, match=r"DTDForbidden|EntitiesForbidden|ExternalReferenceForbidden"):
        read_outbound_message(HARMFUL[name])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"<a>", b"<a/>", b"\xff\xfe", soap(), soap(("1", "Task", "<a>" * 3000 + "</a>" * 3000)),
        soap(("1", "Task", TASK))[:-30], soap(("1", "Task", TASK)).replace(b"outbound", b"inbound"),
        soap(("1", "Task", TASK)).replace(b'encoding="UTF-8"', b'encoding="no-such"'),
    ],
    ids=range(10),
)  # fmt: skip
async def test_salesforce_a_body_that_is_no_outbound_message_is_refused(body: bytes) -> None:
    assert (await refusal(body)).reason == NOT_XML


async def test_salesforce_without_a_key_the_organization_is_the_proof() -> None:
    endpoint = make_endpoint("salesforce", organization_id=ORGANIZATION)
    assert len((await endpoint.collect(post(soap(("04l1", "Task", TASK))))).events) == 1
