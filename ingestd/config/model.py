"""The configuration as one frozen tree: every key, its type, its default and its meaning.

`config/ingestd.toml` lists the same keys and is tested to equal this file. `load.py` merges
file, environment and flags into it; `validate.py` checks ranges and the rules between keys.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ingestd.config.types import Rate, Seconds, Secret, Size
from ingestd.core.row_origin import RowOrigin


def _within(low: str, high: str) -> Meta:
    """The smallest and the largest value of a duration or a size, in their text form; `validate.py` enforces it."""
    return Meta(extra={"low": low, "high": high})


_NAME = Meta(
    pattern=r"^(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}\Z", description="at most 249 letters, digits, '.', '_' and '-'"
)

Name = Annotated[str, _NAME]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Server = Annotated[
    str,
    Meta(pattern=r"^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?\Z", description="host:port"),
]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}\Z", description="host name without a port")]
Url = Annotated[
    str,  # without a user or a query, which may be secrets: URLs are shown
    Meta(pattern=r"^https?://[^\s/?#@]{1,255}(/[^\s?#@]{0,1024})?\Z", description="http(s)://host[:port]"),
]
Model = Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]{0,200}:[A-Za-z_]\w{0,200}\Z", description="module:Name")]
Identifier = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,254}\Z", description="letters, digits, '_' and '$'")
]
RoleArn = Annotated[
    str,
    Meta(
        pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}\Z",
        description="arn:aws:iam::ACCOUNT:role/NAME",
    ),
]
TopicArn = Annotated[
    str,
    Meta(
        pattern=r"^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w-]{1,256}\Z",
        description="arn:aws:sns:REGION:ACCOUNT:NAME",
    ),
]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^(\*|https?://(\*\.)?[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?)\Z",
        description="an origin such as https://www.example.com, https://*.example.com or *",
    ),
]
Network = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?\Z", description="a network: 10.0.0.0/8")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Timeout = Annotated[Seconds, _within("100ms", "10m")]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of the configuration."""


class KafkaConfig(_Section, frozen=True, kw_only=True):
    """The Kafka source."""

    bootstrap_servers: Annotated[tuple[Server, ...], Meta(min_length=1, max_length=100)] = ("127.0.0.1:9092",)
    topics: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1000)] = ("marketing_events",)
    group_id: Text = "ingestd"
    client_id: Text = "ingestd"
    group_instance_id: Name | None = None  # static membership
    start: Text = "earliest"  # earliest, latest, or an RFC 3339 time: only if neither group nor chain has a position
    skip_lost: bool = False  # continue after records that retention removed, with an empty object for the gap
    # Where Kafka lost records that were read already: halt the partition, or go on with what it wrote there since.
    on_truncation: Literal["halt", "fork"] = "halt"
    session_timeout: Annotated[Seconds, _within("1s", "30m")] = Seconds(45)
    heartbeat_interval: Annotated[Seconds, _within("100ms", "10m")] = Seconds(3)
    # On revoke, buffered records are written for at most half of it.
    rebalance_timeout: Annotated[Seconds, _within("1s", "1h")] = Seconds(60)
    request_timeout: Annotated[Seconds, _within("1s", "10m")] = Seconds(70)
    fetch_max_bytes: Annotated[Size, _within("1KiB", "1GiB")] = Size(16 << 20)
    partition_fetch_bytes: Annotated[Size, _within("1KiB", "256MiB")] = Size(1 << 20)
    max_records: Annotated[int, Meta(ge=1, le=100_000)] = 2000  # per fetch: bounds how long the event loop is blocked
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_ca_file: Text | None = None
    ssl_cert_file: Text | None = None
    ssl_key_file: Text | None = None
    ssl_key_password: Secret | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    sasl_username: Text | None = None
    sasl_password: Secret | None = None
    sasl_password_file: Text | None = None
    oauth_token_url: Url | None = None  # OAUTHBEARER: client-credentials grant
    oauth_client_id: Text | None = None
    oauth_client_secret: Secret | None = None
    oauth_client_secret_file: Text | None = None
    oauth_scope: Text | None = None


