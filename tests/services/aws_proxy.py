"""A proxy before a server of Kinesis or SQS that answers as AWS does in trouble: by script, and counted.

Our own: those on PyPI know S3's errors, not the errors of these services, and none loses the answer to a request that
was carried out.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, NamedTuple

from aiohttp import web
from multidict import CIMultiDict

from tests.services.forwarding import ForwardingProxy, cut
from tests.services.ports import HOST, free_port


class Call(NamedTuple):
    """One request, read whole."""

    request: web.Request
    operation: str  # as "GetRecords"
    body: bytes
    upstream: Callable[["Call"], Awaitable[web.Response]]

    @property
    def parameters(self) -> dict[str, Any]:
        """What was asked."""
        found: dict[str, Any] = json.loads(self.body or b"{}")
        return found

    async def apply(self) -> web.Response:
        """Have the server carry it out; its answer."""
        return await self.upstream(self)

    def refuse(self, status: int, code: str, message: str) -> web.Response:
        """An error in the services' JSON."""
        headers = {"x-amzn-RequestId": "00000000-0000-0000-0000-000000000000"}
        body = json.dumps({"__type": code, "message": message})
        return web.Response(status=status, text=body, content_type="application/x-amz-json-1.1", headers=headers)

    def close(self) -> web.Response:
        """Close the client's connection without an answer."""
        return cut(self.request)


Behaviour = Callable[[Call], Awaitable[web.StreamResponse]]


class _Rule(NamedTuple):
    """What happens to the calls of an operation."""

    name: str
    operation: str
    share: float
    behave: Behaviour


class AwsProxy(ForwardingProxy):
    """Passes calls on to `upstream`, a port of this machine, and follows its rules: the first that fits a call.

    `calls` counts all calls by operation, `fired` what the rules did, as "GetRecords cut".
    """

    def __init__(self, upstream: int, *, seed: int = 7, port: int | None = None) -> None:
        super().__init__(port or free_port(), upstream)
        self.endpoint = f"http://{HOST}:{self.port}"
        self.calls: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self._rng = Random(seed)
        self._rules: list[_Rule] = []
        self._left: dict[str, int] = {}

    # -- what it is told: each for the next `times` calls of an operation, or a share of them all

    def heal(self) -> None:
        """Pass everything on again."""
        self._rules.clear()
        self._left.clear()

    def refuses(
        self,
        operation: str,
        code: str,
        message: str = "told to say so",
        *,
        status: int = 400,
        times: int | None = None,
        share: float = 1.0,
    ) -> None:
        """Answers with an error; the server never sees the call."""

        async def behave(call: Call) -> web.Response:
            return call.refuse(status, code, message)

        self._add(code, operation, behave, times, share)

    def throttles(self, operation: str, *, times: int | None = None, share: float = 1.0) -> None:
        """Kinesis: more was read than a shard allows, by whoever."""
        message = "Rate exceeded for shard shardId-000000000000 in stream told under account 000000000000."
        self.refuses(operation, "ProvisionedThroughputExceededException", message, times=times, share=share)

    def expires_iterators(self, *, times: int | None = None, share: float = 1.0) -> None:
        """Kinesis: the iterator is older than five minutes."""
        message = "Iterator expired. The iterator was created at time X while right now it is Y."
        self.refuses("GetRecords", "ExpiredIteratorException", message, times=times, share=share)

    def is_over_limit(self, *, times: int | None = None, share: float = 1.0) -> None:
        """SQS: 120,000 messages of the queue are in flight."""
        message = "The specified action violates a limit: too many messages are in flight."
        code = "com.amazonaws.sqs#OverLimit"
        self.refuses("ReceiveMessage", code, message, status=403, times=times, share=share)

    def fails(self, operation: str, status: int = 500, *, times: int | None = None, share: float = 1.0) -> None:
        """An internal error; the server never sees the call."""
        self.refuses(operation, "InternalFailure", status=status, times=times, share=share)

    def cuts(self, operation: str, *, times: int | None = None, share: float = 1.0) -> None:
        """The server carries it out, and half of its answer comes."""

        async def behave(call: Call) -> web.StreamResponse:
            answer = await call.apply()
            body = answer.body if isinstance(answer.body, bytes) else b""
            headers = CIMultiDict(answer.headers)
            headers["Content-Length"] = str(len(body))
            half = web.StreamResponse(status=answer.status, headers=headers)
            await half.prepare(call.request)
            await half.write(body[: len(body) // 2])
            call.close()
            return half

        self._add("cut", operation, behave, times, share)

    def loses_answers(self, operation: str, *, times: int | None = None, share: float = 1.0) -> None:
        """The server carries it out, and the connection is closed without an answer."""

        async def behave(call: Call) -> web.Response:
            await call.apply()
            return call.close()

        self._add("lost", operation, behave, times, share)

    def delays(self, operation: str, seconds: float, *, times: int | None = None, share: float = 1.0) -> None:
        """The server carries it out, and its answer comes late."""

        async def behave(call: Call) -> web.Response:
            answer = await call.apply()
            await asyncio.sleep(seconds)
            return answer

        self._add("delayed", operation, behave, times, share)

    def _add(self, what: str, operation: str, behave: Behaviour, times: int | None, share: float) -> None:
        name = f"{operation} {what}"
        self._rules.append(_Rule(name, operation, share, behave))
        if times is not None:
            self._left[name] = self._left.get(name, 0) + times

    # -- calls

    async def answer(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        call = Call(request, operation, await request.read(), self._apply)
        self.calls[operation] += 1
        rule = next((it for it in self._rules if it.operation == operation and self._applies(it)), None)
        if rule is None:
            return await call.apply()
        self.fired[rule.name] += 1
        return await rule.behave(call)

    def _applies(self, rule: _Rule) -> bool:
        left = self._left.get(rule.name)
        if left == 0 or self._rng.random() >= rule.share:
            return False
        if left is not None:
            self._left[rule.name] = left - 1
        return True

    async def _apply(self, call: Call) -> web.Response:
        return await self.forward(call.request, call.body)
