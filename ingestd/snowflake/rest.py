"""Snowpipe's REST endpoint: names files to a pipe, which loads each name once in 14 days."""

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any

from ingestd.config.model import SnowflakeConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import SnowflakeError, SnowflakeRefused, SnowflakeUnavailable
from ingestd.snowflake.table import qualified
from ingestd.snowflake.token import LIFETIME, token

MAX_FILES = 5000  # that one call takes
_TIMEOUT_S = 30
_ANSWER_BYTES_MAX = 64 << 10
_RENEW = 0.8  # of a token's lifetime

_HINTS = {
    400: "a defect of this program: please report it",
    401: "ALTER USER ... SET RSA_PUBLIC_KEY must have snowflake.private_key_file's key; or set this machine's clock",
    403: "grant OPERATE on the pipe to the user's default role",
    404: "the pipe is not there, or the user's default role has no OPERATE on it: see snowflake.pipe",
}


class Endpoint:
    """``insertFiles`` of one pipe. Its calls block; one at a time."""

    def __init__(self, settings: SnowflakeConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        host = settings.host or f"{settings.account}.snowflakecomputing.com"
        # Case counts in the path; what was created without quotes is upper case.
        pipe = qualified(settings, settings.pipe).upper()
        self._url = f"{settings.protocol}://{host}/v1/data/pipes/{pipe}/insertFiles"

    def insert_files(self, files: Sequence[str]) -> None:
        """Name at most MAX_FILES, relative to the stage. They are queued when this returns; a name that the pipe has
        had is skipped. Errors: ``SnowflakeError``, ``ConfigError`` for a key that cannot be used.
        """
        body = json.dumps({"files": [{"path": file} for file in files]}).encode()
        url = f"{self._url}?requestId={uuid.uuid4()}"
        headers = {
            "Authorization": f"Bearer {self._fresh_token()}",
            "X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "ingestd",
        }
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310  http or https
        try:
            with urllib.request.build_opener(_NoRedirects).open(request, timeout=_TIMEOUT_S) as answer:
                said = answer.read(_ANSWER_BYTES_MAX)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read(_ANSWER_BYTES_MAX)) from None
        except (OSError, HTTPException) as error:
            raise SnowflakeUnavailable(f"cannot reach the pipe: {error}", code=type(error).__name__) from None
        # Whatever answers 200 to anything is no pipe.
        if _fields(said).get("responseCode") != "SUCCESS":
            raise SnowflakeUnavailable("cannot name files to the pipe: the answer is not Snowflake's", code="answer")

    def _fresh_token(self) -> str:
        if self._clock() >= self._renew_at:
            self._token = token(self._settings, datetime.now(UTC))
            self._renew_at = self._clock() + LIFETIME.total_seconds() * _RENEW
        return self._token

    def _refusal(self, status: int, body: bytes) -> SnowflakeError:
        fields = _fields(body)
        code = str(fields.get("code") or status)
        said = REDACTION.clean(" ".join(str(fields.get("message") or "").split()))[:300]
        message = f"cannot name files to the pipe: HTTP {status}" + (f": {said} [{code}]" if said else "")
        if status == 401:
            self._renew_at = 0.0
        if status in _HINTS:
            return SnowflakeRefused(message, code=code, hint=_HINTS[status])
        return SnowflakeUnavailable(message, code=code)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry our token to another host: it becomes an ``HTTPError``."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fields(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