class KinesisConfig(_Section, frozen=True, kw_only=True):
    """The Kinesis source: one data stream. Credentials as those of S3."""

    stream: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]{1,128}\Z", description="at most 128 letters, digits, '.', '_' and '-'")
    ] = "marketing_events"
    region: Text | None = None
    endpoint_url: Url | None = None
    start: Text = "earliest"  # earliest, latest, or an RFC 3339 time: only for shards without objects
    skip_lost: bool = False  # continue after records that retention removed, with an empty object for the gap
    # Between two reads of a shard: AWS allows five a second to all consumers together.
    poll_interval: Annotated[Seconds, _within("200ms", "1m")] = Seconds(1)
    max_records: Annotated[int, Meta(ge=1, le=10_000)] = 10_000  # a read
    prefetch_bytes: Annotated[Size, _within("1MiB", "1GiB")] = Size(16 << 20)  # of all shards, not validated yet
    # Daemons of one lineage share the shards; each tells in the sink that it lives.
    heartbeat_interval: Annotated[Seconds, _within("100ms", "10m")] = Seconds(10)
    member_timeout: Annotated[Seconds, _within("1s", "1h")] = Seconds(45)
    member_id: Name | None = None  # None: the host's name and the process; stable names leave fewer objects
    connect_timeout: Timeout = Seconds(5)
    read_timeout: Timeout = Seconds(30)


class SqsConfig(_Section, frozen=True, kw_only=True):
    """The SQS source: one queue, standard or FIFO. Credentials as those of S3."""

    queue_url: Url | None = None
    region: Text | None = None
    endpoint_url: Url | None = None
    # fenced: exactly once, unless SQS hands one message to two receivers at once or a sender sends it twice.
    delivery: Literal["fenced", "at-least-once"] = "fenced"
    envelope: Literal["none", "sns", "auto"] = "none"  # sns: the event is in the message of an SNS notification
    receivers: Annotated[int, Meta(ge=1, le=100)] = 4  # requests at once, of ten messages each
    visibility: Annotated[Seconds, _within("30s", "12h")] = Seconds(600)  # extended while an outage lasts
    wait: Annotated[Seconds, _within("100ms", "20s")] = Seconds(20)  # long polling
    connect_timeout: Timeout = Seconds(5)
    read_timeout: Timeout = Seconds(30)


class SimulatorConfig(_Section, frozen=True, kw_only=True):
    """The simulated source, for demos."""

    topic: Name = "marketing_events"
    partitions: Annotated[int, Meta(ge=1, le=1000)] = 2
    rate: Annotated[Rate, _within("0/min", "1000000000/min")] = Rate(600)  # of events; 0 is as fast as possible
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 7
    clients: Annotated[int, Meta(ge=1, le=10_000_000)] = 5000
    malformed: Share = 0.0
    late: Share = 0.0
    duplicate: Share = 0.0
    # Generate this much history at full speed instead of live events.
    history: Annotated[Seconds, _within("1s", "3650d")] | None = None


class EventsConfig(_Section, frozen=True, kw_only=True):
    """The event model and its limits."""

    model: Model | None = None  # "module:Name" of your own msgspec type; None is ingestd's marketing model
    unknown_types: Literal["accept", "reject"] = "accept"
    naive_timestamps: Literal["utc", "reject"] = "utc"
    max_bytes: Annotated[Size, _within("1KiB", "16MiB")] = Size(1 << 20)


class BreakerConfig(_Section, frozen=True, kw_only=True):
    """When rejected records stop the daemon."""

    max_share: Share = 0.5  # of the last `window` records
    window: Annotated[int, Meta(ge=1, le=1_000_000)] = 5000
    max_consecutive: Count = 2000  # consecutive rejected records of one partition


class BatchConfig(_Section, frozen=True, kw_only=True):
    """When a partition's batch is flushed: on the first of these limits."""

    interval: Annotated[Seconds, _within("100ms", "1h")] = Seconds(30)  # age since its first record
    bytes: Annotated[Size, _within("1KiB", "1GiB")] = Size(32 << 20)  # compressed
    records: Count | None = None
    # Buffered bytes of all partitions; the largest batch is flushed first.
    memory: Annotated[Size, _within("16MiB", "64GiB")] = Size(256 << 20)


class SinkConfig(_Section, frozen=True, kw_only=True):
    """The sink and the delivery guarantee."""

    url: Text = "./data"  # s3://bucket/prefix, or a directory
    lineage: Name | None = None  # a new name begins a new chain, for deliberate re-ingestion
    delivery: Literal["exactly-once", "at-least-once"] = "exactly-once"
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8  # uploads at once
    retry_initial: Annotated[Seconds, _within("1ms", "1m")] = Seconds(0.2)
    retry_max: Annotated[Seconds, _within("1ms", "1h")] = Seconds(30)


