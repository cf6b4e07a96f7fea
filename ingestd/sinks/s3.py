"""S3, or a store that speaks it, as a sink: one PUT per object, refused by the store where the name is taken.

The only file that imports aiobotocore and botocore; what they raise is mapped here.
"""

import asyncio
import base64
import re
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, cast

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from ingestd.config.model import S3Config
from ingestd.core.errors import ConfigError, SinkError, SinkForbidden, SinkUnavailable
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.sinks.names import check_folder, check_key, check_metadata

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import (
        GetObjectRequestTypeDef,
        ListObjectsV2OutputTypeDef,
        ListObjectsV2RequestTypeDef,
        PutObjectRequestTypeDef,
    )

_URL = re.compile(r"s3://(?P<bucket>[A-Za-z0-9._-]{1,255})(?:/(?P<prefix>.*?))?/*", re.DOTALL)
_ATTEMPTS = 3  # of one call, inside botocore; the caller's own retries have no end
_MESSAGE = 300  # characters of the store's own words that are passed on
_QUOTED = re.compile(r"((?:authorization|security-token|credential|signature)\W{0,4}[:=]|AWS4-HMAC).*", re.IGNORECASE)

# Of an answer below 500, by the code in its body.
_TRANSIENT = {
    "BadDigest", "IDPCommunicationError", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout",
    "ServiceUnavailable", "SlowDown", "TooManyRequests", "XAmzContentSHA256Mismatch", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "ConditionalRequestConflict",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 409, 425, 429}

_CREDENTIALS = (
    "give this process valid AWS credentials; new ones in a file or from a role are picked up without a restart"
)
_FILE = (
    "correct the path or the rights; AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CA_BUNDLE or AWS' configuration names the file"
)
_KMS = "check s3.kms_key_id, that the key is enabled, and grant kms:GenerateDataKey and kms:Decrypt on it"
_REGION = "set s3.region to the region of the bucket"
_STORE_FULL = "the store is full: make room"
_CREDENTIAL_CODES = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "InvalidClientTokenId",
    "InvalidIdentityToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "UnrecognizedClientException",
}  # fmt: skip
_HINTS = {
    **dict.fromkeys(_CREDENTIAL_CODES, _CREDENTIALS),
    **dict.fromkeys(("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"), _STORE_FULL),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"), _REGION
    ),
    # The answer to a HEAD has no body, so the code is the status.
    "400": f"a HEAD gives no reason; most often {_REGION}, or {_CREDENTIALS}",
    "403": "a HEAD of a free name needs s3:ListBucket on the bucket; wrong or expired credentials say the same",
    "AccessDenied": "grant s3:PutObject and s3:GetObject on the objects and s3:ListBucket on the bucket",
    "InvalidBucketName": "correct sink.url",
    "NoSuchBucket": "create the bucket or correct sink.url",
    "NotImplemented": 'the store has no create-only PUT: set sink.delivery = "at-least-once" or use another store',
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": f"{_CREDENTIALS}; a wrong clock or a proxy that changes headers does this, too",
}
_S3_OPERATIONS = {"PutObject", "HeadObject", "GetObject", "ListObjectsV2"}
_BUCKET_OPERATIONS = {
    "GetBucketNotificationConfiguration": "grant s3:GetBucketNotification on the bucket",
    "PutBucketNotificationConfiguration": "grant s3:PutBucketNotification on the bucket; where another rule of it "
    "overlaps, let the bucket notify an SNS topic, and both queues subscribe to that",
}


class _Connection:
    """One client, and how many calls are using it. A retired one is closed by the last of them."""

    def __init__(self, client: "S3Client", stack: AsyncExitStack) -> None:
        self.client = client
        self.stack = stack
        self.users = 0
        self.retired = False


