"""What the failure of a request to SQS means: try again, or an operator must act, and how."""

from collections.abc import Mapping

from botocore import exceptions as boto

from ingestd.core.errors import SourceError
from ingestd.ops.aws_errors import CERTIFICATE_HINT, CREDENTIAL_CODES, NETWORK, answer_message, is_of_a_file, said_by
from ingestd.ops.aws_json import AnswerTooLarge, JsonAnswer
from ingestd.sources.sqs import answers

_TRANSIENT = {
    "InternalError", "InternalFailure", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "TooManyRequestsException", "RequestLimitExceeded",
}  # fmt: skip
_TRANSIENT_STATUS = {408, 425, 429}
OVER_LIMIT = "OverLimit"
NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue", "AWS.SimpleQueueService.NonExistentQueue"})

CREDENTIALS_HINT = (
    "give this process valid AWS credentials; new ones in a file or from a role are picked up without a restart"
)
_CLOCK_HINT = "set this machine's clock"
_QUEUE_HINT = (
    "create the queue, or correct sqs.queue_url, sqs.region or the AWS account; without rights on it AWS may say the "
    "same"
)
RIGHTS_HINT = (
    "grant sqs:GetQueueAttributes, sqs:ReceiveMessage, sqs:ChangeMessageVisibility and sqs:DeleteMessage on the queue "
    "(deploy/iam/sqs-policy.json)"
)
_SEND_HINT = "grant sqs:SendMessage and sqs:GetQueueAttributes on the queue"
KMS_HINT = (
    "check that the queue's KMS key exists and is enabled, and grant kms:Decrypt on it (kms:GenerateDataKey, too, to "
    "send)"
)
_REGION_HINT = "set sqs.region, AWS_REGION or AWS_DEFAULT_REGION to the region of the queue, such as eu-central-1"
_OVER_LIMIT_HINT = (
    "SQS has handed out as many messages as it does (120,000) that are not deleted yet: the sink is slow, "
    "batch.interval is long, or another consumer holds them"
)
_NOT_SQS_HINT = "what answers is not SQS: correct sqs.queue_url or sqs.endpoint_url"
_SETTINGS_HINT = "correct sqs.endpoint_url, this process's AWS_* variables, or AWS' configuration file"
_HINTS: Mapping[str, str] = {
    **dict.fromkeys(CREDENTIAL_CODES, CREDENTIALS_HINT),
    **dict.fromkeys(NO_QUEUE, _QUEUE_HINT),
    "InvalidAddress": _QUEUE_HINT,
    "InvalidSecurity": "give sqs.queue_url, or sqs.endpoint_url, with https",
    "RequestExpired": _CLOCK_HINT,
    "RequestTimeTooSkewed": _CLOCK_HINT,
    "UnknownOperationException": _NOT_SQS_HINT,
    "UnsupportedOperation": _NOT_SQS_HINT,
}


class SqsError(SourceError):
    """A request failed. `transient`: it may pass by itself; else an operator must act, and it is repeated meanwhile."""

    def __init__(self, message: str, *, code: str, transient: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.transient = transient


def from_answer(answer: JsonAnswer, action: str) -> SqsError:
    """The error for an answer that is not a success."""
    code, said = answers.error(answer.body, answer.headers)
    if not code:
        if answer.status in _TRANSIENT_STATUS or answer.status >= 500:
            return _transient(f"cannot {action}: status {answer.status}", str(answer.status))
        return _refused(f"cannot {action}: status {answer.status}, and no error of SQS", "NotSqs", _NOT_SQS_HINT)
    message = answer_message(f"cannot {action}", code, said)
    if code == OVER_LIMIT:
        return SqsError(message, code=code, transient=True, hint=_OVER_LIMIT_HINT)
    if code in _TRANSIENT or "Throttl" in code or answer.status >= 500 or answer.status in _TRANSIENT_STATUS:
        return _transient(message, code)
    return _refused(message, code, _hint(code, said, action))


def _hint(code: str, said: str, action: str) -> str:
    if quotes_a_skewed_clock(code, said):
        return _CLOCK_HINT
    if "scoped to a valid region" in said:
        return _REGION_HINT
    if code.lower().startswith("kms"):
        return KMS_HINT
    if "AccessDenied" in code:
        if "kms:" in said:
            return KMS_HINT
        return _SEND_HINT if action.startswith("send") else RIGHTS_HINT
    return _HINTS.get(code, "look the code up in the documentation of SQS; the request is repeated meanwhile")


def quotes_a_skewed_clock(code: str, said: str) -> bool:
    """Whether AWS refuses a signature for its time."""
    return code in CREDENTIAL_CODES and ("Signature expired" in said or "Signature not yet current" in said)


_SETUP_HINTS: tuple[tuple[tuple[type[boto.BotoCoreError], ...], str], ...] = (
    ((boto.SSLError,), CERTIFICATE_HINT),
    ((boto.CredentialRetrievalError, boto.NoCredentialsError, boto.PartialCredentialsError), CREDENTIALS_HINT),
    ((boto.NoRegionError, boto.InvalidRegionError), _REGION_HINT),
    ((boto.InvalidProxiesConfigError, boto.ProxyConnectionError), "correct HTTPS_PROXY or HTTP_PROXY, or set NO_PROXY"),
)


def from_exception(error: Exception, action: str) -> SqsError | None:
    """The error for what was raised instead of an answer; None if it came from neither AWS nor the network."""
    code, said, hint = type(error).__name__, said_by(error), ""
    match error:
        case TimeoutError():
            said = "no answer before the deadline"
        case answers.NotAnAnswer() | AnswerTooLarge():
            said, hint = f"the answer is not that of SQS: {said}", _NOT_SQS_HINT
        case boto.ClientError():  # of a service that gives credentials
            code = str(error.response.get("Error", {}).get("Code", "")) or code
            said, hint = f"{error.operation_name} was refused: {code}", CREDENTIALS_HINT
        case boto.BotoCoreError():
            hint = _setup_hint(error)
        case OSError() if is_of_a_file(error):
            said, hint = f"{error.strerror}: {error.filename}", "correct the path, or the rights to the file"
        case RuntimeError() if "refreshed credentials are still expired" in said:
            said, hint = "refreshed credentials are expired", CREDENTIALS_HINT
        case _ if not isinstance(error, OSError) and not type(error).__module__.startswith("aiohttp"):
            return None
    message = f"cannot {action}: {said or code}"
    return _refused(message, code, hint) if hint else _transient(message, code)


def _setup_hint(error: boto.BotoCoreError) -> str:
    """What to do where nothing was sent; empty where the network is the cause."""
    hint = next((hint for kinds, hint in _SETUP_HINTS if isinstance(error, kinds)), "")
    return hint or ("" if isinstance(error, NETWORK) else _SETTINGS_HINT)


def _transient(message: str, code: str) -> SqsError:
    return SqsError(message, code=code, transient=True)


def _refused(message: str, code: str, hint: str) -> SqsError:
    return SqsError(message, code=code, transient=False, hint=hint)
