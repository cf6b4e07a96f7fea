"""What AWS would make of a request to S3: the actions it needs, and whether policies allow them.

As much of AWS's rules as our policies use; anything else is an error here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from tests.chaos.s3_proxy import S3Proxy

Policy = Mapping[str, Any]


class Need(NamedTuple):
    """An action that a request needs, on what, and the context that conditions look at."""

    action: str
    resource: str
    context: Mapping[str, str]


class Call(NamedTuple):
    """One request and the status that it was answered with."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    status: int

    @property
    def operation(self) -> str:
        """S3's name for it. AssertionError for one that no policy of ours speaks of."""
        if not self.key:
            assert (self.method, self.query.get("list-type")) == ("GET", "2"), self
            return "ListObjectsV2"
        assert not self.query.keys() - {"x-id"}, self  # such as uploads, tagging or acl, which need other rights
        return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject"}[self.method]

    @property
    def key(self) -> str:
        return self.path.strip("/").partition("/")[2]

    def needs(self) -> Iterator[Need]:
        """The rights without which S3 would not have answered like this."""
        bucket = f"arn:aws:s3:::{self.path.strip('/').partition('/')[0]}"
        match self.operation:
            case "ListObjectsV2":
                yield Need("s3:ListBucket", bucket, {"s3:prefix": self.query.get("prefix", "")})
            case "PutObject":
                condition = self.headers.get("If-None-Match")
                yield Need("s3:PutObject", f"{bucket}/{self.key}", {"s3:if-none-match": condition} if condition else {})
            case _:
                yield Need("s3:GetObject", f"{bucket}/{self.key}", {})
                if self.status == 404:  # 403 without it; AWS takes the key for the prefix then
                    yield Need("s3:ListBucket", bucket, {"s3:prefix": self.key})


class Recorder(S3Proxy):
    """Passes everything on, and keeps what it has passed on."""

    def __init__(self, port: int, upstream: int) -> None:
        super().__init__(port, upstream)
        self.calls: list[Call] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answer = await super().answer(request)
        self.calls.append(Call(request.method, request.path, request.query, request.headers, answer.status))
        return answer


def allowed(need: Need, *policies: Policy) -> bool:
    """Some statement allows it, and none denies it."""
    effects = {
        statement["Effect"] for policy in policies for statement in policy["Statement"] if _applies(statement, need)
    }
    return effects == {"Allow"}


def _applies(statement: Mapping[str, Any], need: Need) -> bool:
    assert statement.keys() <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    return (
        need.action in listed(statement["Action"])
        and any(_is_like(need.resource, pattern) for pattern in listed(statement["Resource"]))
        and all(
            _holds(operator, need.context.get(key), listed(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, value: str | None, values: Sequence[str]) -> bool:
    match operator:
        case "StringLike":
            return value is not None and any(_is_like(value, pattern) for pattern in values)
        case "StringEquals":
            return value in values
        case "Null":
            return values == [str(value is None).lower()]
    raise AssertionError(operator)


def _is_like(text: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None


def listed(value: str | Sequence[str]) -> list[str]:
    """A policy's value, which may be one or many."""
    return [value] if isinstance(value, str) else list(value)