class S3Config(_Section, frozen=True, kw_only=True):
    """The S3 client. Credentials come from AWS's default chain: environment, profile, web identity, role."""

    endpoint_url: Url | None = None
    region: Text | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    kms_key_id: Text | None = None
    connect_timeout: Timeout = Seconds(5)
    read_timeout: Timeout = Seconds(60)
    # For one attempt, from connecting to the response.
    put_timeout: Annotated[Seconds, _within("100ms", "1h")] = Seconds(120)


class SnowflakeConfig(_Section, frozen=True, kw_only=True):
    """Snowflake: the connection and the names of its objects, unquoted."""

    account: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,255}\Z", description="orgname-accountname")] | None = None
    user: Text | None = None
    role: Identifier | None = None  # None: the user's default
    compute: Identifier | None = None  # a warehouse, for statements that need one; None: the user's default
    authenticator: Literal["key-pair", "password", "oauth", "externalbrowser"] = "key-pair"
    private_key_file: Text | None = None  # PEM, PKCS #8
    private_key_passphrase: Secret | None = None
    password: Secret | None = None
    password_file: Text | None = None
    token_file: Text | None = None  # OAuth
    host: Server | None = None  # None: derived from the account; for private links
    protocol: Literal["https", "http"] = "https"
    database: Identifier = "MARKETING"
    schema: Identifier = "EVENTS"
    table: Identifier = "MARKETING_EVENTS"
    stage: Identifier = "MARKETING_EVENTS_STAGE"
    pipe: Identifier = "MARKETING_EVENTS_PIPE"
    integration: Identifier = "INGESTD_S3"
    loader_role: Identifier = "INGESTD_LOADER"  # owns the pipe
    reader_role: Identifier = "INGESTD_READER"  # queries
    aws_role_arn: RoleArn | None = None
    error_topic_arn: TopicArn | None = None
    delivery: Literal["notification", "rest"] = "notification"  # how the pipe hears of new objects
    confirm: bool = False  # compare landed objects with loaded ones
    confirm_interval: Annotated[Seconds, _within("1s", "1d")] = Seconds(300)
    # An object that is not loaded within this time counts as missing.
    late: Annotated[Seconds, _within("1s", "7d")] = Seconds(3600)


class WarehouseConfig(_Section, frozen=True, kw_only=True):
    """The local warehouse, a stand-in for Snowflake: loads landed objects into a table in a file."""

    kind: Literal["none", "local"] = "none"
    # The database file; None: one for each sink, in a local sink's directory or in ./data.
    path: Text | None = None
    poll: Annotated[Seconds, _within("100ms", "1h")] = Seconds(1)  # between two listings of the sink
    queue_url: Url | None = None  # an SQS queue that the bucket notifies; None: the sink is listed


class PageConfig(_Section, frozen=True, kw_only=True):
    """The live page, served with the HTTP endpoints."""

    enabled: bool = False
    controls: bool = False  # buttons that pause and disturb the run, for demos


class HealthConfig(_Section, frozen=True, kw_only=True):
    """The HTTP endpoints, and the limits of readiness."""

    enabled: bool = True
    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464  # 0 picks a free one
    # Names in the Host header that /metrics and /status answer to, beside IP addresses and localhost.
    allowed_hosts: Annotated[tuple[HostName, ...], Meta(min_length=0, max_length=100)] = ()
    # Not ready when the oldest unlanded record is older than this plus the batch interval.
    stall: Annotated[Seconds, _within("1s", "1d")] = Seconds(120)
    no_partition: Annotated[Seconds, _within("1s", "1h")] = Seconds(60)  # not ready without a partition for longer
    source_unavailable: Annotated[Seconds, _within("1s", "10m")] = Seconds(70)  # not ready if it fails for longer
    loop_lag: Annotated[Seconds, _within("100ms", "10m")] = Seconds(3)  # not ready when the event loop was late by more
    # No progress for this long with lag and a healthy sink: rebuild the source, then exit.
    progress_timeout: Annotated[Seconds, _within("1s", "1d")] = Seconds(300)