class S3Sink:
    """Objects below ``s3://bucket/prefix``, by one long-lived client with at most `connections` connections.

    ConfigError: a `url` that is none, or settings that contradict each other. With `conditional=False` every PUT is
    unconditional and CREATED: for stores that ignore the condition, where each attempt has a name of its own.
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
        self._current: _Connection | None = None
        self._opening = asyncio.Lock()
        self._loader: object = None

    @property
    def bucket(self) -> str:
        return self._bucket

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    async def start(self) -> None:
        """Make the client. Nothing is sent to the store yet; credentials may be fetched."""
        async with self.call("connect"):
            pass

    async def close(self) -> None:
        if self._current is not None:
            connection, self._current = self._current, None
            await connection.stack.aclose()

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        full = self._full(key)
        check_metadata(metadata)
        # A given checksum keeps botocore from a chunked upload with an unsigned payload, its way over https.
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
        if self._conditional:
            request["IfNoneMatch"] = "*"
        async with self.call(f"write {self._name(full)}") as client:
            try:
                answer = await client.put_object(**request)
            except boto.ClientError as error:
                if self._conditional and _status(error) == 412:
                    return Stored.EXISTS
                raise
        # Whatever answers 200 to anything is no store: a login page, a health check, a wrong port.
        if "ETag" not in answer:
            raise SinkUnavailable(f"cannot write {self._name(full)}: the answer is not S3's", code="NoETag")
        return Stored.CREATED

    async def head(self, key: str) -> ObjectInfo | None:
        full = self._full(key)
        async with self.call(f"look at {self._name(full)}") as client:
            try:
                found = await client.head_object(Bucket=self._bucket, Key=full)
            except boto.ClientError as error:
                if error.operation_name == "HeadObject" and _status(error) == 404:
                    return None
                raise
        # Servers and middlemen may change the case of header names.
        metadata = {name.lower(): text for name, text in found["Metadata"].items()}
        modified = cast("datetime | None", found.get("LastModified"))  # the types promise what a store may leave out
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

    async def _pages(self, prefix: str, delimiter: str) -> "AsyncIterator[ListObjectsV2OutputTypeDef]":
        """Each page is a call of its own, so that no deadline and no client waits for who reads the keys."""
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

    @asynccontextmanager
    async def call(self, action: str) -> "AsyncIterator[S3Client]":
        """A client for one call, its deadline, and its errors as a sink's."""
        connection: _Connection | None = None
        try:
            with _mapped(action):
                async with asyncio.timeout(self._settings.put_timeout):
                    connection = await self._connect()
                    connection.users += 1
                    yield connection.client
        except SinkForbidden:
            # A client keeps the credentials it began with, even if it found none. The next one looks for them afresh.
            if connection is not None and connection is self._current:
                connection.retired, self._current = True, None
            raise
        finally:
            if connection is not None:
                connection.users -= 1
                if connection.retired and not connection.users:
                    await connection.stack.aclose()

    async def _connect(self) -> _Connection:
        async with self._opening:
            if self._current is None:
                self._current = await self._open()
            return self._current

    async def _open(self) -> _Connection:
        settings = self._settings
        session = AioSession()
        # Reading the service's description is most of what a client costs, and it never changes.
        if self._loader is not None:
            session.register_component("data_loader", self._loader)
        self._loader = session.get_component("data_loader")
        options = AioConfig(
            warm_up_loader_caches=True,  # in a thread, not on the event loop
            max_pool_connections=self._connections,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            s3={"addressing_style": settings.addressing},
            request_checksum_calculation="when_required",
        )
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                session.create_client(
                    "s3", region_name=settings.region, endpoint_url=settings.endpoint_url, config=options
                )
            )
            return _Connection(client, stack.pop_all())


def _parse(url: str) -> tuple[str, str]:
    """The bucket, and what every key begins with: "" or ending with "/"."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigError(f"sink.url {url!r} is not an S3 location", hint="expected s3://bucket or s3://bucket/prefix")
    prefix = f"{match['prefix']}/" if match["prefix"] else ""
    try:
        check_folder(prefix)
    except ValueError as error:
        raise ConfigError(f"sink.url {url!r}: {error}") from error
    return match["bucket"], prefix


def _status(error: boto.ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextmanager
def _mapped(action: str) -> Iterator[None]:
    """Whatever the client raises as one of a sink's two errors."""
    try:
        yield
    except Exception as error:
        mapped = classify(error, action)
        if mapped is None:
            raise
        # Without its cause, whose text may be what a credential process printed.
        raise mapped from None


def classify(error: Exception, action: str) -> SinkError | None:
    """What `error` means to a sink, or None where no store and no network said it."""
    failed = f"cannot {action}"
    match error:
        case boto.ClientError():
            return _answered(error, failed)
        case boto.BotoCoreError():
            return _not_answered(error, failed)
    return _neither(error, failed)


