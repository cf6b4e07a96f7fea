"""What an error of the S3 client means to a sink: try again, or an operator must act, and how."""

import re

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from ingestd.core.errors import SinkError, SinkForbidden, SinkUnavailable
from ingestd.ops.aws_errors import (
    CERTIFICATE_HINT,
    CREDENTIAL_CODES,
    NETWORK,
    answer_message,
    http_status,
    is_of_a_file,
    said_by,
    short,
)

# Codes in the body of an answer below 500 that mean: try again.
_TRANSIENT = {
    "BadDigest", "IDPCommunicationError", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout",
    "ServiceUnavailable", "SlowDown", "TooManyRequests", "XAmzContentSHA256Mismatch", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "ConditionalRequestConflict",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 409, 425, 429}

_CREDENTIALS_HINT = (
    "give this process valid AWS credentials; new ones in a file or from a role are picked up without a restart"
)
_FILE_HINT = (
    "correct the path or the rights; AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CA_BUNDLE or AWS' configuration names the file"
)
_SETTINGS_HINT = "correct s3.endpoint_url, this process's AWS_* variables, or AWS' configuration file"
KMS_HINT = "check s3.kms_key_id, that the key is enabled, and grant kms:GenerateDataKey and kms:Decrypt on it"
_REGION_HINT = "set s3.region to the region of the bucket"
_BAD_REGION_HINT = "set s3.region, AWS_REGION or AWS_DEFAULT_REGION to the name of a region, such as eu-central-1"
_ENDPOINT_HINT = "correct s3.endpoint_url, or AWS_ENDPOINT_URL, to http(s)://host[:port]"
_ROLE_HINT = (
    "AWS_WEB_IDENTITY_TOKEN_FILE must name a file with a token, and AWS_ROLE_ARN be the ARN of a role; both are read "
    "again without a restart"
)
_AWS_CONFIG_HINT = "correct the AWS_* variable, or the profile in AWS' configuration or credentials file, that it names"
_PROXY_HINT = "correct HTTPS_PROXY or HTTP_PROXY, or name the store in NO_PROXY"
_NOT_S3_HINT = "what answers is no S3 store: correct s3.endpoint_url"
_REDIRECT_HINT = (
    "the answer is a redirect, which is not followed: set s3.region to the region of the bucket, or s3.endpoint_url to "
    "the address of the store itself"
)
_FULL_HINT = "the store is full: make room"
HINTS = {
    **dict.fromkeys(CREDENTIAL_CODES, _CREDENTIALS_HINT),
    **dict.fromkeys(("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"), _FULL_HINT),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"), _REGION_HINT
    ),
    **dict.fromkeys(("TemporaryRedirect", "Redirect", "301", "302", "303", "307", "308"), _REDIRECT_HINT),
    # The answer to a HEAD has no body, so the code is the status.
    "400": f"a HEAD gives no reason; most often {_REGION_HINT}, or {_CREDENTIALS_HINT}",
    "401": f"{_NOT_S3_HINT}, or give the proxy in front of it what it asks for",
    "403": "a HEAD of a free name needs s3:ListBucket on the bucket; wrong or expired credentials say the same",
    "404": "create the bucket, or correct sink.url or s3.endpoint_url",
    "405": _NOT_S3_HINT,
    "407": _PROXY_HINT,
    "413": "a proxy before the store refuses large bodies: raise its limit, or lower batch.bytes",
    "AccessDenied": "grant s3:PutObject and s3:GetObject on the objects and s3:ListBucket on the bucket",
    "InvalidBucketName": "correct sink.url",
    "NoSuchBucket": "create the bucket or correct sink.url",
    "NotImplemented": 'the store has no create-only PUT: set sink.delivery = "at-least-once" or use another store',
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": f"{_CREDENTIALS_HINT}; a wrong clock or a proxy that changes headers does this, too",
}
_S3_OPERATIONS = {"PutObject", "HeadObject", "GetObject", "ListObjectsV2"}
_BUCKET_OPERATIONS = {
    "GetBucketNotificationConfiguration": "grant s3:GetBucketNotification on the bucket",
    "PutBucketNotificationConfiguration": "grant s3:PutBucketNotification on the bucket; where another rule of it "
    "overlaps, let the bucket notify an SNS topic, and both queues subscribe to that",
}


def classify(error: Exception, action: str) -> SinkError | None:
    """The sink error that stands for `error`; None if it came from neither the store nor the network."""
    failed = f"cannot {action}"
    match error:
        case boto.ClientError():
            return _from_answer(error, failed)
        case boto.BotoCoreError():
            return _from_client(error, failed)
    return _from_elsewhere(error, failed)


def refused_settings(message: str, code: str) -> SinkForbidden:
    """The error for a setting of AWS on this machine that is malformed."""
    return SinkForbidden(message, code=code, hint=_SETTINGS_HINT)


