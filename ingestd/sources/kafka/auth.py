"""Options and credentials for every Kafka client: TLS, SASL, and tokens for OAUTHBEARER."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from ingestd.config.model import KafkaConfig
from ingestd.config.secrets import REDACTION, read_secret
from ingestd.config.types import Secret
from ingestd.core.errors import ConfigError
from ingestd.ops.http_client import HttpFailure, post
from ingestd.sources.kafka.errors import describe

_TIMEOUT_S = 60.0  # for the whole request of a token
_DEFAULT_LIFETIME_S = 300.0  # where the answer has none
_RENEW_EARLY = 0.2  # of the lifetime is left when a token is renewed, so that no connection is made with a stale one
_REFUSED_STATUSES = {400, 401, 403}


def client_options(config: KafkaConfig) -> dict[str, Any]:
    """The options that all of aiokafka's clients and connections share. Reads files. Raises ``ConfigError``."""
    options: dict[str, Any] = {
        "client_id": config.client_id,
        "request_timeout_ms": int(config.request_timeout * 1000),
        "security_protocol": config.security_protocol,
    }
    if config.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(config)
    if config.security_protocol.startswith("SASL_"):
        options |= _sasl(config)
    return options


def _ssl_context(config: KafkaConfig) -> ssl.SSLContext:
    key = "kafka.ssl_ca_file"
    try:
        context = ssl.create_default_context(cafile=config.ssl_ca_file)
        if config.ssl_cert_file is not None:
            key = "kafka.ssl_cert_file or kafka.ssl_key_file"
            password = config.ssl_key_password
            # An empty one for a missing password: OpenSSL would ask the terminal for it.
            context.load_cert_chain(
                config.ssl_cert_file, config.ssl_key_file, lambda: password.reveal() if password is not None else ""
            )
    except (OSError, ValueError) as error:
        files = [file for file in (config.ssl_ca_file, config.ssl_cert_file, config.ssl_key_file) if file is not None]
        raise ConfigError(
            f"{key} cannot be used: {describe(error)}",
            hint=f"check that these are readable PEM files: {', '.join(files)}",
        ) from error
    return context


def _sasl(config: KafkaConfig) -> dict[str, Any]:
    if config.sasl_mechanism == "AWS_MSK_IAM":
        from ingestd.sources.kafka.msk_iam import MskTokenProvider, region_of  # noqa: PLC0415  it loads botocore

        region = region_of(config.bootstrap_servers, config.iam_region)
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": MskTokenProvider(region)}
    if config.sasl_mechanism == "OAUTHBEARER":
        url = _required("kafka.oauth_token_url", config.oauth_token_url)
        client = _required("kafka.oauth_client_id", config.oauth_client_id)

        def password() -> str:
            return _secret("kafka.oauth_client_secret", config.oauth_client_secret, config.oauth_client_secret_file)

        password()  # a missing secret is an error now, not when the first connection needs it
        return {
            "sasl_mechanism": config.sasl_mechanism,
            "sasl_oauth_token_provider": TokenProvider(url, client, password, config.oauth_scope),
        }
    return {
        "sasl_mechanism": config.sasl_mechanism,
        "sasl_plain_username": _required("kafka.sasl_username", config.sasl_username),
        "sasl_plain_password": _secret("kafka.sasl_password", config.sasl_password, config.sasl_password_file),
    }


def _required(key: str, value: str | None) -> str:
    if value is None:
        raise ConfigError(f"{key} is not set", hint="kafka.security_protocol and kafka.sasl_mechanism demand it")
    return value


def _secret(key: str, value: Secret | None, file: str | None) -> str:
    """The current text of a secret. ``ConfigError`` where it is not set, or its file cannot be read."""
    return _required(f"{key} or {key}_file", read_secret(value, file))


class Token(NamedTuple):
    """An access token and its lifetime, in seconds from the request for it."""

    text: str
    lifetime_s: float


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Tokens for OAUTHBEARER by the client-credentials grant of RFC 6749, section 4.4.

    A token is used until shortly before its end. `secret` is called for each new one, because secret files change.
    """

    def __init__(self, url: str, client_id: str, secret: Callable[[], str], scope: str | None) -> None:
        self._url = url
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def token(self) -> str:
        """Raises an error that aiokafka retries, or ``AuthenticationFailedError`` where the server refuses us."""
        async with self._lock:
            now = time.monotonic()
            if now >= self._renew_at:
                token = await self._request()
                REDACTION.hide(token.text)
                self._token, self._renew_at = token.text, now + token.lifetime_s * (1 - _RENEW_EARLY)
            return self._token

    async def _request(self) -> Token:
        try:
            pair = f"{quote(self._client_id, safe='')}:{quote(self._secret(), safe='')}"
        except ConfigError as error:
            # aiokafka handles its own errors only; any other would end its background tasks.
            raise AuthenticationFailedError(str(error)) from error
        REDACTION.hide(pair)  # as base64, too, which a server's answer may quote
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        try:
            answer = await post(self._url, form, headers, timeout_s=_TIMEOUT_S)
        except HttpFailure as error:
            raise KafkaConnectionError(f"{self._url} cannot be reached: {error}") from None
        self._check_status(answer.status)
        return _parse(answer.body)

    def _check_status(self, status: int) -> None:
        if status in _REFUSED_STATUSES:
            message = f"{self._url} refuses kafka.oauth_client_id = {self._client_id} (HTTP {status})"
            raise AuthenticationFailedError(message)
        if not 200 <= status < 300:
            raise KafkaConnectionError(f"{self._url} answers HTTP {status}")


def _parse(body: bytes) -> Token:
    try:
        answer = json.loads(body)
        return Token(str(answer["access_token"]), max(1.0, float(answer.get("expires_in") or _DEFAULT_LIFETIME_S)))
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not chained: the error would show the body, and with it perhaps a token.
        raise KafkaConnectionError("the token server's answer is no JSON object with an access_token") from None
