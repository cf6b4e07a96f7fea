"""Sorts the errors of Kafka's requests into those that may pass and those that an operator must fix."""

import logging
import ssl
from collections.abc import Mapping

from aiokafka import errors as kafka_errors

from ingestd.core.errors import SourceError

# What a request can fail with; aiokafka raises NotImplementedError for a broker that does not know the request.
FAILURES = (OSError, TimeoutError, kafka_errors.KafkaError, NotImplementedError)
_CREDENTIALS = (
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
_RIGHTS = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
)
_GRANTS: Mapping[type[BaseException], str] = {
    kafka_errors.TopicAuthorizationFailedError: "grant our user READ on the topic, or WRITE to produce to it",
    kafka_errors.GroupAuthorizationFailedError: "grant our user READ on the group",
}
_VERSIONS = (
    kafka_errors.IncompatibleBrokerVersion,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.UnrecognizedBrokerVersion,
    NotImplementedError,
)
_HINTS: Mapping[type[BaseException], str] = {
    kafka_errors.InvalidGroupIdError: "give another kafka.group_id",
    kafka_errors.InvalidSessionTimeoutError: "kafka.session_timeout must be within the broker's "
    "group.min.session.timeout.ms and group.max.session.timeout.ms",
    kafka_errors.InconsistentGroupProtocolError: "members of the group that are not ingestd must leave it, "
    "or give another kafka.group_id",
    kafka_errors.InvalidTopicError: "check kafka.topics",
    kafka_errors.OffsetMetadataTooLargeError: "raise the broker's offset.metadata.max.bytes",
    kafka_errors.InvalidCommitOffsetSizeError: "raise the broker's offset.metadata.max.bytes",
}


def permanent_error(error: BaseException) -> SourceError | None:
    """The error to raise where retrying cannot help; None where the failure may pass."""
    if isinstance(error, _CREDENTIALS):
        return SourceError(
            f"Kafka refuses our credentials: {describe(error)}",
            hint="check kafka.sasl_* and kafka.oauth_*; for AWS_MSK_IAM rights, region and this machine's clock",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "kafka.ssl_ca_file must hold the authority that signed the broker's certificate"
        return SourceError(f"the broker's certificate is not valid: {error.verify_message}", hint=hint)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        hint = "check that kafka.bootstrap_servers names a TLS port, and kafka.ssl_*"
        return SourceError(f"TLS with the broker fails: {describe(error)}", hint=hint)
    if isinstance(error, _VERSIONS):
        return SourceError(
            f"the broker's version is not supported: {describe(error)}", hint="Kafka 2.1 or newer is needed"
        )
    if (hint := _HINTS.get(type(error), "")) != "":
        return SourceError(f"Kafka refuses what is configured: {describe(error)}", hint=hint)
    return None


def log_level(error: BaseException) -> int:
    """ERROR where a right is missing, which an operator must grant; else WARNING."""
    return logging.ERROR if isinstance(error, _RIGHTS) else logging.WARNING


def describe(error: BaseException) -> str:
    """An error in one line, with its class unless the text names it, and with the right that is missing."""
    name, text = type(error).__name__, str(error)
    line = text if name in text else f"{name}: {text}" if text else name
    return f"{line}; {grant}" if (grant := _GRANTS.get(type(error))) else line
