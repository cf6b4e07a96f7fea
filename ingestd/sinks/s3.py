"""Stores objects in S3 or a compatible store: one PUT per object, which the store refuses if the key is taken."""

import asyncio
import base64
import re
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, cast

from aiobotocore.config import AioConfig
from botocore import exceptions as boto

from ingestd.config.model import S3Config
from ingestd.core.errors import ConfigError, SinkForbidden, SinkUnavailable
from ingestd.core.sink_url import parse_sink_url
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.ops.aws_client import AwsClient
from ingestd.ops.aws_errors import http_status, readable_settings
from ingestd.ops.aws_session import AwsSession
from ingestd.sinks.names import check_folder, check_key, check_metadata
from ingestd.sinks.s3_errors import classify, refused_settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import (
        GetObjectRequestTypeDef,
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestTypeDef,
        PutObjectRequestTypeDef,
    )

_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_TAKEN_STATUS = {304, 412}  # some stores answer a PUT with If-None-Match as if it were a GET
_ATTEMPTS = 3  # of one call, inside botocore; the SinkRetrier repeats the call for ever


class S3Sink:
    """Objects below ``s3://bucket/prefix``; one long-lived client with at most `connections` connections.

    ConfigError: `url` is not an S3 location, or settings contradict each other. With `conditional=False` every PUT is
    unconditional and CREATED: for stores that ignore the condition, where each attempt has a key of its own.
    """

    def __init__(self, url: str, settings: S3Config, *, connections: int, conditional: bool = True) -> None:
        self._bucket, self._root = _parse(url)
        if settings.kms_key_id is not None and settings.encryption != "aws:kms":
            raise ConfigError(
                f"s3.kms_key_id is set, but s3.encryption is {settings.encryption!r}",
                hint='set s3.encryption = "aws:kms"',
            )
        self._settings = settings
        self._connections = connections
        self._conditional = conditional
        self._client = AwsClient(self._open, SinkForbidden)

    @property
    def bucket(self) -> str:
        return self._bucket

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    async def start(self) -> None:
        """Make the client. Nothing is sent to the store yet, but credentials may be fetched."""
        async with self.call("connect"):
            pass

    async def close(self) -> None:
        await self._client.close()

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        return await self._put(key, body, metadata, conditional=self._conditional)

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        await self._put(key, body, metadata, conditional=False)

    async def _put(self, key: str, body: bytes, metadata: Mapping[str, str], *, conditional: bool) -> Stored:
        full = self._full(key)
        check_metadata(metadata)
        # With a checksum given, botocore does not send a chunked upload with an unsigned payload over https.
        crc = await asyncio.to_thread(zlib.crc32, body)
        request: PutObjectRequestTypeDef = {
            "Bucket": self._bucket,
            "Key": full,
            "Body": body,
            "ContentType": "application/gzip",
            "ChecksumCRC32": base64.b64encode(crc.to_bytes(4, "big")).decode(),
            "Metadata": metadata,
        }
        if self._settings.encryption != "none":
            request["ServerSideEncryption"] = self._settings.encryption
        if self._settings.kms_key_id is not None:
            request["SSEKMSKeyId"] = self._settings.kms_key_id
        if conditional:
            request["IfNoneMatch"] = "*"
        async with self.call(f"write {self._name(full)}") as client:
            try:
                answer = await client.put_object(**request)
            except boto.ClientError as error:
                if conditional and http_status(error) in _TAKEN_STATUS:
                    return Stored.EXISTS
                raise
        # Something that answers 200 to everything is not a store: a login page, a health check, a wrong port.
        if "ETag" not in answer:
            raise SinkUnavailable(f"cannot write {self._name(full)}: the answer is not S3's", code="NoETag")
        return Stored.CREATED

    async def head(self, key: str) -> ObjectInfo | None:
        full = self._full(key)
        async with self.call(f"look at {self._name(full)}") as client:
            try:
                found = await client.head_object(Bucket=self._bucket, Key=full)
            except boto.ClientError as error:
                if error.operation_name == "HeadObject" and http_status(error) == 404:
                    return None
                raise
        # Servers and proxies may change the case of header names.
        metadata = {name.lower(): text for name, text in found["Metadata"].items()}
        modified = cast("datetime | None", found.get("LastModified"))  # typed as present, but a store may leave it out
        return ObjectInfo(key, found["ContentLength"], metadata, modified.timestamp() if modified else None)

    async def get(self, key: str, limit: int | None = None) -> bytes:
        full = self._full(key)
        async with self.call(f"read {self._name(full)}") as client:
            request: GetObjectRequestTypeDef = {"Bucket": self._bucket, "Key": full}
            if limit is not None:
                request["Range"] = f"bytes=0-{limit - 1}"
            found = await client.get_object(**request)
            async with found["Body"] as stream:
                return await stream.read()

    async def folders(self, prefix: str) -> list[str]:
        check_folder(prefix)
        found = []
        async for page in self._pages(prefix, "/"):
            found += [below["Prefix"].removeprefix(self._root) for below in page.get("CommonPrefixes", [])]
        return found

    async def list(self, prefix: str) -> AsyncIterator[str]:
        async for page in self._pages(prefix, ""):
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self._root)

    async def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        async for page in self._pages(prefix, ""):
            for entry in page.get("Contents", []):
                yield entry["Key"].removeprefix(self._root), entry["ETag"]

    async def _pages(self, prefix: str, delimiter: str) -> "AsyncIterator[ListObjectsV2OutputTypeDef]":
        """The pages of a listing. Each is a call of its own: no deadline runs while the caller reads the keys."""
        full = self._root + prefix
        request: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": full}
        if delimiter:
            request["Delimiter"] = delimiter
        while True:
            async with self.call(f"list {self._name(full)}") as client:
                page = await client.list_objects_v2(**request)
            if "IsTruncated" not in page:
                raise SinkUnavailable(f"cannot list {self._name(full)}: the answer is not S3's", code="NoListing")
            yield page
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _full(self, key: str) -> str:
        full = self._root + key
        check_key(full)
        return full

    def _name(self, full: str) -> str:
        return f"s3://{self._bucket}/{full}"

    def call(self, action: str) -> "AbstractAsyncContextManager[S3Client]":
        """Give a client for one call, with a deadline, and turn its errors into a sink's."""
        timeout_s, settings = self._settings.put_timeout, readable_settings(action, classify, refused_settings)
        return self._client.lend(timeout_s, errors=_mapped(action), settings=settings)

    def _open(self, session: AwsSession) -> "AbstractAsyncContextManager[S3Client]":
        settings = self._settings
        options = AioConfig(
            warm_up_loader_caches=True,  # in a thread, not on the event loop
            max_pool_connections=self._connections,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            s3={"addressing_style": settings.addressing},
            request_checksum_calculation="when_required",
        )
        return session.create_client(
            "s3", region_name=settings.region, endpoint_url=settings.endpoint_url, config=options
        )


def _parse(url: str) -> tuple[str, str]:
    """The bucket, and what every key begins with: "" or ending with "/"."""
    parsed = parse_sink_url(url)
    if parsed.kind != "s3" or not _BUCKET.fullmatch(parsed.bucket):
        raise ConfigError(f"sink.url {url!r} is not an S3 location", hint="expected s3://bucket or s3://bucket/prefix")
    try:
        check_folder(parsed.prefix)
    except ValueError as error:
        raise ConfigError(f"sink.url {url!r}: {error}") from error
    return parsed.bucket, parsed.prefix


@contextmanager
def _mapped(action: str) -> Iterator[None]:
    """Turn what the client raises into one of a sink's two errors."""
    try:
        yield
    except Exception as error:
        mapped = classify(error, action)
        if mapped is None:
            raise
        # Without its cause: its text may be what a credential process printed.
        raise mapped from None
