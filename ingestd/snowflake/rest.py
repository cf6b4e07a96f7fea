"""Snowpipe's REST endpoint: submits files to a pipe, which loads each file name once in 14 days."""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ingestd.config.model import SnowflakeConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import SnowflakeError, SnowflakeRefused, SnowflakeUnavailable
from ingestd.ops.detached_thread import run_detached
from ingestd.ops.http_client import HttpFailure, post
from ingestd.snowflake.token import LIFETIME, token

MAX_FILES = 5000  # in one request
_TIMEOUT_S = 60.0  # for the whole request
_STEP_TIMEOUT_S = 30.0  # to connect, and without a byte: Snowpipe may take that long to answer
_MAX_ANSWER_BYTES = 64 << 10
_RENEW_AT = 0.8  # of a token's lifetime

_HINTS = {
    400: "a defect of this program: please report it",
    401: "ALTER USER ... SET RSA_PUBLIC_KEY must have snowflake.private_key_file's key; or set this machine's clock",
    403: "grant OPERATE on the pipe to the user's default role",
    404: "the pipe does not exist, or the user's default role has no OPERATE on it: see snowflake.pipe",
}


class PipeEndpoint:
    """``insertFiles`` of one pipe. One request at a time."""

    def __init__(self, settings: SnowflakeConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        host = settings.host or f"{settings.account}.snowflakecomputing.com"
        # The path is case-sensitive; names that were created without quotes are upper case.
        pipe = f"{settings.database}.{settings.schema}.{settings.pipe}".upper()
        self._url = f"{settings.protocol}://{host}/v1/data/pipes/{pipe}/insertFiles"

    async def submit(self, files: Sequence[str]) -> None:
        """Submit at most MAX_FILES, each relative to the stage. They are queued when this returns.

        The pipe skips a file name that it has had. Raises ``SnowflakeError``, and ``ConfigError`` for an unusable key.
        """
        body = json.dumps({"files": [{"path": file} for file in files]}).encode()
        headers = {
            "Authorization": f"Bearer {await self._fresh_token()}",
            "X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT",
            "Content-Type": "application/json",
            "User-Agent": "ingestd",
        }
        url = f"{self._url}?requestId={uuid.uuid4()}"
        try:
            answer = await post(
                url, body, headers, timeout_s=_TIMEOUT_S, step_timeout_s=_STEP_TIMEOUT_S, max_bytes=_MAX_ANSWER_BYTES
            )
        except HttpFailure as error:
            raise SnowflakeUnavailable(f"cannot reach the pipe: {error}", code=error.code) from None
        if answer.status != 200:
            raise self._refusal(answer.status, answer.body)
        # A proxy or a login page may answer 200 to anything.
        if _fields(answer.body).get("responseCode") != "SUCCESS":
            raise SnowflakeUnavailable("cannot submit files to the pipe: the answer is not Snowflake's", code="answer")

    async def _fresh_token(self) -> str:
        if self._clock() >= self._renew_at:
            self._token = await run_detached(token, self._settings, datetime.now(UTC))
            self._renew_at = self._clock() + LIFETIME.total_seconds() * _RENEW_AT
        return self._token

    def _refusal(self, status: int, body: bytes) -> SnowflakeError:
        fields = _fields(body)
        code = str(fields.get("code") or status)
        said = REDACTION.clean(" ".join(str(fields.get("message") or "").split()))[:300]
        message = f"cannot submit files to the pipe: HTTP {status}" + (f": {said} [{code}]" if said else "")
        if status == 401:
            self._renew_at = 0.0
        if status in _HINTS:
            return SnowflakeRefused(message, code=code, hint=_HINTS[status])
        return SnowflakeUnavailable(message, code=code)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
