"""The types of the configuration's values, each with what is accepted and how that is called."""

from typing import Annotated

import msgspec
from msgspec import Meta

from ingestd.config.types import Seconds


def within(low: str, high: str) -> Meta:
    """The smallest and the largest value of a duration or a size, in their text form; `validate.py` enforces it."""
    return Meta(extra={"low": low, "high": high})


NAME = Meta(
    pattern=r"^(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z", description="at most 249 letters, digits, '.', '_' and '-'"
)

Name = Annotated[str, NAME]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Server = Annotated[
    str,
    Meta(pattern=r"^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?\Z", description="host:port"),
]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}\Z", description="host name without a port")]
Url = Annotated[
    str,  # without a user or a query, which may be secrets: URLs are shown
    Meta(pattern=r"^https?://[^\s/?#@]{1,255}(/[^\s?#@]{0,1024})?\Z", description="http(s)://host[:port]"),
]
Model = Annotated[
    str, Meta(pattern=r"^(json|[A-Za-z_][\w.]{0,200}:[A-Za-z_]\w{0,200})\Z", description="json, or module:Name")
]
JsonPath = Annotated[
    str, Meta(pattern=r"^[^.\s]{1,200}(\.[^.\s]{1,200}){0,20}\Z", description="a path such as meta.sent_at")
]
RENAMES = Meta(
    max_length=100,
    description='a table of at most 100 fields such as {type = "event_type"}, or text: type=event_type,id=event_id',
)
Identifier = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,254}\Z", description="letters, digits, '_' and '$'")
]
RoleArn = Annotated[
    str,
    Meta(
        pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}\Z",
        description="arn:aws:iam::ACCOUNT:role/NAME",
    ),
]
TopicArn = Annotated[
    str,
    Meta(
        pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w-]{1,256}\Z",
        description="arn:aws:sns:REGION:ACCOUNT:NAME",
    ),
]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^(\*|https?://(\*\.)?[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?)\Z",
        description="an origin such as https://www.example.com, https://*.example.com or *",
    ),
]
Network = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?\Z", description="a network: 10.0.0.0/8")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Timeout = Annotated[Seconds, within("100ms", "10m")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of the configuration."""
