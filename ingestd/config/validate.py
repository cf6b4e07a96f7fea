"""Which values the configuration accepts: each key's type and range in words, and rules between keys."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from ingestd.config.keys import keys_of, value_of, variable
from ingestd.config.model import Config, KafkaConfig, SnowflakeConfig
from ingestd.config.problem import Problem
from ingestd.config.types import Rate, Seconds, Size
from ingestd.config.validate_collect import collect_problems, running_collector_problems
from ingestd.config.validate_values import rename_problems, values_problems
from ingestd.core.sink_url import parse_sink_url, path_fault

# Object keys contain them: a file system takes at most 255 bytes per name, S3 1024 bytes per key.
TOPIC_MAX = 174
STREAM_MAX_WITH_END = 100  # of a stream's name, where names of objects have the starts and ends of 60 digits
PREFIX_MAX = 400
_REGION = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")  # what botocore takes


def problems(config: Config) -> Iterator[Problem]:
    """Everything that is wrong with `config` beyond the types of its values."""
    yield from ranges(config)
    yield from _kafka_times(config.kafka)
    yield from _start("kafka.start", config.kafka.start)
    yield from _start("kinesis.start", config.kinesis.start)
    yield from _kinesis(config)
    yield from _sqs(config)
    yield from _topics(config)
    yield from _servers(config.kafka)
    yield from _ports(config)
    yield from _tls(config.kafka)
    yield from _sasl(config.kafka)
    yield from _json(config)
    yield from values_problems(config)
    yield from rename_problems(config.events)
    yield from _sizes(config)
    yield from _sink(config)
    yield from _snowflake(config)
    yield from _warehouse(config)
    yield from _page(config)
    yield from collect_problems(config.collect)
    if config.source == "collector":
        yield from running_collector_problems(config.collect, "source = collector")


def ranges(config: Config) -> Iterator[Problem]:
    """The values that are out of the range of their key."""
    for name, key in keys_of(config).items():
        value = value_of(config, name)
        if isinstance(value, Rate | Seconds | Size) and key.low:
            parse = type(value).parse
            if not parse(key.low) <= value <= parse(key.high):
                yield Problem(name, "is out of range", f"give {key.accepted()}")


def _kafka_times(kafka: KafkaConfig) -> Iterator[Problem]:
    session, heartbeat, rebalance = kafka.session_timeout, kafka.heartbeat_interval, kafka.rebalance_timeout
    if heartbeat > session / 3:
        yield Problem(
            "kafka.heartbeat_interval",
            f"is more than a third of kafka.session_timeout = {session}: one lost heartbeat could end the membership",
            f"give {Seconds(session / 3)} or less, or a longer kafka.session_timeout",
        )
    if session > rebalance:
        yield Problem(
            "kafka.session_timeout",
            f"is more than kafka.rebalance_timeout = {rebalance}",
            f"give {rebalance} or less, or a longer kafka.rebalance_timeout",
        )
    if kafka.request_timeout <= rebalance:
        yield Problem(
            "kafka.request_timeout",
            f"is not more than kafka.rebalance_timeout = {rebalance}: joining is a request that takes as long",
            f"give more than {rebalance}, or a shorter kafka.rebalance_timeout",
        )


def _start(key: str, start: str) -> Iterator[Problem]:
    if start in {"earliest", "latest"}:
        return
    try:
        aware = msgspec.convert(start, datetime).tzinfo is not None
    except msgspec.ValidationError:
        aware = False
    if not aware:
        yield Problem(key, "is not a start position", "give earliest, latest, or a time such as 2026-01-31T00:00:00Z")


def _kinesis(config: Config) -> Iterator[Problem]:
    kinesis = config.kinesis
    if kinesis.heartbeat_interval > kinesis.member_timeout / 3:
        yield Problem(
            "kinesis.heartbeat_interval",
            f"is more than a third of kinesis.member_timeout = {kinesis.member_timeout}: a daemon would count as dead "
            "after one late heartbeat, and its shards be read twice",
            f"give {Seconds(kinesis.member_timeout / 3)} or less, or a longer kinesis.member_timeout",
        )
    if config.sink.delivery == "at-least-once" and len(kinesis.stream) > STREAM_MAX_WITH_END:
        yield Problem(
            "kinesis.stream",
            f"has more than {STREAM_MAX_WITH_END} characters, which leaves no room in object keys with "
            'sink.delivery = "at-least-once"',
            'give a stream with a shorter name, or sink.delivery = "exactly-once"',
        )


def _sqs(config: Config) -> Iterator[Problem]:
    half = Seconds(config.grace / 2)
    if config.source == "sqs" and config.sqs.wait > half:
        yield Problem(
            "sqs.wait",
            f"is more than half of grace = {config.grace}: a stop waits for the last requests, and has to land what "
            "they bring",
            f"give {half} or less, or a longer grace",
        )


def _topics(config: Config) -> Iterator[Problem]:
    if twice := [name for name, count in Counter(config.kafka.topics).items() if count > 1]:
        yield Problem("kafka.topics", f"names {twice[0]} more than once", "name each topic once")
    for key, names in {
        "kafka.topics": config.kafka.topics,
        "simulator.topic": (config.simulator.topic,),
        "collect.topic": (config.collect.topic,),
    }.items():
        if any(len(name) > TOPIC_MAX for name in names):
            why = f"has a name of more than {TOPIC_MAX} characters, which leaves no room in object keys"
            yield Problem(key, why, "give topics with shorter names")


def _servers(kafka: KafkaConfig) -> Iterator[Problem]:
    for server in kafka.bootstrap_servers:
        port = server.rpartition(":")[2]
        if port.isdigit() and not 1 <= int(port) <= 65535:
            yield Problem("kafka.bootstrap_servers", f"has an invalid port in {server}", "give a port from 1 to 65535")


def _ports(config: Config) -> Iterator[Problem]:
    for name, key in keys_of(config).items():
        url = value_of(config, name)
        if key.words == "http(s)://host[:port]" and isinstance(url, str):
            try:
                wrong = urlsplit(url).port == 0
            except ValueError:
                wrong = True
            if wrong:
                yield Problem(name, "has an invalid host or port", "give http(s)://host[:port], a port from 1 to 65535")


def _tls(kafka: KafkaConfig) -> Iterator[Problem]:
    if kafka.ssl_cert_file and not kafka.ssl_key_file:
        yield _missing("kafka.ssl_key_file", "the client certificate in kafka.ssl_cert_file")
    if kafka.ssl_key_file and not kafka.ssl_cert_file:
        yield _missing("kafka.ssl_cert_file", "the client key in kafka.ssl_key_file")


def _sasl(kafka: KafkaConfig) -> Iterator[Problem]:
    if not kafka.security_protocol.startswith("SASL_"):
        return
    user = f"kafka.security_protocol = {kafka.security_protocol} with {kafka.sasl_mechanism}"
    if kafka.sasl_mechanism == "AWS_MSK_IAM":
        if kafka.security_protocol != "SASL_SSL":
            why = "would send a token that signs in as this process in plain text; MSK's port for IAM has TLS"
            yield Problem("kafka.security_protocol", why, "set kafka.security_protocol = SASL_SSL")
        return
    if kafka.sasl_mechanism == "OAUTHBEARER":
        required = {"kafka.oauth_token_url": kafka.oauth_token_url, "kafka.oauth_client_id": kafka.oauth_client_id}
        password, given = "kafka.oauth_client_secret", (kafka.oauth_client_secret, kafka.oauth_client_secret_file)
    else:
        required = {"kafka.sasl_username": kafka.sasl_username}
        password, given = "kafka.sasl_password", (kafka.sasl_password, kafka.sasl_password_file)
    for key, value in required.items():
        if not value:
            yield _missing(key, user)
    if given == (None, None):
        yield Problem(password, f"is not set, but {user} needs it", f"set {variable(password)} or {password}_file")


def _json(config: Config) -> Iterator[Problem]:
    """Rows of any JSON have no event types and no clients."""
    if config.source == "kinesis" and "headers" in config.events.include:
        yield Problem("events.include", "names headers, which records of Kinesis do not have", 'give "key" only')
    if config.events.model != "json":
        if config.events.tombstones == "row":
            why = "is for events.model = json only: a tombstone has no event_id, client_id and event_timestamp"
            yield Problem("events.tombstones", why, "give quarantine or skip, or set the model")
        if config.events.timestamp_field is not None:
            yield Problem("events.timestamp_field", "is for events.model = json only", "remove it, or set the model")
        return
    needs = "shows and predicts by event_type and client_id, which events.model = json does not have"
    if config.page.enabled:
        yield Problem("page.enabled", needs, "run without the page, or with a model of events")
    if config.warehouse.kind != "none":
        yield Problem("warehouse.kind", needs, "set warehouse.kind = none, or a model of events")


def _missing(key: str, user: str) -> Problem:
    return Problem(key, f"is not set, but {user} needs it", f"set {key} or {variable(key)}")


def _sizes(config: Config) -> Iterator[Problem]:
    kafka, batch, events = config.kafka, config.batch, config.events
    if kafka.partition_fetch_bytes > kafka.fetch_max_bytes:
        limit = kafka.fetch_max_bytes
        yield Problem(
            "kafka.partition_fetch_bytes", f"is more than kafka.fetch_max_bytes = {limit}", f"give {limit} or less"
        )
    half = Size(batch.memory // 2)
    if batch.bytes > half:
        yield Problem(
            "batch.bytes",
            f"is more than half of batch.memory = {batch.memory}: batches would be flushed before they are full",
            f"give {half} or less, or a larger batch.memory",
        )
    if events.max_bytes > half:
        yield Problem(
            "events.max_bytes",
            f"is more than half of batch.memory = {batch.memory}: one event could fill it",
            f"give {half} or less, or a larger batch.memory",
        )


def _sink(config: Config) -> Iterator[Problem]:
    sink, s3 = config.sink, config.s3
    if s3.region is not None and parse_sink_url(sink.url).kind == "s3" and not _REGION.fullmatch(s3.region):
        yield Problem("s3.region", "is not the name of a region", "give one such as eu-central-1")
    if why := _url_fault(sink.url):
        yield Problem("sink.url", why, "give s3://bucket, s3://bucket/prefix or the path of a directory")
    if sink.retry_initial > sink.retry_max:
        limit = sink.retry_max
        yield Problem("sink.retry_initial", f"is more than sink.retry_max = {limit}", f"give {limit} or less")
    if s3.kms_key_id and s3.encryption != "aws:kms":
        yield Problem(
            "s3.kms_key_id",
            f"is not used by s3.encryption = {s3.encryption}",
            "set s3.encryption to aws:kms, or unset s3.kms_key_id",
        )


def _warehouse(config: Config) -> Iterator[Problem]:
    if config.warehouse.path is not None and (why := path_fault(config.warehouse.path)):
        yield Problem("warehouse.path", why, "give the path of a file")
    if config.warehouse.queue_url and parse_sink_url(config.sink.url).kind != "s3":
        yield Problem(
            "warehouse.queue_url",
            "has no effect: sink.url is not a bucket that could notify it",
            "unset warehouse.queue_url",
        )


def _page(config: Config) -> Iterator[Problem]:
    if config.page.enabled and not config.health.enabled:
        why = "needs health.enabled = true: the page is served with the HTTP endpoints"
        yield Problem("page.enabled", why, "set health.enabled = true")
    if config.page.controls and not config.page.enabled:
        yield Problem("page.controls", "needs page.enabled = true", "set page.enabled = true")
    if config.page.shop and not config.page.enabled:
        yield Problem("page.shop", "needs page.enabled = true", "set page.enabled = true")


def _snowflake(config: Config) -> Iterator[Problem]:
    """What a daemon with a connection to Snowflake needs."""
    snowflake = config.snowflake
    rest = snowflake.delivery == "rest"
    if not (rest or snowflake.confirm):
        return
    user = "snowflake.delivery = rest" if rest else "snowflake.confirm = true"
    yield from snowflake_problems(snowflake, user)
    if rest and snowflake.authenticator != "key-pair":
        yield Problem("snowflake.authenticator", "is not accepted by Snowpipe's REST endpoint", "give key-pair")
    if parse_sink_url(config.sink.url).kind != "s3":
        yield Problem("sink.url", f"is not a bucket, which {user} needs to load from", "give s3://bucket/prefix")


def snowflake_problems(snowflake: SnowflakeConfig, user: str = "a connection to Snowflake") -> Iterator[Problem]:
    """What is missing for a connection; `user` is the setting that needs it."""
    proofs: dict[str, dict[str, object]] = {
        "key-pair": {"private_key_file": snowflake.private_key_file},
        "password": {"password_file": snowflake.password or snowflake.password_file},
        "oauth": {"token_file": snowflake.token_file},
        "externalbrowser": {},
    }
    needs = {"account": snowflake.account, "user": snowflake.user, **proofs[snowflake.authenticator]}
    for name, value in needs.items():
        if not value:
            yield _missing(f"snowflake.{name}", user)


def _url_fault(url: str) -> str:
    """What is wrong with a sink's URL; "" if nothing is."""
    if "://" not in url:
        return path_fault(url)
    kind, bucket, folder, _ = parse_sink_url(url)
    prefix = folder.removesuffix("/")
    empty = url.endswith("//") or (folder and any(part in {"", ".", ".."} for part in prefix.split("/")))
    faults = {
        "is neither an s3:// URL nor a path": kind != "s3",
        "has no valid bucket name: 3 to 63 of a-z, 0-9, '-' and '.'": not re.fullmatch("[a-z0-9.-]{3,63}", bucket),
        "has an empty, '.' or '..' part in its prefix": empty,
        f"has a prefix of more than {PREFIX_MAX} characters": len(prefix) > PREFIX_MAX,
        "has characters in its prefix that are not safe in a key": not re.fullmatch(
            r"[\w!.*'()/=+-]*", prefix, re.ASCII
        ),
    }
    return next((why for why, found in faults.items() if found), "")
