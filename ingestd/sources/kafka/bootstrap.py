"""What every Kafka client of ours shares: options, credentials, the first contact, and what errors mean."""

import asyncio
import logging
import random
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from ingestd.config.model import KafkaConfig, Secret
from ingestd.config.secrets import secret
from ingestd.core.backoff import backoff
from ingestd.core.errors import ConfigError, SourceError
from ingestd.sources.kafka import uvloop_fix  # noqa: F401 - mends all of them
from ingestd.sources.kafka.error_state import ErrorState
from ingestd.sources.kafka.oauth import TokenProvider

RETRY_INITIAL_S, RETRY_MAX_S = 0.2, 5.0
MISSING_LOOKS = 4  # a topic that was created a moment ago is not known to every broker yet

# What a request can fail with; NotImplementedError is aiokafka's word for a broker whose protocol it does not speak.
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


class Cluster(NamedTuple):
    """What the first contact tells: the cluster's id, and how many partitions each topic has."""

    id: str
    partitions: Mapping[str, int]


def meaning(error: BaseException) -> SourceError | None:
    """What an error of aiokafka, of a socket or of TLS means: None where it may pass, so that we try again."""
    if isinstance(error, _CREDENTIALS):
        return SourceError(
            f"Kafka refuses our credentials: {describe(error)}", hint="check kafka.sasl_* and kafka.oauth_*"
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


def level(error: BaseException) -> int:
    """How loud a trouble is: rights do not come back unless an operator gives them."""
    return logging.ERROR if isinstance(error, _RIGHTS) else logging.WARNING


def describe(error: BaseException) -> str:
    """An error in one line, with its class where it says nothing more itself, and the right that is missing."""
    name, text = type(error).__name__, str(error)
    line = text if name in text else f"{name}: {text}" if text else name
    return f"{line}; {grant}" if (grant := _GRANTS.get(type(error))) else line


def client_options(config: KafkaConfig) -> dict[str, Any]:
    """Arguments that aiokafka's clients and connections share. Files are read now. Raises ``ConfigError``."""
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
            # Always a password, or OpenSSL would ask the terminal for the one of an encrypted key.
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
    if config.sasl_mechanism == "OAUTHBEARER":
        url = _required("kafka.oauth_token_url", config.oauth_token_url)
        client = _required("kafka.oauth_client_id", config.oauth_client_id)

        def password() -> str:
            return _secret("kafka.oauth_client_secret", config.oauth_client_secret, config.oauth_client_secret_file)

        password()  # what is missing is told now, not when the first connection needs it
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
    """What it is now. ``ConfigError`` where there is none, or its file cannot be read."""
    return _required(f"{key} or {key}_file", secret(value, file))


async def connect(
    config: KafkaConfig, options: Mapping[str, Any], topics: Sequence[str], troubles: ErrorState
) -> Cluster:
    """Find the cluster and the topics, for as long as it takes. ``SourceError`` where trying again would not help.

    By hand, because aiokafka's own bootstrap hides why it failed, and its metadata requests create missing topics.
    """
    attempt = looks = 0
    rng = random.Random()
    while True:
        try:
            cluster, codes = await ask(config, options, topics)
            looks += 1
            if (missing := _missing(topics, cluster, codes, last_look=looks >= MISSING_LOOKS)) is None:
                troubles.end("connect")
                return cluster
            raise missing
        except FAILURES as error:
            if (final := meaning(error)) is not None:
                raise final from error
            troubles.begin("connect", no_contact(config, error), level=level(error))
        await asyncio.sleep(backoff(attempt, RETRY_INITIAL_S, RETRY_MAX_S, rng))
        attempt += 1


def no_contact(config: KafkaConfig, error: BaseException) -> str:
    """What is said of a first contact that failed and may pass."""
    message = f"Kafka at {', '.join(config.bootstrap_servers)} cannot be used: {describe(error)}"
    if isinstance(error, ConnectionResetError | kafka_errors.KafkaConnectionError):
        # What a broker does with a client that speaks TLS where it does not, or the other way round.
        message += f"; if it runs, check that the port speaks kafka.security_protocol = {config.security_protocol}"
    return message


def _missing(
    topics: Sequence[str], cluster: Cluster, codes: Mapping[str, int], *, last_look: bool
) -> kafka_errors.KafkaError | None:
    """Why a topic cannot be read yet. ``SourceError`` where it does not exist."""
    for topic in topics:
        error = kafka_errors.for_code(codes.get(topic, kafka_errors.UnknownTopicOrPartitionError.errno))
        if error is kafka_errors.UnknownTopicOrPartitionError and last_look:
            raise SourceError(f"topic {topic} does not exist", hint="create it, or correct kafka.topics")
        if error is not kafka_errors.NoError:
            return error(topic)
        if not cluster.partitions[topic]:
            return kafka_errors.LeaderNotAvailableError(topic)
    return None


async def ask(
    config: KafkaConfig, options: Mapping[str, Any], topics: Sequence[str]
) -> tuple[Cluster, Mapping[str, int]]:
    """The cluster and an error code for each topic, from the first bootstrap server that answers."""
    failure: BaseException = kafka_errors.NoBrokersAvailable()
    for host, port, _ in collect_hosts(list(config.bootstrap_servers)):
        try:
            connection = await create_conn(host, port, **options)
            try:
                answer = (
                    await connection.send(MetadataRequest(list(topics), allow_auto_topic_creation=False))
                ).to_object()
            finally:
                connection.close()
        except FAILURES as error:
            if (final := meaning(error)) is not None:
                raise final from error
            failure = error
        except (ValueError, KeyError) as error:
            # So aiokafka reports a SCRAM exchange in which the broker does not prove that it knows our password.
            raise SourceError(f"the broker at {host}:{port} fails the SASL exchange: {describe(error)}") from error
        else:
            partitions = {topic["topic"]: len(topic["partitions"]) for topic in answer["topics"]}
            codes = {topic["topic"]: topic["error_code"] for topic in answer["topics"]}
            return Cluster(answer.get("cluster_id") or "", partitions), codes
    raise failure