def _neither(error: Exception, failed: str) -> SinkError | None:
    """No error of botocore's own: a deadline, a file, or what it lets through."""
    code = type(error).__name__
    match error:
        case TimeoutError():
            return SinkUnavailable(f"{failed}: no answer before the deadline", code="Timeout")
        case FileNotFoundError() | PermissionError():
            return _unreadable(error, failed)
        case ResponseParserError():
            return SinkUnavailable(f"{failed}: the answer is not S3's", code=code)
        case RuntimeError() if "refreshed credentials are still expired" in str(error):
            return SinkForbidden(f"{failed}: refreshed credentials are expired", code="ExpiredToken", hint=_CREDENTIALS)
    # aiobotocore reads the body of a refused GET outside its own mapping.
    if isinstance(error, OSError) or type(error).__module__.startswith("aiohttp"):
        return SinkUnavailable(f"{failed}: {_short(str(error))}", code=code)
    return None


def _answered(error: boto.ClientError, failed: str) -> SinkError:
    """The store, or the service that gives credentials, has answered with an error."""
    status = _status(error)
    details = error.response.get("Error", {})
    code = details.get("Code") or str(status)
    said = "" if code in _CREDENTIAL_CODES else _short(details.get("Message") or "")  # they may quote the credentials
    message = f"{failed}: {code}: {said}" if said else f"{failed}: {code}"
    if code not in _HINTS and _passes(code, status, error.operation_name):
        return SinkUnavailable(message, code=code)
    return SinkForbidden(message, code=code, hint=_hint(code, error.operation_name))


def _passes(code: str, status: int, operation: str) -> bool:
    missing = code in {"NoSuchKey", "404"} and operation == "GetObject"
    return status >= 500 or status in _TRANSIENT_STATUS or code in _TRANSIENT or "Throttl" in code or missing


def _hint(code: str, operation: str) -> str:
    if operation in _BUCKET_OPERATIONS and code not in _CREDENTIAL_CODES:
        return _BUCKET_OPERATIONS[operation]
    if operation not in _S3_OPERATIONS:
        return f"{operation} was refused: {_CREDENTIALS}"
    if code.startswith("KMS."):
        return _KMS
    return _HINTS.get(code, "held and tried again; look the code up in the documentation of the store")


def _not_answered(error: boto.BotoCoreError, failed: str) -> SinkError:
    """There is no answer, or none that can be used, or nothing was sent."""
    code = type(error).__name__
    said = _short(str(error))
    match error:
        case boto.SSLError():
            hint = "make the certificate trusted (AWS_CA_BUNDLE names a file of authorities)"
            return SinkForbidden(f"{failed}: {said}", code=code, hint=hint)
        case boto.HTTPClientError() if isinstance(error.__context__, FileNotFoundError | PermissionError):
            return _unreadable(error.__context__, failed)
        case (
            boto.HTTPClientError()
            | boto.ConnectionError()
            | boto.IncompleteReadError()
            | boto.ChecksumError()
            | boto.FlexibleChecksumError()
        ):
            return SinkUnavailable(f"{failed}: {said}", code=code)
        case boto.CredentialRetrievalError():
            # Its text can be what a credential process printed.
            provider = error.kwargs.get("provider")
            return SinkForbidden(f"{failed}: no credentials from {provider}", code=code, hint=_CREDENTIALS)
        case boto.ParamValidationError():
            return SinkForbidden(f"{failed}: {said}", code=code, hint="a defect of this program: please report it")
    return SinkForbidden(f"{failed}: {said}", code=code, hint=_CREDENTIALS)


def _unreadable(error: OSError, failed: str) -> SinkError:
    """A token, a certificate or a profile on this machine; the network raises other errors."""
    what = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return SinkForbidden(f"{failed}: {what}", code=type(error).__name__, hint=_FILE)


def _short(text: str) -> str:
    """One line of it, up to where it quotes what a request was signed with."""
    line = _QUOTED.sub(r"\1<redacted>", " ".join(text.split()))
    return line if len(line) <= _MESSAGE else f"{line[:_MESSAGE]}…"