class CollectSource(_Section, frozen=True, kw_only=True):
    """One sender of events over HTTP: a table of its own, ``[collect.sources.NAME]``."""

    kind: Literal[
        "native", "segment", "rudderstack", "snowplow", "web",
        "sendgrid", "mailgun", "ses", "postmark", "mandrill", "hubspot", "salesforce", "webhook",
    ]  # fmt: skip
    # Its keys, one a line, of which two are valid at once for a rotation: read again when the file changes.
    key_file: Text | None = None
    # Web pages that may send; none: those of [collect].
    origins: Annotated[tuple[Origin, ...], Meta(min_length=0, max_length=1000)] = ()
    rate: Annotated[Rate, _within("1/min", "100000000/min")] = Rate(60_000)  # of events
    mapping: Text | None = None  # a TOML file: names of the sender's events and fields
    # ses: the SNS topics whose messages are taken.
    topic_arns: Annotated[tuple[TopicArn, ...], Meta(min_length=0, max_length=100)] = ()
    organization_id: Text | None = None  # salesforce


class CollectConfig(_Section, frozen=True, kw_only=True):
    """The collector: takes events over HTTP, for Kafka (`ingestd collect`) or the journal (source = collector)."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080  # 0 picks a free one
    public_url: Url | None = None  # as senders know it; some vendors sign it
    # Networks whose X-Forwarded-For is believed.
    trusted_proxies: Annotated[tuple[Network, ...], Meta(min_length=0, max_length=100)] = ()
    topic: Name = "marketing_events"
    ack_timeout: Annotated[Seconds, _within("100ms", "1m")] = Seconds(5)  # then 503, and the sender sends again
    journal: Text | None = None  # the SQLite file; None: no journal behind Kafka, ./data/journal.sqlite without Kafka
    journal_bytes: Annotated[Size, _within("1MiB", "1024GiB")] = Size(1 << 30)
    max_body: Annotated[Size, _within("1KiB", "16MiB")] = Size(512 << 10)  # after decompression
    max_connections: Annotated[int, Meta(ge=16, le=100_000)] = 1000
    # For all bodies in flight, at least two of `max_body`; 503 beyond.
    body_memory: Annotated[Size, _within("1MiB", "16GiB")] = Size(64 << 20)
    origins: Annotated[tuple[Origin, ...], Meta(min_length=0, max_length=1000)] = ()  # web pages that may send
    gpc: Literal["drop", "anonymise", "ignore"] = "anonymise"  # Sec-GPC: 1
    dnt: Literal["drop", "anonymise", "ignore"] = "ignore"  # DNT: 1
    ip: Literal["truncate", "drop", "keep"] = "truncate"  # to /24 and /48
    bots: Literal["flag", "ignore"] = "flag"
    sources: Mapping[str, CollectSource] = {}


class LogConfig(_Section, frozen=True, kw_only=True):
    """Logging."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "json", "text"] = "auto"  # auto: text on a terminal, JSON elsewhere


_ROW_ORIGINS = {"kinesis": RowOrigin.WIDE_OFFSET, "sqs": RowOrigin.MESSAGE_ID}


class Config(_Section, frozen=True, kw_only=True):
    """The whole configuration."""

    source: Literal["kafka", "kinesis", "sqs", "simulator", "collector"] = "kafka"
    duration: Annotated[Seconds, _within("100ms", "3650d")] | None = None  # stop after this time
    # From a signal, or the end of `duration`, to the forced stop.
    grace: Annotated[Seconds, _within("100ms", "1h")] = Seconds(60)
    kafka: KafkaConfig = KafkaConfig()
    kinesis: KinesisConfig = KinesisConfig()
    sqs: SqsConfig = SqsConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    collect: CollectConfig = CollectConfig()
    events: EventsConfig = EventsConfig()
    breaker: BreakerConfig = BreakerConfig()
    batch: BatchConfig = BatchConfig()
    sink: SinkConfig = SinkConfig()
    s3: S3Config = S3Config()
    snowflake: SnowflakeConfig = SnowflakeConfig()
    warehouse: WarehouseConfig = WarehouseConfig()
    page: PageConfig = PageConfig()
    health: HealthConfig = HealthConfig()
    log: LogConfig = LogConfig()

    @property
    def row_origin(self) -> RowOrigin:
        """How rows name the records of this source."""
        return _ROW_ORIGINS.get(self.source, RowOrigin.OFFSET)

    @property
    def wide(self) -> bool:
        """Whether positions of this source are longer than 64 bits."""
        return self.row_origin is RowOrigin.WIDE_OFFSET