def _from_elsewhere(error: Exception, failed: str) -> SinkError | None:
    """An error that is not botocore's own: a deadline, a file, or what it lets through."""
    code = type(error).__name__
    match error:
        case TimeoutError():
            return SinkUnavailable(f"{failed}: no answer before the deadline", code="Timeout")
        case OSError() if is_of_a_file(error):
            return _unreadable(error, failed)
        case ResponseParserError():
            return SinkUnavailable(f"{failed}: the answer is not S3's", code=code)
        case RuntimeError() if "refreshed credentials are still expired" in str(error):
            return SinkForbidden(
                f"{failed}: refreshed credentials are expired", code="ExpiredToken", hint=_CREDENTIALS_HINT
            )
    # aiobotocore reads the body of a refused GET outside its own mapping.
    if isinstance(error, OSError) or type(error).__module__.startswith("aiohttp"):
        return SinkUnavailable(f"{failed}: {short(str(error))}", code=code)
    return None


def _from_answer(error: boto.ClientError, failed: str) -> SinkError:
    """The store, or the service that gives credentials, has answered with an error."""
    status = http_status(error)
    details = error.response.get("Error", {})
    code = details.get("Code") or str(status)
    message = answer_message(failed, code, details.get("Message") or "")
    missing = code in {"NoSuchKey", "404"} and error.operation_name == "GetObject"  # or not yet visible
    if missing or (code not in HINTS and _is_transient(code, status)):
        return SinkUnavailable(message, code=code)
    return SinkForbidden(message, code=code, hint=_hint(code, error.operation_name))


def _is_transient(code: str, status: int) -> bool:
    return status >= 500 or status in _TRANSIENT_STATUS or code in _TRANSIENT or "Throttl" in code


def _hint(code: str, operation: str) -> str:
    if operation in _BUCKET_OPERATIONS and code not in CREDENTIAL_CODES:
        return _BUCKET_OPERATIONS[operation]
    if operation not in _S3_OPERATIONS:
        return f"{operation} was refused: {_CREDENTIALS_HINT}"
    if code.startswith("KMS."):
        return KMS_HINT
    return HINTS.get(code, "look the code up in the documentation of the store; the call is repeated meanwhile")


#: Errors of the client's set-up, which have nothing to do with credentials.
_SETUP_HINTS: tuple[tuple[tuple[type[boto.BotoCoreError], ...], str], ...] = (
    ((boto.InvalidRegionError, boto.NoRegionError), _BAD_REGION_HINT),
    ((boto.EndpointResolutionError,), _ENDPOINT_HINT),
    ((boto.InvalidProxiesConfigError,), _PROXY_HINT),
    (
        (
            boto.ConfigNotFound, boto.ConfigParseError, boto.InvalidConfigError, boto.InvalidDefaultsMode,
            boto.InvalidRetryConfigurationError, boto.InvalidS3AddressingStyleError,
            boto.InvalidSTSRegionalEndpointsConfigError, boto.ProfileNotFound,
        ),
        _AWS_CONFIG_HINT,
    ),
)  # fmt: skip


def _local_hint(cause: BaseException | None) -> str:
    """What to correct on this machine where no request was sent; "" where the network is the cause."""
    if getattr(cause, "library", None) in {"PEM", "X509"}:  # of OpenSSL
        return "AWS_CA_BUNDLE must name a file of certificates"
    return _PROXY_HINT if isinstance(cause, boto.InvalidProxiesConfigError) else ""


def _client_hint(error: boto.BotoCoreError) -> str:
    if isinstance(error, boto.ParamValidationError):
        of_a_role = re.search(r"WebIdentityToken|RoleArn|RoleSessionName", str(error))
        return _ROLE_HINT if of_a_role else "a defect of ingestd: please report it"
    return next((hint for kinds, hint in _SETUP_HINTS if isinstance(error, kinds)), _CREDENTIALS_HINT)


def _from_client(error: boto.BotoCoreError, failed: str) -> SinkError:
    """An error of the client: no answer, no usable answer, or nothing was sent."""
    code = type(error).__name__
    said = said_by(error)
    match error:
        case boto.HTTPClientError() if hint := _local_hint(error.__context__):
            return SinkForbidden(f"{failed}: {said}", code=code, hint=hint)
        case boto.SSLError():
            return SinkForbidden(f"{failed}: {said}", code=code, hint=CERTIFICATE_HINT)
        case boto.HTTPClientError() if isinstance(error.__context__, OSError) and is_of_a_file(error.__context__):
            return _unreadable(error.__context__, failed)
        case _ if isinstance(error, NETWORK):
            return SinkUnavailable(f"{failed}: {said}", code=code)
    return SinkForbidden(f"{failed}: {said}", code=code, hint=_client_hint(error))


def _unreadable(error: OSError, failed: str) -> SinkError:
    """A token, a certificate or a profile on this machine that cannot be read."""
    what = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return SinkForbidden(f"{failed}: {what}", code=type(error).__name__, hint=_FILE_HINT)
