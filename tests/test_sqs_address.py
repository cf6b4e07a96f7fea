"""What the URL of a queue says of it."""

import pytest

from ingestd.config.model import SqsConfig
from ingestd.core.errors import ConfigError
from ingestd.sources.sqs.address import parse_queue_url, queue_address


@pytest.mark.parametrize(
    ("url", "endpoint", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/123456789012/q", "https://sqs.eu-central-1.amazonaws.com",
         "eu-central-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "https://sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "https://sqs-fips.us-gov-west-1.amazonaws.com",
         "us-gov-west-1"),
        ("https://vpce-0a1b-c2d3.sqs.us-east-2.vpce.amazonaws.com/1/q",
         "https://vpce-0a1b-c2d3.sqs.us-east-2.vpce.amazonaws.com", "us-east-2"),
        ("https://sqs.eu-west-1.api.aws/1/q", "https://sqs.eu-west-1.api.aws", "eu-west-1"),
        # The older hosts do not speak JSON.
        ("https://eu-west-1.queue.amazonaws.com/1/q", "https://sqs.eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://queue.amazonaws.com/1/q", "https://sqs.us-east-1.amazonaws.com", "us-east-1"),
        ("http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/q",
         "http://sqs.us-east-1.localhost.localstack.cloud:4566", "us-east-1"),
        ("http://127.0.0.1:9324/000000000000/q", "http://127.0.0.1:9324", None),
    ],
)  # fmt: skip
def test_the_url_gives_endpoint_and_region(url: str, endpoint: str, region: str | None) -> None:
    found = parse_queue_url(url)
    assert (found.url, found.name, found.endpoint_url, found.region) == (url, "q", endpoint, region)
    assert not found.fifo


def test_the_configuration_gives_another_endpoint_and_the_region_that_the_url_does_not() -> None:
    found = parse_queue_url("http://10.0.0.1/0/q.fifo", "http://127.0.0.1:1", "eu-north-1")
    assert (found.endpoint_url, found.region, found.fifo) == ("http://127.0.0.1:1", "eu-north-1", True)


def test_a_region_that_contradicts_the_url_names_both_and_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"sqs\.region is 'eu-west-1', but .* eu-central-1 \(leave sqs\.region out"):
        parse_queue_url("https://sqs.eu-central-1.amazonaws.com/1/q", None, "eu-west-1")


@pytest.mark.parametrize("path", ["", "/", "/1/", "/1/a b", "/1/" + "x" * 81, "/1/q.fifo.fifo", "/1/q?x=1", "/1/q#f"])
def test_what_is_no_queue_is_an_error_that_names_the_key(path: str) -> None:
    with pytest.raises(ConfigError, match=r"sqs\.queue_url .*expected one such as https://sqs\."):
        parse_queue_url(f"https://sqs.eu-central-1.amazonaws.com{path}")


def test_no_queue_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"sqs\.queue_url is not set"):
        queue_address(SqsConfig())
