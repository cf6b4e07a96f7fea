"""A server that answers as SQS does, by a script for each operation, and verifies signatures."""

import asyncio
import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Self

import msgspec
from aiohttp import web

from ingestd.config.model import SqsConfig
from ingestd.config.types import Seconds
from tests.services.ports import HOST

REGION, SECRET = "eu-central-1", "the secret key"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:123456789012:events"
QUEUE_ATTRIBUTES = {
    "QueueArn": QUEUE_ARN,
    "ApproximateNumberOfMessages": "7",
    "ApproximateNumberOfMessagesNotVisible": "3",
    "VisibilityTimeout": "30",
    "MessageRetentionPeriod": "345600",
    "MaximumMessageSize": "1048576",
}
ATTRIBUTES = {"Attributes": QUEUE_ATTRIBUTES}


class Answer(msgspec.Struct, frozen=True):
    """An answer; `silent`: none, for ever; `late`: once it is released; `cut`: the connection ends instead."""

    body: Any = {}
    status: int = 200
    headers: dict[str, str] = {}
    silent: bool = False
    late: bool = False
    cut: bool = False


def fault(kind: str, message: str = "", status: int = 400) -> Answer:
    """An error, as in the JSON protocol."""
    return Answer({"__type": f"com.amazonaws.sqs#{kind}", "message": message}, status)


def message(number: int = 0, body: str = "{}", **more: Any) -> dict[str, Any]:
    """A message of an answer to ReceiveMessage."""
    return {
        "MessageId": f"id-{number}",
        "ReceiptHandle": f"handle-{number}",
        "MD5OfBody": hashlib.md5(body.encode(errors="replace"), usedforsecurity=False).hexdigest(),
        "Body": body,
        "Attributes": {
            "SentTimestamp": "1795900000000",
            "ApproximateReceiveCount": "1",
            "ApproximateFirstReceiveTimestamp": "1795900000001",
        },
        **more,
    }


def all_done(request: dict[str, Any]) -> Answer:
    """Each entry of a batch succeeded."""
    return Answer({"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]]})


Step = Answer | Callable[[dict[str, Any]], Answer]


class ScriptedSqs:
    """Records requests by operation, and answers them in turn; the last answer stays. `tokens` are those it accepts."""

    def __init__(self, **steps: Iterable[Step]) -> None:
        self.steps: dict[str, list[Step]] = {
            "GetQueueAttributes": [Answer(ATTRIBUTES)],
            "DeleteMessageBatch": [all_done],
            "ChangeMessageVisibilityBatch": [all_done],
            "SendMessageBatch": [all_done],
            "ReceiveMessage": [Answer({})],
            **{operation: list(script) for operation, script in steps.items()},
        }
        self.requests: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.headers: list[dict[str, str]] = []
        self.waiting = asyncio.Event()  # a request is not answered
        self.release = asyncio.Event()  # late answers
        self._end = asyncio.Event()

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_post("/", self._serve)
        self._runner = web.AppRunner(application, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end.set()
        await self._runner.cleanup()

    def config(self, **more: Any) -> SqsConfig:
        """The configuration that leads here."""
        short = {"connect_timeout": Seconds(5), "read_timeout": Seconds(5), "wait": Seconds(1)}
        return SqsConfig(queue_url=f"{self.url}/123456789012/events", **{"region": REGION, **short, **more})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        verify(request, body)
        operation = request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
        assert request.headers["Content-Type"] == "application/x-amz-json-1.0"
        self.requests[operation].append(json.loads(body))
        steps = self.steps[operation]
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        answer = step if isinstance(step, Answer) else step(json.loads(body))
        if answer.silent:
            self.waiting.set()
            await self._end.wait()
        if answer.late:
            self.waiting.set()
            await self.release.wait()
        if answer.cut:
            assert request.transport is not None
            request.transport.abort()
        said = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        return web.Response(body=said, status=answer.status, headers=answer.headers)


def verify(request: web.Request, body: bytes) -> None:
    """Compute the signature from what has arrived, as AWS does. AssertionError where it is another one."""
    scheme, _, fields = request.headers["Authorization"].partition(" ")
    given = dict(part.split("=", 1) for part in fields.split(", "))
    access_key, day, region, service, end = given["Credential"].split("/")
    assert (scheme, region, service, end) == ("AWS4-HMAC-SHA256", REGION, "sqs", "aws4_request")
    time = request.headers["X-Amz-Date"]
    assert time.startswith(day)
    names = given["SignedHeaders"].split(";")
    assert {"host", "x-amz-date", "x-amz-target", "content-type"} <= set(names)
    lines = [f"{name}:{request.headers[name].strip()}" for name in names]
    digest = hashlib.sha256(body).hexdigest()
    canonical = "\n".join((request.method, request.path, request.query_string, *lines, "", ";".join(names), digest))
    signed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{scheme}\n{time}\n{day}/{region}/{service}/{end}\n{signed}"
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, service, end):
        key = hmac.digest(key, part.encode(), "sha256")
    assert access_key
    assert given["Signature"] == hmac.digest(key, text.encode(), "sha256").hex()
