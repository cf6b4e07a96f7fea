"""What the errors of all AWS services have in common, and how their texts are quoted without secrets."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from botocore import exceptions as boto

_MESSAGE_CHARS = 300  # of a service's message are passed on
_SIGNED = re.compile(r"((?:authorization|security-token|credential|signature)\W{0,4}[:=]|AWS4-HMAC).*", re.IGNORECASE)

#: Codes of answers about credentials. Their texts may quote the credentials, or what was signed.
CREDENTIAL_CODES = frozenset({
    "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId",
    "InvalidIdentityToken", "InvalidSignatureException", "InvalidToken", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "SignatureDoesNotMatch", "TokenRefreshRequired",
    "UnrecognizedClientException",
})  # fmt: skip
#: What a client raises where the network failed, or an answer was cut; also ``boto.SSLError``, which does not pass.
NETWORK = (
    boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.ChecksumError,
    boto.FlexibleChecksumError,
)  # fmt: skip
CERTIFICATE_HINT = "make the certificate trusted (AWS_CA_BUNDLE names a file of authorities)"


def short(text: str) -> str:
    """The text as one line, cut where it quotes what a request was signed with."""
    line = _SIGNED.sub(r"\1<redacted>", " ".join(text.split()))
    return line if len(line) <= _MESSAGE_CHARS else f"{line[:_MESSAGE_CHARS]}…"


def answer_message(failed: str, code: str, text: str) -> str:
    """An answer that is an error, in words; without those of the service where they may quote credentials."""
    said = "" if code in CREDENTIAL_CODES else short(text)
    return f"{failed}: {code}: {said}" if said else f"{failed}: {code}"


def said_by(error: Exception) -> str:
    """The text of an error of botocore's or the system's, without what a credential process printed."""
    if isinstance(error, boto.CredentialRetrievalError):
        return f"no credentials from {error.kwargs.get('provider')}"
    return short(str(error))


def is_of_a_file(error: OSError) -> bool:
    """Whether a file on this machine failed, not the network."""
    return isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "filename", None) is not None


def http_status(error: boto.ClientError) -> int:
    """The status of an answer; 0 where there is none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextmanager
def readable_settings(
    action: str, classify: Callable[[Exception, str], Exception | None], refuse: Callable[[str, str], Exception]
) -> Iterator[None]:
    """Map what a new client raises that is not an error of botocore: a setting of AWS on this machine is malformed.

    `classify` knows all other errors; `refuse` makes the error of a message and a code.
    """
    try:
        yield
    except Exception as error:
        if classify(error, action) is not None:
            raise
        code = type(error).__name__
        raise refuse(f"cannot {action}: AWS' settings cannot be used: {code}: {short(str(error))}", code) from None
