"""What the URL of a queue says: its name, its region and where to send requests. Pure."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from ingestd.config.model import SqsConfig
from ingestd.core.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
# Also those of dual-stack, FIPS and VPC endpoints, and of emulators that imitate them.
_HOST = re.compile(r"(?:.+\.)?sqs(?:-fips)?\.(?P<region>[a-z]{2,}(?:-[a-z0-9]+)+)\.(?P<rest>.+)")
_OLD_HOST = re.compile(r"(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.)?queue\.(?P<rest>amazonaws\.com(?:\.cn)?)")
_OLD_REGION = "us-east-1"  # of queue.amazonaws.com
_EXAMPLE = "https://sqs.eu-central-1.amazonaws.com/123456789012/marketing-events"


class QueueAddress(NamedTuple):
    """A queue."""

    url: str
    name: str
    endpoint_url: str
    region: str | None  # None: the URL does not say

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")


def queue_address(config: SqsConfig) -> QueueAddress:
    """The queue of the configuration. ``ConfigError`` where there is none, or where its URL is not that of a queue."""
    if config.queue_url is None:
        raise ConfigError("sqs.queue_url is not set", hint=f'such as sqs.queue_url = "{_EXAMPLE}"')
    return parse_queue_url(config.queue_url, config.endpoint_url, config.region)


def parse_queue_url(url: str, endpoint_url: str | None = None, region: str | None = None) -> QueueAddress:
    """The queue at `url`; another endpoint and region than those in it are given by the configuration."""
    parts = urlsplit(url)
    name = parts.path.rpartition("/")[2]
    if not _NAME.fullmatch(name) or parts.query or parts.fragment:
        raise ConfigError(f"sqs.queue_url {url!r} is not the URL of a queue", hint=f"expected one such as {_EXAMPLE}")
    host = parts.hostname or ""
    of_host, endpoint = None, f"{parts.scheme}://{parts.netloc}"
    if match := _OLD_HOST.fullmatch(host):  # they speak the older protocol
        of_host = match["region"] or _OLD_REGION
        endpoint = f"{parts.scheme}://sqs.{of_host}.{match['rest']}"
    elif match := _HOST.fullmatch(host):
        of_host = match["region"]
    if region is not None and of_host is not None and region != of_host and "amazonaws." in host:
        raise ConfigError(
            f"sqs.region is {region!r}, but the queue of sqs.queue_url is in {of_host}",
            hint="leave sqs.region out, or correct one of them",
        )
    return QueueAddress(url, name, endpoint_url or endpoint, region or of_host)
