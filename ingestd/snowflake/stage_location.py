"""The location in a bucket that Snowflake loads from. Pure."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from ingestd.config.model import Config
from ingestd.core.errors import ConfigError
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.sink_url import parse_sink_url

SUFFIX = ".jsonl.gz"
# By AWS partition: the scheme of Snowflake's URLs, and the provider of a storage integration.
_PARTITIONS = {"aws": ("s3", "S3"), "aws-cn": ("s3china", "S3CHINA"), "aws-us-gov": ("s3gov", "S3GOV")}


class StageLocation(NamedTuple):
    """A bucket with our prefixes: `root` of all keys, `events` of the data objects. Both end with "/" or are ""."""

    bucket: str
    root: str
    events: str
    partition: str  # of AWS: "aws", "aws-cn", ...
    endpoint: str  # host of an S3-compatible store; "" is AWS

    @property
    def url(self) -> str:
        """The stage's URL. It ends with "/": otherwise it would also match longer names."""
        scheme = "s3compat" if self.endpoint else _PARTITIONS.get(self.partition, _PARTITIONS["aws"])[0]
        return f"{scheme}://{self.bucket}/{self.events}"

    @property
    def provider(self) -> str:
        return _PARTITIONS.get(self.partition, _PARTITIONS["aws"])[1]

    @property
    def arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"


def stage_location(config: Config) -> StageLocation:
    """The location of ``sink.url``. Raises ``ConfigError`` if it is not a bucket."""
    url = parse_sink_url(config.sink.url)
    if url.kind != "s3" or not url.bucket:
        raise ConfigError(
            f"sink.url = {config.sink.url} is not a bucket: Snowflake loads from S3",
            hint="set --sink s3://bucket/prefix",
        )
    layout = ObjectKeys(config.sink.lineage)
    role = config.snowflake.aws_role_arn
    partition = role.split(":")[1] if role else "aws"
    events = url.prefix + layout.events
    return StageLocation(url.bucket, url.prefix, events, partition, _endpoint(config.s3.endpoint_url))


def _endpoint(url: str | None) -> str:
    host = urlsplit(url or "").netloc
    return "" if re.search(r"(^|\.)amazonaws\.com(\.cn)?(:\d+)?$", host) else host
