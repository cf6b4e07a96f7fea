"""What an error of the Kinesis client means to the source, with the key and the remedy."""

import re

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from ingestd.sources.kinesis.port import (
    IteratorExpired,
    KinesisError,
    KinesisRefused,
    KinesisUnavailable,
    NumberUnknown,
)

_MESSAGE_CHARS = 300
_QUOTED = re.compile(r"((?:authorization|security-token|credential|signature)\W{0,4}[:=]|AWS4-HMAC).*", re.IGNORECASE)

_TRANSIENT = {
    "ExpiredNextTokenException", "InternalFailure", "InternalFailureException", "KMSThrottlingException",
    "LimitExceededException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestTimeout",
    "RequestTimeoutException", "ResourceInUseException", "ServiceUnavailable", "ServiceUnavailableException",
    "SlowDown", "TooManyRequestsException",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 425, 429}
_CREDENTIAL_CODES = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidIdentityToken",
    "InvalidSignatureException", "InvalidToken", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip

_CREDENTIALS_HINT = (
    "give this process valid AWS credentials, and check kinesis.region; new ones in a file or from a role are picked "
    "up without a restart"
)
_KMS_HINT = "check that the stream's KMS key is enabled, and grant kms:Decrypt on it"
_REGION_HINT = "set kinesis.region, AWS_REGION or AWS_DEFAULT_REGION to the name of a region, such as eu-central-1"
_ENDPOINT_HINT = "correct kinesis.endpoint_url to http(s)://host[:port]"
_SETTINGS_HINT = "correct kinesis.endpoint_url, this process's AWS_* variables, or AWS' configuration file"
_RIGHTS_HINT = (
    "grant kinesis:DescribeStreamSummary, kinesis:ListShards, kinesis:GetShardIterator and kinesis:GetRecords on the "
    "stream"
)
_HINTS = {
    **dict.fromkeys(_CREDENTIAL_CODES, _CREDENTIALS_HINT),
    "AccessDenied": _RIGHTS_HINT,
    "AccessDeniedException": _RIGHTS_HINT,
    "KMSOptInRequired": "activate AWS KMS for this account: the stream is encrypted with a key of it",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ResourceNotFoundException": "create the stream, or correct kinesis.stream, kinesis.region or the AWS account",
    "UnknownOperationException": "what answers is not Kinesis: correct kinesis.endpoint_url",
}


def classify(error: Exception, action: str) -> KinesisError | None:
    """The error that stands for `error`; None if it came from neither AWS nor the network."""
    failed = f"cannot {action}"
    match error:
        case boto.ClientError():
            return _from_answer(error, failed)
        case boto.BotoCoreError():
            return _from_client(error, failed)
    return _from_elsewhere(error, failed)


def _from_elsewhere(error: Exception, failed: str) -> KinesisError | None:
    """An error that is not botocore's own: a deadline, a file, or what it lets through."""
    code, said, hint = type(error).__name__, _short(str(error)), ""
    match error:
        case TimeoutError():
            said = "no answer before the deadline"
        case ResponseParserError():
            said = "the answer is not that of Kinesis"
        case OSError() if error.filename is not None or isinstance(error, FileNotFoundError | PermissionError):
            said, hint = f"{error.strerror}: {error.filename}", "correct the path, or the rights to the file"
        case RuntimeError() if "refreshed credentials are still expired" in said:
            said, hint = "refreshed credentials are expired", _CREDENTIALS_HINT
        case _ if not isinstance(error, OSError) and not type(error).__module__.startswith("aiohttp"):
            return None
    return (KinesisRefused if hint else KinesisUnavailable)(f"{failed}: {said}", code=code, hint=hint)


def unusable_settings(error: Exception, action: str) -> KinesisError:
    """The error for what a new client raises that is not botocore's own: a setting of AWS on this machine."""
    said = f"AWS' settings cannot be used: {type(error).__name__}: {_short(str(error))}"
    return KinesisRefused(f"cannot {action}: {said}", code=type(error).__name__, hint=_SETTINGS_HINT)


def _from_answer(error: boto.ClientError, failed: str) -> KinesisError:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    details = error.response.get("Error", {})
    code = details.get("Code") or str(status)
    said = "" if code in _CREDENTIAL_CODES else _short(details.get("Message") or "")
    message = f"{failed}: {code}: {said}" if said else f"{failed}: {code}"
    operation = error.operation_name
    if code == "ExpiredIteratorException" or (code == "InvalidArgumentException" and operation == "GetRecords"):
        return IteratorExpired(message, code=code)
    if code == "InvalidArgumentException" and operation == "GetShardIterator":
        # A time that AWS' clock has not reached yet comes to be right.
        return (KinesisUnavailable if "imestamp" in said else NumberUnknown)(message, code=code)
    if code in _TRANSIENT or "Throttl" in code or status >= 500 or status in _TRANSIENT_STATUS:
        return KinesisUnavailable(message, code=code)
    return KinesisRefused(message, code=code, hint=_hint(code, operation))


def _hint(code: str, operation: str) -> str:
    if code in _HINTS:
        return _HINTS[code]
    if code.startswith("KMS"):
        return _KMS_HINT
    if operation.startswith(("AssumeRole", "GetRoleCredentials", "GetCallerIdentity")):
        return f"{operation} was refused: {_CREDENTIALS_HINT}"
    return "look the code up in the documentation of Kinesis; the call is repeated meanwhile"


_SETUP_HINTS: tuple[tuple[tuple[type[boto.BotoCoreError], ...], str], ...] = (
    ((boto.SSLError,), "make the certificate trusted (AWS_CA_BUNDLE names a file of authorities)"),
    ((boto.CredentialRetrievalError, boto.NoCredentialsError, boto.PartialCredentialsError), _CREDENTIALS_HINT),
    ((boto.NoRegionError, boto.InvalidRegionError), _REGION_HINT),
    ((boto.EndpointResolutionError,), _ENDPOINT_HINT),
)
_NETWORK = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.ChecksumError)


def _from_client(error: boto.BotoCoreError, failed: str) -> KinesisError:
    """An error of the client: no answer, no usable answer, or nothing was sent."""
    code, said = type(error).__name__, _short(str(error))
    if isinstance(error, boto.CredentialRetrievalError):
        said = f"no credentials from {error.kwargs.get('provider')}"  # its text can be what a process printed
    elif isinstance(error, _NETWORK) and not isinstance(error, boto.SSLError):
        return KinesisUnavailable(f"{failed}: {said}", code=code)
    hint = next((hint for kinds, hint in _SETUP_HINTS if isinstance(error, kinds)), _SETTINGS_HINT)
    return KinesisRefused(f"{failed}: {said}", code=code, hint=hint)


def _short(text: str) -> str:
    """The text as one line, cut where it quotes what a request was signed with."""
    line = _QUOTED.sub(r"\1<redacted>", " ".join(text.split()))
    return line if len(line) <= _MESSAGE_CHARS else f"{line[:_MESSAGE_CHARS]}…"
