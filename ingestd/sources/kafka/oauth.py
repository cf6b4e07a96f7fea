"""Tokens for OAUTHBEARER: the client-credentials grant of RFC 6749, section 4.4."""

import asyncio
import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from ingestd.config.secrets import REDACTION
from ingestd.core.errors import ConfigError

_TIMEOUT_S = 10
_ANSWER_BYTES_MAX = 1 << 20
_LIFETIME_S = 300.0  # where the answer names none
_EARLY = 0.2  # of the lifetime: renewed that much before the end, so that no connection is made with a stale token
_REFUSALS = {400, 401, 403}


class Token(NamedTuple):
    """An access token and how long it is good, in seconds from when it was asked for."""

    text: str
    lifetime: float


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Gives out one token until shortly before its end; `secret` is called for each new one, as secret files change."""

    def __init__(self, url: str, client_id: str, secret: Callable[[], str], scope: str | None) -> None:
        self._url = url
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def token(self) -> str:
        """Raises what aiokafka retries, or ``AuthenticationFailedError`` where the server refuses us."""
        async with self._lock:
            now = time.monotonic()
            if now >= self._renew_at:
                # In a thread, because the standard library's client blocks; a second HTTP client is not worth having.
                token = await asyncio.to_thread(self._request)
                REDACTION.hide(token.text)
                self._token, self._renew_at = token.text, now + token.lifetime * (1 - _EARLY)
            return self._token

    def _request(self) -> Token:
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            form = self._form()
        except ConfigError as error:
            # aiokafka passes on its own errors only; any other would end its background tasks.
            raise AuthenticationFailedError(str(error)) from error
        try:
            with opener.open(form, timeout=_TIMEOUT_S) as answer:
                return _parse(answer.read(_ANSWER_BYTES_MAX))
        except urllib.error.HTTPError as error:
            with error:
                code = error.code
            if code in _REFUSALS:
                message = f"{self._url} refuses kafka.oauth_client_id = {self._client_id} (HTTP {code})"
                raise AuthenticationFailedError(message) from None
            raise KafkaConnectionError(f"{self._url} answers HTTP {code}") from None
        except (OSError, HTTPException) as error:
            raise KafkaConnectionError(f"{self._url} cannot be reached: {error}") from None

    def _form(self) -> urllib.request.Request:
        fields = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        pair = f"{urllib.parse.quote(self._client_id, safe='')}:{urllib.parse.quote(self._secret(), safe='')}"
        REDACTION.hide(pair)  # as base64, too, which a server's answer may quote
        headers = {
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        body = urllib.parse.urlencode(fields).encode()
        return urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310  checked: http or https


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry our secret to another host: it becomes an ``HTTPError``."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _parse(body: bytes) -> Token:
    try:
        answer = json.loads(body)
        return Token(str(answer["access_token"]), max(1.0, float(answer.get("expires_in") or _LIFETIME_S)))
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not chained: the error would show the body, and with it perhaps a token.
        raise KafkaConnectionError("the token server's answer is no JSON object with an access_token") from None
