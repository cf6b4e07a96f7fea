"""Asks a schema registry for schemas, through Confluent's API: several addresses, credentials, TLS."""

import base64
import binascii
import json
import ssl
from typing import Any
from urllib.parse import quote

from ingestd.config.model import RegistryConfig
from ingestd.config.secrets import REDACTION, read_secret
from ingestd.config.types import Size
from ingestd.core.errors import ConfigError
from ingestd.core.values.base import Schema, SchemaError, SchemaRef
from ingestd.ops.http_client import HttpFailure, get

MAX_SCHEMA_BYTES = 2 << 20
ID_MAX = 2**31 - 1  # of all registries: some answer larger ones as if the path was wrong
REFERENCES_MAX = 200  # of one schema, those of its references included
_CACHED_REFERENCES = 1000
_PATHS = {"id": "/schemas/ids/", "guid": "/schemas/guids/"}
_UNKNOWN = range(40400, 40500)  # the registry's own codes: another server's 404 says nothing of a schema


class RegistryUnavailable(Exception):
    """The registry gave no answer that says anything of the schema. The text says why."""


class RegistryClient:
    """Asks the addresses in turn, beginning with the one that answered last. Raises ``ConfigError`` when it is made."""

    def __init__(self, config: RegistryConfig) -> None:
        self.requests = 0
        self.failures = 0
        self._config = config
        self._first = 0
        self._tls = _tls(config)
        self._references: dict[str, dict[str, Any]] = {}
        self._headers()  # a missing secret is an error now

    async def fetch(self, ref: SchemaRef) -> Schema | None:
        """The schema; None if there is none. Raises ``RegistryUnavailable``, ``SchemaError`` if it cannot be used."""
        if ref.kind == "id" and not 0 < int(ref.name) <= ID_MAX:
            return None
        path = _PATHS[ref.kind] + ref.name
        found = await self._get(path)
        if found is None:
            return None
        kind = str(found.get("schemaType") or "AVRO").upper()
        text = await self._text(found, path, kind)
        references: dict[str, str] = {}
        if kind != "JSON":
            await self._resolve(found, kind, references, ())
        return Schema(kind, text, references)

    async def _resolve(self, found: dict[str, Any], kind: str, into: dict[str, str], above: tuple[str, ...]) -> None:
        """Add all that `found` refers to, what others need first."""
        listed = found.get("references") or []
        for one in listed if isinstance(listed, list) else []:
            try:
                name, subject, version = str(one["name"]), quote(str(one["subject"]), safe=""), int(one["version"])
            except (KeyError, TypeError, ValueError):
                raise SchemaError("the registry's list of its references cannot be read") from None
            if name in into:
                continue
            if name in above or len(into) + len(above) >= REFERENCES_MAX:
                raise SchemaError(f"its references are a circle, or more than {REFERENCES_MAX}")
            path = f"/subjects/{subject}/versions/{version}?deleted=true"
            if (reference := self._references.get(path)) is None:
                reference = await self._get(path)
                if reference is None:
                    raise SchemaError(f"the registry does not have its reference {name}")
                reference = {**reference, "schema": await self._text(reference, path, kind)}
                self._references[path] = reference
                if len(self._references) > _CACHED_REFERENCES:
                    del self._references[next(iter(self._references))]
            await self._resolve(reference, kind, into, (*above, name))
            into[name] = reference["schema"]

    async def _text(self, found: dict[str, Any], path: str, kind: str) -> str:
        """The schema's text; of Protobuf the serialized descriptor, where the registry can give it."""
        text = found.get("schema")
        if not isinstance(text, str):
            raise RegistryUnavailable(f"the answer for {path} has no schema")
        if kind != "PROTOBUF" or _is_base64(text):
            return text
        try:
            answer = await self._get(f"{path}{'&' if '?' in path else '?'}format=serialized")
        except (RegistryUnavailable, SchemaError):
            return text  # some registries refuse what they do not know
        serialized = answer.get("schema") if answer is not None else None
        return serialized if isinstance(serialized, str) and _is_base64(serialized) else text

    async def _get(self, path: str) -> dict[str, Any] | None:
        """The answer; None if the registry says that there is nothing. Raises ``RegistryUnavailable``."""
        urls, why = self._config.urls, "registry.urls is empty"
        for step in range(len(urls)):
            at = (self._first + step) % len(urls)
            url = urls[at].rstrip("/")
            self.requests += 1
            try:
                found = await self._ask(url, path)
            except RegistryUnavailable as error:
                self.failures += 1
                why = str(error)
            else:
                self._first = at
                return found
        raise RegistryUnavailable(why)

    async def _ask(self, url: str, path: str) -> dict[str, Any] | None:
        timeout = float(self._config.request_timeout)
        try:
            answer = await get(
                url + path, headers=self._headers(), timeout_s=timeout, step_timeout_s=timeout,
                max_bytes=MAX_SCHEMA_BYTES, tls=self._tls,
            )  # fmt: skip
        except HttpFailure as error:
            raise RegistryUnavailable(f"the schema registry {url} cannot be reached: {error}") from None
        except ConfigError as error:
            raise RegistryUnavailable(str(error)) from None
        try:
            body = json.loads(answer.body)
        except (ValueError, RecursionError):
            body = None
        body = body if isinstance(body, dict) else {}
        if answer.status == 200 and body:
            return body
        if answer.status == 200 and len(answer.body) >= MAX_SCHEMA_BYTES and answer.body.lstrip()[:1] == b"{":
            raise SchemaError(f"the answer to {path} has more than {Size(MAX_SCHEMA_BYTES)}")
        if answer.status == 200:
            raise RegistryUnavailable(f"the schema registry {url} answers {path} with something else than JSON")
        if answer.status == 404 and (body.get("error_code") in _UNKNOWN or path.startswith(_PATHS["guid"])):
            return None  # of GUIDs also where the registry knows no GUIDs: a record could not stop the stream with one
        if answer.status in {401, 403}:
            raise RegistryUnavailable(f"the schema registry {url} refuses us (HTTP {answer.status}): check [registry]")
        if answer.status in {400, 422} and "error_code" in body:
            raise SchemaError(f"the schema registry answers HTTP {answer.status} to {path}")
        raise RegistryUnavailable(f"the schema registry {url} answers HTTP {answer.status} to {path}")

    def _headers(self) -> dict[str, str]:
        """Secret files are read for each request, because secret stores replace them."""
        config = self._config
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if config.username is not None:
            pair = f"{config.username}:{read_secret(config.password, config.password_file) or ''}"
            REDACTION.hide(pair)
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif (token := read_secret(config.token, config.token_file)) is not None:
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _tls(config: RegistryConfig) -> ssl.SSLContext | None:
    if not any(url.startswith("https://") for url in config.urls):
        return None
    key = "registry.ssl_ca_file"
    try:
        context = ssl.create_default_context(cafile=config.ssl_ca_file)
        if config.ssl_cert_file is not None:
            key = "registry.ssl_cert_file or registry.ssl_key_file"
            # An empty password: OpenSSL would ask the terminal for a missing one.
            context.load_cert_chain(config.ssl_cert_file, config.ssl_key_file, lambda: "")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key} cannot be used: {error}", hint="give readable PEM files") from error
    return context


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False
