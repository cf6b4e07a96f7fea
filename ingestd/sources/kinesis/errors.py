"""What an error of the Kinesis client means to the source, with the key and the remedy."""

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

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
from ingestd.sources.kinesis.port import (
    IteratorExpired,
    KinesisError,
    KinesisRefused,
    KinesisUnavailable,
    NumberUnknown,
)

_TRANSIENT = {
    "ExpiredNextTokenException", "InternalFailure", "InternalFailureException",
    "LimitExceededException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestTimeout",
    "RequestTimeoutException", "ResourceInUseException", "ServiceUnavailable", "ServiceUnavailableException",
    "SlowDown", "TooManyRequestsException",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 425, 429}

_CREDENTIALS_HINT = (
    "give this process valid AWS credentials, and check kinesis.region; new ones in a file or from a role are picked "
    "up without a restart"
)
_KMS_HINT = "check that the stream's KMS key is enabled, and grant kms:Decrypt on it"
_REGION_HINT = "set kinesis.region, AWS_REGION or AWS_DEFAULT_REGION to the name of a region, such as eu-central-1"
_ENDPOINT_HINT = "correct kinesis.endpoint_url to http(s)://host[:port]"
_SETTINGS_HINT = "correct kinesis.endpoint_url, this process's AWS_* variables, or AWS' configuration file"
RIGHTS_HINT = (
    "grant kinesis:DescribeStreamSummary, kinesis:ListShards, kinesis:GetShardIterator and kinesis:GetRecords on the "
    "stream"
)
_HINTS = {
    **dict.fromkeys(CREDENTIAL_CODES, _CREDENTIALS_HINT),
    "AccessDenied": RIGHTS_HINT,
    "AccessDeniedException": RIGHTS_HINT,
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
    code, said, hint = type(error).__name__, short(str(error)), ""
    match error:
        case TimeoutError():
            said = "no answer before the deadline"
        case ResponseParserError():
            said = "the answer is not that of Kinesis"
        case OSError() if is_of_a_file(error):
            said, hint = f"{error.strerror}: {error.filename}", "correct the path, or the rights to the file"
        case RuntimeError() if "refreshed credentials are still expired" in said:
            said, hint = "refreshed credentials are expired", _CREDENTIALS_HINT
        case _ if not isinstance(error, OSError) and not type(error).__module__.startswith("aiohttp"):
            return None
    return (KinesisRefused if hint else KinesisUnavailable)(f"{failed}: {said}", code=code, hint=hint)


def refused_settings(message: str, code: str) -> KinesisRefused:
    """The error for a setting of AWS on this machine that is malformed."""
    return KinesisRefused(message, code=code, hint=_SETTINGS_HINT)


def _from_answer(error: boto.ClientError, failed: str) -> KinesisError:
    status = http_status(error)
    details = error.response.get("Error", {})
    code = details.get("Code") or str(status)
    text = details.get("Message") or ""
    message = answer_message(failed, code, text)
    operation = error.operation_name
    if code == "ExpiredIteratorException" or (code == "InvalidArgumentException" and operation == "GetRecords"):
        return IteratorExpired(message, code=code)
    if code == "InvalidArgumentException" and operation == "GetShardIterator":
        # A time that AWS' clock has not reached yet comes to be right.
        return (KinesisUnavailable if "imestamp" in text else NumberUnknown)(message, code=code)
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
    ((boto.SSLError,), CERTIFICATE_HINT),
    ((boto.CredentialRetrievalError, boto.NoCredentialsError, boto.PartialCredentialsError), _CREDENTIALS_HINT),
    ((boto.NoRegionError, boto.InvalidRegionError), _REGION_HINT),
    ((boto.EndpointResolutionError,), _ENDPOINT_HINT),
)


def _from_client(error: boto.BotoCoreError, failed: str) -> KinesisError:
    """An error of the client: no answer, no usable answer, or nothing was sent."""
    code, said = type(error).__name__, said_by(error)
    if isinstance(error, NETWORK) and not isinstance(error, boto.SSLError):
        return KinesisUnavailable(f"{failed}: {said}", code=code)
    hint = next((hint for kinds, hint in _SETUP_HINTS if isinstance(error, kinds)), _SETTINGS_HINT)
    return KinesisRefused(f"{failed}: {said}", code=code, hint=hint)
