"""Requests are signed as botocore signs them."""

from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ingestd.ops.aws_signature import AwsKeys, Signer

HEADERS = {"X-Amz-Target": "AmazonSQS.ReceiveMessage", "Content-Type": "application/x-amz-json-1.0"}
URLS = (
    "https://sqs.eu-central-1.amazonaws.com/",
    "https://sqs.eu-central-1.amazonaws.com:443/",
    "http://127.0.0.1:9324/",
    "http://[::1]:9324/",
    "https://Proxy.example.com:8443/",
)
PLAIN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
KEYS = st.builds(AwsKeys, PLAIN, PLAIN, st.none() | PLAIN)
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - of Hypothesis


def by_botocore(url: str, body: bytes, keys: AwsKeys, region: str, at: datetime) -> dict[str, str]:
    request = AWSRequest(method="POST", url=url, headers=dict(HEADERS), data=body)
    with patch("botocore.auth.get_current_datetime", lambda: at):
        SigV4Auth(Credentials(*keys), "sqs", region).add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("url", URLS)
@given(body=st.binary(max_size=100), keys=KEYS, region=PLAIN, at=TIMES)
def test_signs_as_botocore_does(url: str, body: bytes, keys: AwsKeys, region: str, at: datetime) -> None:
    signed = Signer("sqs", url).sign(HEADERS, body, keys, region, at)
    assert signed == by_botocore(url, body, keys, region, at)


def test_a_new_secret_a_new_day_and_another_region_have_keys_of_their_own() -> None:
    signer, day = Signer("sqs", URLS[0]), datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)
    first, second = AwsKeys("a", "one", None), AwsKeys("a", "two", None)
    for keys, region, at in (
        (first, "eu-central-1", day),
        (second, "eu-central-1", day),
        (second, "us-east-1", day),
        (second, "us-east-1", day.replace(month=2, day=1)),
    ):
        found = signer.sign(HEADERS, b"{}", keys, region, at)
        assert found == by_botocore(URLS[0], b"{}", keys, region, at)
