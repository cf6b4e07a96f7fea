"""Which values the configuration accepts: each key's type and range in words, and rules between keys."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import inspect

from ingestd.config.model import Config, KafkaConfig, SnowflakeConfig
from ingestd.config.types import Rate, Seconds, Secret, Size
from ingestd.core.errors import ConfigError
from ingestd.core.sink_url import parse_sink_url, path_fault

# Object keys contain them: a file system takes at most 255 bytes per name, S3 1024 bytes per key.
TOPIC_MAX = 174
PREFIX_MAX = 400
_REGION = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")  # what botocore takes


class Problem(NamedTuple):
    """A key with an unusable value: why (follows "key = value from origin"), and what to do."""

    key: str
    why: str
    remedy: str


class Key(NamedTuple):
    """One key: its type without wrappers, its range and its description."""

    type: inspect.Type
    optional: bool
    low: str = ""
    high: str = ""
    words: str = ""

    @property
    def is_secret(self) -> bool:
        return isinstance(self.type, inspect.CustomType) and self.type.cls is Secret

    @property
    def is_list(self) -> bool:
        return isinstance(self.type, inspect.VarTupleType)

    @property
    def choices(self) -> tuple[str, ...]:
        """The accepted words; empty if the values are not listed."""
        return tuple(map(str, self.type.values)) if isinstance(self.type, inspect.LiteralType) else ()

    def accepted(self) -> str:
        """The accepted values; follows "give"."""
        words = self.words or _words(self.type)
        if self.low:
            words += f" from {self.low} to {self.high}"
        return f"{words}, or nothing" if self.optional else words


def _key(kind: inspect.Type) -> Key:
    optional = False
    if isinstance(kind, inspect.UnionType):
        kind = next(option for option in kind.types if not isinstance(option, inspect.NoneType))
        optional = True
    if not isinstance(kind, inspect.Metadata):
        return Key(kind, optional)
    extra = kind.extra or {}
    words = (kind.extra_json_schema or {}).get("description", "")
    return Key(kind.type, optional, extra.get("low", ""), extra.get("high", ""), words)


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            words = "true or false"
        case inspect.IntType():
            words = f"a whole number from {kind.ge} to {kind.le}"
        case inspect.FloatType():
            words = f"a number from {kind.ge:g} to {kind.le:g}"
        case inspect.LiteralType():
            words = "one of " + ", ".join(str(value) for value in kind.values)
        case inspect.CustomType(cls):
            words = _CUSTOM_WORDS[cls]
        case inspect.VarTupleType():
            words = f"a list of {kind.min_length} to {kind.max_length}, each {_key(kind.item_type).accepted()}"
        case inspect.StrType():
            words = f"text of {kind.min_length} to {kind.max_length} characters"
        case _:
            raise TypeError(kind)
    return words


_CUSTOM_WORDS = {
    Seconds: "a duration such as 250ms, 30s, 5m, 2h or 90d",
    Rate: "a rate such as 600/min, 10/s or 36000/h",
    Size: "a size such as 512KiB, 32MiB or 1GiB",
    Secret: "text",
}


def _walk(kind: inspect.Type, name: str = "") -> Iterator[tuple[str, Key]]:
    if not isinstance(kind, inspect.StructType):
        yield name, _key(kind)
        return
    for field in kind.fields:
        yield from _walk(field.type, f"{name}.{field.name}" if name else field.name)


KEYS: Mapping[str, Key] = dict(_walk(inspect.type_info(Config)))
"""Every key by its dotted name, in the order of `model.py`."""

MOVED_KEYS: Mapping[str, str] = {"kafka.progress_timeout": "health.progress_timeout"}
"""Keys of earlier versions, and the key that has replaced each."""


def value_of(config: Config, key: str) -> object:
    """The value at a dotted key."""
    return attrgetter(key)(config)


def shown(value: object) -> str:
    """A value for people: without secrets, a URL's user and query; at most 200 characters."""
    match value:
        case Rate() | Seconds() | Size() | Secret():
            return str(value)
        case bool():
            return str(value).lower()
        case tuple() | list():
            text = ",".join(map(str, value))
        case _:
            text = str(value)
    # To the last "@": a password may have one, or a "/".
    text = re.sub(r"//\S*@", "//<redacted>@", text)
    text = re.sub(r"[^\s/:]*:(?!//)\S*@", "<redacted>@", text)
    text = re.sub(r"(://[^\s?]*)\?\S*", r"\1?<redacted>", text)
    quoted = repr(text) if not text or not text.isprintable() or " " in text else text
    return quoted if len(quoted) <= 200 else quoted[:200] + "…"


def refusal(problem: Problem, value: object, origin: str) -> ConfigError:
    """The error for `problem`."""
    key, why, remedy = problem
    if value is None:
        return ConfigError(f"{key} {why}", hint=remedy)
    text = "<redacted>" if KEYS[key].is_secret else shown(value)
    if "host" in KEYS[key].accepted():  # which has no user
        text = re.sub(r"[^\s/]*@", "<redacted>@", text)
    source = {"": "", "default": " by default", "environment": f" from environment variable {variable(key)}"}
    return ConfigError(f"{key} = {text}{source.get(origin, f' from {origin}')} {why}", hint=remedy)


def variable(key: str) -> str:
    """The environment variable that sets `key`."""
    return "INGESTD__" + key.replace(".", "__").upper()


def problems(config: Config) -> Iterator[Problem]:
    """Everything that is wrong with `config` beyond the types of its values."""
    yield from ranges(config)
    yield from _kafka_times(config.kafka)
    yield from _start(config.kafka)
    yield from _topics(config)
    yield from _servers(config.kafka)
    yield from _ports(config)
    yield from _tls(config.kafka)
    yield from _sasl(config.kafka)
    yield from _sizes(config)
    yield from _sink(config)
    yield from _snowflake(config)
    yield from _warehouse(config)
    yield from _page(config)


def ranges(config: Config) -> Iterator[Problem]:
    """The values that are out of the range of their key."""
    for name, key in KEYS.items():
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


def _start(kafka: KafkaConfig) -> Iterator[Problem]:
    if kafka.start in {"earliest", "latest"}:
        return
    try:
        aware = msgspec.convert(kafka.start, datetime).tzinfo is not None
    except msgspec.ValidationError:
        aware = False
    if not aware:
        yield Problem(
            "kafka.start", "is not a start position", "give earliest, latest, or a time such as 2026-01-31T00:00:00Z"
        )


def _topics(config: Config) -> Iterator[Problem]:
    if twice := [name for name, count in Counter(config.kafka.topics).items() if count > 1]:
        yield Problem("kafka.topics", f"names {twice[0]} more than once", "name each topic once")
    for key, names in {"kafka.topics": config.kafka.topics, "simulator.topic": (config.simulator.topic,)}.items():
        if any(len(name) > TOPIC_MAX for name in names):
            why = f"has a name of more than {TOPIC_MAX} characters, which leaves no room in object keys"
            yield Problem(key, why, "give topics with shorter names")


def _servers(kafka: KafkaConfig) -> Iterator[Problem]:
    for server in kafka.bootstrap_servers:
        port = server.rpartition(":")[2]
        if port.isdigit() and not 1 <= int(port) <= 65535:
            yield Problem("kafka.bootstrap_servers", f"has an invalid port in {server}", "give a port from 1 to 65535")


def _ports(config: Config) -> Iterator[Problem]:
    for name, key in KEYS.items():
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
