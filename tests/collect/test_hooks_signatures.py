"""Signatures of webhooks: public vectors, a second implementation, and everything that must be refused."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import standardwebhooks
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.hooks.replay import UsedTokens
from ingestd.collect.hooks.sendgrid_signature import verify_sendgrid
from ingestd.collect.hooks.signatures import (
    AHEAD_MS,
    EXPIRED,
    FUTURE,
    MAILGUN_WINDOW_MS,
    MISSING,
    REPLAYED,
    SENDGRID_WINDOW_MS,
    WINDOW_MS,
    WRONG,
    WRONG_KEY,
    HmacScheme,
    Verifier,
    hmac_verifier,
    key_verifier,
    verify_basic,
    verify_hubspot,
    verify_mailgun,
    verify_mandrill,
    verify_standard,
)
from ingestd.collect.messages import Incoming, RefusedError
from tests.collect.hooks_world import NOW_MS, NOW_S, URL, FakeKeys, base64_of, mac, make_endpoint, post

KEY, NEW_KEY, WRONG_ONE = b"old-secret", b"new-secret", b"another-secret"

# -- SendGrid: the vector of its own library's tests

SENDGRID_KEY = (
    b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eN"
    b"Ec6wEA3F+g=="
)
SENDGRID_OTHER_KEY = (
    b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqTxd43gyp8IOEto2LdIfjRQrIbsd4SXZkLW6jDutdhXSJCWHw8REntlo7aNDthvj+y7GjUuFDb/R"
    b"1NGe1OPzpA=="
)
SENDGRID_SIGNATURE = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
SENDGRID_TIME_MS = 1_600_112_502_000
SENDGRID_BODY = (
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
)


def sendgrid(body: bytes = SENDGRID_BODY, signature: str = SENDGRID_SIGNATURE, at: int = SENDGRID_TIME_MS) -> Incoming:
    headers = {
        "x-twilio-email-event-webhook-signature": signature,
        "x-twilio-email-event-webhook-timestamp": str(SENDGRID_TIME_MS // 1000),
    }
    return post(body, headers, received_at=at)


def test_sendgrids_vector_is_verified() -> None:
    assert verify_sendgrid(sendgrid(), [SENDGRID_KEY]) is None


def test_sendgrids_line_break_at_the_end_is_signed() -> None:
    refusal = verify_sendgrid(sendgrid(SENDGRID_BODY.rstrip()), [SENDGRID_KEY])
    assert refusal is not None
    assert refusal.reason == WRONG


def test_sendgrid_another_key_is_refused_and_a_rotated_one_is_not() -> None:
    refusal = verify_sendgrid(sendgrid(), [SENDGRID_OTHER_KEY])
    assert refusal is not None
    assert refusal.reason == WRONG
    assert verify_sendgrid(sendgrid(), [SENDGRID_OTHER_KEY, SENDGRID_KEY]) is None


@pytest.mark.parametrize("signature", ["", "!", "AAAA", SENDGRID_SIGNATURE[:-8], "MEU=" * 1000])
def test_sendgrid_a_damaged_signature_is_refused(signature: str) -> None:
    assert verify_sendgrid(sendgrid(signature=signature), [SENDGRID_KEY]) is not None


def test_sendgrid_a_repeat_within_a_day_is_taken_and_a_later_one_is_not() -> None:
    assert verify_sendgrid(sendgrid(at=SENDGRID_TIME_MS + SENDGRID_WINDOW_MS), [SENDGRID_KEY]) is None
    refusal = verify_sendgrid(sendgrid(at=SENDGRID_TIME_MS + SENDGRID_WINDOW_MS + 1), [SENDGRID_KEY])
    assert refusal is not None
    assert refusal.reason == EXPIRED


@pytest.mark.parametrize("stamp", ["", "-1", "1.5", "\uff19", "9" * 5000])
def test_sendgrid_a_timestamp_that_is_no_number_is_refused(stamp: str) -> None:
    request = sendgrid()
    refusal = verify_sendgrid(
        post(request.body, {**request.headers, "x-twilio-email-event-webhook-timestamp": stamp}), [SENDGRID_KEY]
    )
    assert refusal is not None
    assert refusal.reason == MISSING


def test_sendgrid_a_key_made_here_signs_too() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    stamp = str(NOW_S)
    signature = key.sign(stamp.encode() + b"[]", ec.ECDSA(hashes.SHA256()))
    headers = {
        "x-twilio-email-event-webhook-signature": base64_of(signature),
        "x-twilio-email-event-webhook-timestamp": stamp,
    }
    assert verify_sendgrid(post(b"[]", headers), [base64.b64encode(public)]) is None
    assert verify_sendgrid(post(b"[ ]", headers), [base64.b64encode(public)]) is not None


# -- HubSpot: the vector of its own library's tests


def hubspot_vector(
    body: bytes = b"{'example_field':'example_value'}", at: int = 15_000_000, **changes: str
) -> Incoming:
    headers = {
        "x-hubspot-signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
        "x-hubspot-request-timestamp": "15000000",
    }
    url = changes.pop("url", "https://www.example.com/webhook_uri")
    return post(body, headers | changes, url=url, received_at=at)


HUBSPOT_KEY = b"yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"


def test_hubspots_vector_is_verified() -> None:
    assert verify_hubspot(hubspot_vector(), [HUBSPOT_KEY]) is None


def test_hubspot_the_url_is_signed() -> None:
    refusal = verify_hubspot(hubspot_vector(url="https://www.example.com/another"), [HUBSPOT_KEY])
    assert refusal is not None
    assert refusal.reason == WRONG
    assert "public_url" in refusal.message


def test_hubspot_signs_some_characters_decoded() -> None:
    url = "https://e.example.com/hooks/c:m?next=https://a/b:c%20"
    encoded = "https://e.example.com/hooks/c%3Am?next=https%3A%2F%2Fa%2fb%3Ac%20"
    signature = base64_of(mac(KEY, b"POST" + url.encode() + b"[]" + str(NOW_MS).encode()))
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(NOW_MS)}
    assert verify_hubspot(post(b"[]", headers, url=encoded), [KEY]) is None


# -- Standard Webhooks: the vector of its own tests, and its own library beside ours

STANDARD_KEY = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def standard(body: bytes, signature: str, stamp: int = NOW_S, message_id: str = "msg_1") -> Incoming:
    headers = {"webhook-id": message_id, "webhook-timestamp": str(stamp), "webhook-signature": signature}
    return post(body, headers)


def test_standard_webhooks_vector_is_verified() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    request = post(b'{"test": 2432232314}', headers, received_at=1_614_265_330_000)
    assert verify_standard(request, [STANDARD_KEY]) is None
    old_names = {name.replace("webhook-", "svix-"): value for name, value in headers.items()}
    assert verify_standard(post(request.body, old_names, received_at=1_614_265_330_000), [STANDARD_KEY]) is None


@given(st.text(max_size=200), st.binary(min_size=24, max_size=64), st.text(st.characters(codec="ascii"), min_size=1))
def test_standard_webhooks_verifies_what_its_own_library_signs(body: str, key: bytes, message_id: str) -> None:
    text = base64_of(key)
    signature = standardwebhooks.Webhook(text).sign(message_id, datetime.fromtimestamp(NOW_S, UTC), body)
    request = standard(body.encode(), signature, message_id=message_id)
    assert verify_standard(request, [f"whsec_{text}".encode()]) is None
    refusal = verify_standard(standard(body.encode() + b" ", signature, message_id=message_id), [text.encode()])
    assert refusal is not None
    assert refusal.reason == WRONG


def test_standard_webhooks_one_of_several_signatures_is_enough() -> None:
    good = standardwebhooks.Webhook(STANDARD_KEY.decode()).sign("msg_1", datetime.fromtimestamp(NOW_S, UTC), "{}")
    other = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    assert verify_standard(standard(b"{}", f"{other} v2,{good[3:]} {good}"), [STANDARD_KEY]) is None
    assert verify_standard(standard(b"{}", f"{other} v2,{good[3:]}"), [STANDARD_KEY]) is not None


def test_standard_webhooks_a_damaged_key_of_a_rotation_does_not_stop_the_good_one() -> None:
    good = standardwebhooks.Webhook(STANDARD_KEY.decode()).sign("msg_1", datetime.fromtimestamp(NOW_S, UTC), "{}")
    assert verify_standard(standard(b"{}", good), [b"whsec_not base64", STANDARD_KEY]) is None


# -- every scheme with a timestamp


def signed_mailgun(at_s: int, key: bytes = KEY, event: str = "opened", token: str = "t" * 50) -> Incoming:
    stamp = str(at_s)
    body = {
        "signature": {"timestamp": stamp, "token": token, "signature": mac(key, (stamp + token).encode()).hex()},
        "event-data": {"id": "e1", "event": event, "timestamp": 1_789_999_999.25, "recipient": "a@example.com"},
    }
    return post(json.dumps(body).encode())


def signed_hubspot(at_s: int, key: bytes = KEY) -> Incoming:
    stamp = str(at_s * 1000)
    signature = base64_of(mac(key, b"POST" + URL.encode() + b"[]" + stamp.encode()))
    return post(b"[]", {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": stamp})


def signed_standard(at_s: int, key: bytes = KEY) -> Incoming:
    signature = base64_of(mac(key, f"msg_1.{at_s}.{{}}".encode()))
    return standard(b"{}", f"v1,{signature}", at_s)


SCHEME = HmacScheme(
    "x-signature", encoding="hex", prefix="sha256=", signed="{timestamp}.{body}", timestamp_header="x-time"
)


def signed_hmac(at_s: int, key: bytes = KEY) -> Incoming:
    return post(b"{}", {"x-signature": "sha256=" + mac(key, f"{at_s}.{{}}".encode()).hex(), "x-time": str(at_s)})


def standard_with_plain_key(request: Incoming, keys: list[bytes]) -> object:
    return verify_standard(request, [base64.b64encode(key) for key in keys])


TIMED: dict[str, tuple[Callable[..., Incoming], Callable[..., object], int]] = {
    "mailgun": (signed_mailgun, verify_mailgun, MAILGUN_WINDOW_MS),
    "hubspot": (signed_hubspot, verify_hubspot, WINDOW_MS),
    "standard": (signed_standard, standard_with_plain_key, WINDOW_MS),
    "hmac": (signed_hmac, hmac_verifier(SCHEME), WINDOW_MS),
}


@pytest.mark.parametrize("name", TIMED)
def test_a_signature_is_good_for_its_window_and_no_longer(name: str) -> None:
    sign, verify, window_ms = TIMED[name]
    assert verify(sign(NOW_S), [KEY]) is None
    assert verify(sign(NOW_S - window_ms // 1000), [KEY]) is None
    assert getattr(verify(sign(NOW_S - window_ms // 1000 - 1), [KEY]), "reason", None) == EXPIRED


@pytest.mark.parametrize("name", TIMED)
def test_a_signature_from_the_future_is_refused(name: str) -> None:
    sign, verify, _ = TIMED[name]
    assert verify(sign(NOW_S + AHEAD_MS // 1000), [KEY]) is None
    assert getattr(verify(sign(NOW_S + AHEAD_MS // 1000 + 1), [KEY]), "reason", None) == FUTURE


@pytest.mark.parametrize("name", TIMED)
def test_the_old_and_the_new_key_are_good_during_a_rotation_and_no_other(name: str) -> None:
    sign, verify, _ = TIMED[name]
    for key in (KEY, NEW_KEY):
        assert verify(sign(NOW_S, key), [KEY, NEW_KEY]) is None
    assert getattr(verify(sign(NOW_S, WRONG_ONE), [KEY, NEW_KEY]), "reason", None) == WRONG


@pytest.mark.parametrize("name", TIMED)
def test_another_timestamp_than_the_signed_one_is_refused(name: str) -> None:
    sign, verify, _ = TIMED[name]
    old, new = sign(NOW_S - 60), sign(NOW_S)
    headers = dict(old.headers)
    body = old.body
    if name == "mailgun":
        body = body.replace(str(NOW_S - 60).encode(), str(NOW_S).encode())
    for header in ("x-hubspot-request-timestamp", "webhook-timestamp", "x-time"):
        if header in headers:
            headers[header] = new.headers[header]
    assert getattr(verify(post(body, headers), [KEY]), "reason", None) == WRONG


@pytest.mark.parametrize("name", ["hubspot", "standard", "hmac"])
def test_another_body_than_the_signed_one_is_refused(name: str) -> None:
    sign, verify, _ = TIMED[name]
    request = sign(NOW_S)
    assert getattr(verify(post(b'{"event":1}', request.headers), [KEY]), "reason", None) == WRONG


@pytest.mark.parametrize("stamp", ["", "-1", "1e9", "\uff19\uff19", "9" * 30, "now"])
@pytest.mark.parametrize("name", ["hubspot", "standard", "hmac"])
def test_a_timestamp_that_is_no_number_is_refused(name: str, stamp: str) -> None:
    sign, verify, _ = TIMED[name]
    request = sign(NOW_S)
    names = {"x-hubspot-request-timestamp", "webhook-timestamp", "x-time"} & set(request.headers)
    assert verify(post(request.body, dict(request.headers) | dict.fromkeys(names, stamp)), [KEY]) is not None


# -- Mailgun: which refusals end its attempts, and tokens


def test_mailgun_what_no_attempt_can_mend_is_answered_406_and_a_wrong_key_401() -> None:
    expired = verify_mailgun(signed_mailgun(NOW_S - 100_000), [KEY])
    missing = verify_mailgun(post(b'{"event-data":{}}'), [KEY])
    wrong = verify_mailgun(signed_mailgun(NOW_S, WRONG_ONE), [KEY])
    assert [it and it.status for it in (expired, missing, wrong)] == [406, 406, 401]
    assert missing is not None
    assert missing.reason == MISSING


async def test_mailgun_a_token_is_good_for_one_event_which_may_come_again() -> None:
    endpoint = make_endpoint("mailgun", FakeKeys(KEY))
    assert len((await endpoint.collect(signed_mailgun(NOW_S))).events) == 1
    assert len((await endpoint.collect(signed_mailgun(NOW_S))).events) == 1
    with pytest.raises(RefusedError) as caught:
        await endpoint.collect(signed_mailgun(NOW_S, event="clicked"))
    assert (caught.value.status, caught.value.reason) == (406, REPLAYED)
    assert len((await endpoint.collect(signed_mailgun(NOW_S, event="clicked", token="u" * 50))).events) == 1


def test_used_tokens_are_bounded_and_forget_the_oldest() -> None:
    tokens = UsedTokens(capacity=3)
    for number in range(10):
        assert tokens.use(b"%d" % number, b"body", now=number, until=1000)
    assert len(tokens) == 3
    assert not tokens.use(b"9", b"another body", now=10, until=1000)
    assert tokens.use(b"0", b"another body", now=10, until=1000)


def test_used_tokens_forget_what_is_over() -> None:
    tokens = UsedTokens()
    assert tokens.use(b"a", b"body", now=0, until=10)
    assert not tokens.use(b"a", b"another", now=10, until=10)
    assert tokens.use(b"b", b"body", now=11, until=20)
    assert len(tokens) == 1


# -- Mandrill


def signed_mandrill(body: bytes, content: bytes, key: bytes = KEY) -> Incoming:
    return post(body, {"x-mandrill-signature": base64_of(mac(key, URL.encode() + content, "sha1"))})


def test_mandrill_signs_the_url_and_its_sorted_fields() -> None:
    body = b"mandrill_events=%5B%5D&a=x+y%26"
    assert verify_mandrill(signed_mandrill(body, b"ax y&mandrill_events[]"), [KEY]) is None
    for content in (b"mandrill_events[]ax y&", b"amandrill_events[]", b""):
        refusal = verify_mandrill(signed_mandrill(body, content), [KEY])
        assert refusal is not None
        assert refusal.reason == WRONG


def test_mandrill_the_url_and_the_key_count() -> None:
    request = signed_mandrill(b"mandrill_events=%5B%5D", b"mandrill_events[]")
    assert verify_mandrill(request, [NEW_KEY, KEY]) is None
    assert verify_mandrill(request, [WRONG_ONE]) is not None
    elsewhere = post(request.body, request.headers, url=URL + "/")
    assert verify_mandrill(elsewhere, [KEY]) is not None


@pytest.mark.parametrize("body", [b"{}", b"\xff=1", b"a&b", b"=".join([b"a"] * 3) + b"&" * 500])
def test_mandrill_a_body_that_is_no_form_is_refused(body: bytes) -> None:
    assert verify_mandrill(signed_mandrill(body, b""), [KEY]) is not None


# -- keys


def basic(text: bytes, scheme: str = "Basic") -> Incoming:
    return post(b"{}", {"authorization": f"{scheme} {base64_of(text)}"})


def test_basic_credentials() -> None:
    keys = [b"user:old", "user:pässword".encode()]
    for key in keys:
        assert verify_basic(basic(key), keys) is None
        assert verify_basic(basic(key, "basic"), keys) is None
    refusal = verify_basic(basic(b"user:ol"), keys)
    assert refusal is not None
    assert refusal.reason == WRONG_KEY
    assert "WWW-Authenticate" in refusal.headers
    assert verify_basic(post(b"{}"), keys) is not None
    assert verify_basic(post(b"{}", {"authorization": "Basic !"}), keys) is not None


def test_a_key_in_a_header_or_in_the_query() -> None:
    in_header = key_verifier("x-key", "Bearer ")
    assert in_header(post(b"", {"x-key": "Bearer new-secret"}), [KEY, NEW_KEY]) is None
    assert in_header(post(b"", {"x-key": "new-secret"}), [KEY, NEW_KEY]) is not None
    assert in_header(post(b"", {"x-key": "Bearer new-secre"}), [KEY, NEW_KEY]) is not None
    in_query = key_verifier(parameter="code")
    assert in_query(post(b"", query={"code": "old-secret"}), [KEY]) is None
    assert in_query(post(b"", query={"code": "é\ud800"}), [KEY]) is not None
    assert in_query(post(b""), [KEY]) is not None


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_hmac_in_every_algorithm_and_encoding(algorithm: str, encoding: str) -> None:
    verify = hmac_verifier(
        HmacScheme("x-s", algorithm, encoding, signed="{method}|{url}|{id}|{body}", id_header="x-id")
    )
    digest = mac(KEY, b"POST|" + URL.encode() + b"|7|{}", algorithm)
    text = digest.hex() if encoding == "hex" else base64_of(digest)
    assert verify(post(b"{}", {"x-s": text, "x-id": "7"}), [KEY]) is None
    assert verify(post(b"{}", {"x-s": text, "x-id": "8"}), [KEY]) is not None
    assert verify(post(b"{}", {"x-s": text[:-4], "x-id": "7"}), [KEY]) is not None


VERIFIERS: list[Verifier] = [
    verify_sendgrid, verify_mailgun, verify_mandrill, verify_hubspot, verify_standard, verify_basic,
    hmac_verifier(SCHEME), key_verifier("x-key"), key_verifier(parameter="code"),
]  # fmt: skip
NAMES = [
    "x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp", "x-mandrill-signature",
    "x-hubspot-signature-v3", "x-hubspot-request-timestamp", "webhook-id", "webhook-timestamp", "webhook-signature",
    "authorization", "x-signature", "x-time", "x-key",
]  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(NAMES), st.text(max_size=80) | st.sampled_from(["Basic ", "v1,", str(NOW_S)])),
    st.binary(max_size=80) | st.text(max_size=40).map(str.encode),
    st.text(max_size=20),
)
def test_nothing_without_a_key_is_ever_accepted(headers: dict[str, str], body: bytes, text: str) -> None:
    request = post(body, headers, query={"code": text}, path=f"/hooks/{text}", url=f"https://e/{text}")
    for verify in VERIFIERS:
        assert verify(request, [SENDGRID_KEY]) is not None
