"""Sends requests of AWS' JSON protocol without one of botocore's clients.

A client builds, serializes and parses by the description of its service: for a queue that is three times the CPU of
signing, sending and decoding with msgspec. Credentials, certificates, proxies and time-outs are those of a client.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiobotocore.httpsession import AIOHTTPSession
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import NoCredentialsError, NoRegionError
from botocore.utils import get_environ_proxies

from ingestd.ops.aws_session import AwsSession, DirectHTTPSession, new_session
from ingestd.ops.aws_signature import AwsKeys, Signer

_CONTENT_TYPE = "application/x-amz-json-1.0"


class JsonAnswer(NamedTuple):
    """What the service answered; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class AnswerTooLarge(Exception):
    """The answer has more bytes than any of the service has."""


class JsonService:
    """The requests to one endpoint of one service. Its connections are opened by the first.

    `target` is what stands before the operation in X-Amz-Target. `region` is that of the signature; None: that of the
    environment or the profile. `read_timeout` is the longest silence within an answer.
    """

    def __init__(
        self,
        service: str,
        target: str,
        endpoint_url: str,
        region: str | None,
        *,
        connect_timeout: float,
        read_timeout: float,
        connections: int,
        max_bytes: int,
    ) -> None:
        self._target = target
        self._url = f"{endpoint_url.rstrip('/')}/"
        self._signer = Signer(service, self._url)
        self._region = region
        self._timeouts = connect_timeout, read_timeout
        self._limit = connections
        self._max_bytes = max_bytes
        self._session: AwsSession | None = None
        self._http: AIOHTTPSession | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections; requests on their way fail. The next call opens new ones."""
        if self._http is not None:
            http, self._http = self._http, None
            await http.close()

    def forget_credentials(self) -> None:
        """Look for credentials again at the next call: a session keeps those that it found first, or none."""
        self._session = None

    async def call(self, operation: str, body: bytes, timeout_s: float) -> JsonAnswer:
        """The answer to one request, whatever its status. One attempt.

        Raises errors of botocore, aiohttp and the system, ``TimeoutError`` and ``AnswerTooLarge``.
        """
        async with asyncio.timeout(timeout_s):
            session, http = await self._connect()
            frozen = await session.frozen_credentials()
            if frozen is None:
                raise NoCredentialsError
            headers = {"X-Amz-Target": f"{self._target}.{operation}", "Content-Type": _CONTENT_TYPE}
            region = self._region or session.get_config_variable("region")
            # The types ask for botocore's headers and for aiobotocore's request: any of the same shape is sent.
            keys = AwsKeys(str(frozen.access_key), str(frozen.secret_key), frozen.token)
            signed: Any = self._signer.sign(headers, body, keys, region, datetime.now(UTC))
            prepared: Any = AWSPreparedRequest("POST", self._url, signed, body, stream_output=True)
            answer: Any = await http.send(prepared)
            return JsonAnswer(answer.status_code, dict(answer.headers), await self._read(answer.raw))

    async def _read(self, answer: Any) -> bytes:
        body = bytearray()
        try:
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > self._max_bytes:
                    raise AnswerTooLarge(f"an answer of more than {self._max_bytes} bytes")
        finally:
            answer.close()  # has no effect where all was read
        return bytes(body)

    async def _connect(self) -> tuple[AwsSession, AIOHTTPSession]:
        async with self._opening:
            if (session := self._session) is None:
                session = new_session()
                if not self._region and not session.get_config_variable("region"):
                    raise NoRegionError
                self._session = session
            if (http := self._http) is None:
                http = self._http = DirectHTTPSession(
                    verify=session.get_config_variable("ca_bundle") or True,
                    proxies=get_environ_proxies(self._url),
                    timeout=self._timeouts,  # type: ignore[arg-type]  # botocore gives it both, too
                    max_pool_connections=self._limit,
                )
                await http.__aenter__()
            return session, http
