"""The configuration as one frozen tree: every key, its type, its default and its meaning.

`config/ingestd.toml` lists the same keys and is tested to equal this file. `load.py` merges
file, environment and flags into it; `validate.py` checks ranges and the rules between keys.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from ingestd.config.fields import (
    RENAMES,
    Count,
    HostName,
    Identifier,
    JsonPath,
    Model,
    Name,
    Network,
    Origin,
    RoleArn,
    Section,
    Server,
    Share,
    Text,
    Timeout,
    TopicArn,
    Url,
    within,
)
from ingestd.config.types import Rate, Seconds, Secret, Size
from ingestd.core.row_origin import RowOrigin


class KafkaConfig(Section, frozen=True, kw_only=True):
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
    session_timeout: Annotated[Seconds, within("1s", "30m")] = Seconds(45)
    heartbeat_interval: Annotated[Seconds, within("100ms", "10m")] = Seconds(3)
    # On revoke, buffered records are written for at most half of it.
    rebalance_timeout: Annotated[Seconds, within("1s", "1h")] = Seconds(60)
    request_timeout: Annotated[Seconds, within("1s", "10m")] = Seconds(70)
    fetch_max_bytes: Annotated[Size, within("1KiB", "1GiB")] = Size(16 << 20)
    partition_fetch_bytes: Annotated[Size, within("1KiB", "256MiB")] = Size(1 << 20)
    max_records: Annotated[int, Meta(ge=1, le=100_000)] = 2000  # per fetch: bounds how long the event loop is blocked
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_ca_file: Text | None = None
    ssl_cert_file: Text | None = None
    ssl_key_file: Text | None = None
    ssl_key_password: Secret | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] = "SCRAM-SHA-512"
    sasl_username: Text | None = None
    sasl_password: Secret | None = None
    sasl_password_file: Text | None = None
    oauth_token_url: Url | None = None  # OAUTHBEARER: client-credentials grant
    oauth_client_id: Text | None = None
    oauth_client_secret: Secret | None = None
    oauth_client_secret_file: Text | None = None
    oauth_scope: Text | None = None
    iam_region: Text | None = None  # AWS_MSK_IAM: of the cluster; None: as its brokers' names say, else AWS_REGION
    # registry: each value names its schema in a schema registry. avro, protobuf: all are of the one in schema_file.
    value_format: Literal["json", "registry", "avro", "protobuf"] = "json"
    schema_file: Text | None = None  # avro: an .avsc file; protobuf: a .proto file without imports of your own
    message: Text | None = None  # protobuf: the full name of the message; None: the first of the file


class RegistryConfig(Section, frozen=True, kw_only=True):
    """The schema registry of kafka.value_format = registry: any with Confluent's API."""

    urls: Annotated[tuple[Url, ...], Meta(min_length=0, max_length=10)] = ()  # asked in turn
    username: Text | None = None  # Basic authentication
    password: Secret | None = None
    password_file: Text | None = None
    token: Secret | None = None  # a bearer token, instead of a user
    token_file: Text | None = None
    ssl_ca_file: Text | None = None
    ssl_cert_file: Text | None = None
    ssl_key_file: Text | None = None
    request_timeout: Timeout = Seconds(10)
    cache_schemas: Annotated[int, Meta(ge=10, le=100_000)] = 1000
    # How long a schema that does not exist, or cannot be used, is not asked for again.
    keep_unknown: Annotated[Seconds, within("1s", "1d")] = Seconds(60)


class KinesisConfig(Section, frozen=True, kw_only=True):
    """The Kinesis source: one data stream. Credentials as those of S3."""

    stream: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]{1,128}\Z", description="at most 128 letters, digits, '.', '_' and '-'")
    ] = "marketing_events"
    region: Text | None = None
    endpoint_url: Url | None = None
    start: Text = "earliest"  # earliest, latest, or an RFC 3339 time: only for shards without objects
    skip_lost: bool = False  # continue after records that retention removed, with an empty object for the gap
    # Between two reads of a shard: AWS allows five a second to all consumers together.
    poll_interval: Annotated[Seconds, within("200ms", "1m")] = Seconds(1)
    max_records: Annotated[int, Meta(ge=1, le=10_000)] = 10_000  # a read
    prefetch_bytes: Annotated[Size, within("1MiB", "1GiB")] = Size(16 << 20)  # of all shards, not validated yet
    # Daemons of one lineage share the shards; each tells in the sink that it lives.
    heartbeat_interval: Annotated[Seconds, within("100ms", "10m")] = Seconds(10)
    member_timeout: Annotated[Seconds, within("1s", "1h")] = Seconds(45)
    member_id: Name | None = None  # None: the host's name and the process; stable names leave fewer objects
    connect_timeout: Timeout = Seconds(5)
    read_timeout: Timeout = Seconds(30)


class SqsConfig(Section, frozen=True, kw_only=True):
    """The SQS source: one queue, standard or FIFO. Credentials as those of S3."""

    queue_url: Url | None = None
    region: Text | None = None
    endpoint_url: Url | None = None
    # fenced: exactly once, unless SQS hands one message to two receivers at once or a sender sends it twice.
    delivery: Literal["fenced", "at-least-once"] = "fenced"
    envelope: Literal["none", "sns", "auto"] = "none"  # sns: the event is in the message of an SNS notification
    receivers: Annotated[int, Meta(ge=1, le=100)] = 4  # requests at once, of ten messages each
    visibility: Annotated[Seconds, within("30s", "12h")] = Seconds(600)  # extended while an outage lasts
    # A stop waits for the last requests. In an idle month 4 receivers' cost 0.83 USD; with 20s, 0.21 USD.
    wait: Annotated[Seconds, within("100ms", "20s")] = Seconds(5)
    connect_timeout: Timeout = Seconds(5)
    read_timeout: Timeout = Seconds(30)

    @property
    def queue_name(self) -> str | None:
        """The last part of the URL, which is not checked here."""
        return self.queue_url.rpartition("/")[2] if self.queue_url is not None else None


class SimulatorConfig(Section, frozen=True, kw_only=True):
    """The simulated source, for demos."""

    topic: Name = "marketing_events"
    partitions: Annotated[int, Meta(ge=1, le=1000)] = 2
    rate: Annotated[Rate, within("0/min", "1000000000/min")] = Rate(600)  # of events; 0 is as fast as possible
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 7
    clients: Annotated[int, Meta(ge=1, le=10_000_000)] = 5000
    malformed: Share = 0.0
    late: Share = 0.0
    duplicate: Share = 0.0
    # Generate this much history at full speed instead of live events.
    history: Annotated[Seconds, within("1s", "3650d")] | None = None


class EventsConfig(Section, frozen=True, kw_only=True):
    """The event model and its limits."""

    # "module:Name" of your own msgspec type, or "json" for any JSON object; None is ingestd's marketing model.
    model: Model | None = None
    timestamp_field: JsonPath | None = None  # with model = json: where the event's time is, for event_timestamp
    # What rows have of their record besides its value: source_key, source_headers.
    include: Annotated[tuple[Literal["key", "headers"], ...], Meta(min_length=0, max_length=2)] = ()
    # Paths in the producer's JSON, and the fields of the model that their values move to: "user.id" to client_id.
    rename: Annotated[Mapping[str, Text], RENAMES] = {}
    # Of Kafka's records without a value: in the quarantine, a row with record = null (model = json), or no row.
    tombstones: Literal["quarantine", "row", "skip"] = "quarantine"
    unknown_types: Literal["accept", "reject"] = "accept"
    naive_timestamps: Literal["utc", "reject"] = "utc"
    max_bytes: Annotated[Size, within("1KiB", "16MiB")] = Size(1 << 20)


class BreakerConfig(Section, frozen=True, kw_only=True):
    """When rejected records stop the daemon."""

    max_share: Share = 0.5  # of the last `window` records
    window: Annotated[int, Meta(ge=1, le=1_000_000)] = 5000
    max_consecutive: Count = 2000  # consecutive rejected records of one partition


class BatchConfig(Section, frozen=True, kw_only=True):
    """When a partition's batch is flushed: on the first of these limits."""

    interval: Annotated[Seconds, within("100ms", "1h")] = Seconds(30)  # age since its first record
    bytes: Annotated[Size, within("1KiB", "1GiB")] = Size(32 << 20)  # compressed
    records: Count | None = None
    # Buffered bytes of all partitions; the largest batch is flushed first.
    memory: Annotated[Size, within("16MiB", "64GiB")] = Size(256 << 20)


class SinkConfig(Section, frozen=True, kw_only=True):
    """The sink and the delivery guarantee."""

    url: Text = "./data"  # s3://bucket/prefix, or a directory
    lineage: Name | None = None  # a new name begins a new chain, for deliberate re-ingestion
    delivery: Literal["exactly-once", "at-least-once"] = "exactly-once"
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8  # uploads at once
    retry_initial: Annotated[Seconds, within("1ms", "1m")] = Seconds(0.2)
    retry_max: Annotated[Seconds, within("1ms", "1h")] = Seconds(30)


class S3Config(Section, frozen=True, kw_only=True):
    """The S3 client. Credentials come from AWS's default chain: environment, profile, web identity, role."""

    endpoint_url: Url | None = None
    region: Text | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    kms_key_id: Text | None = None
    connect_timeout: Timeout = Seconds(5)
    read_timeout: Timeout = Seconds(60)
    # For one attempt, from connecting to the response.
    put_timeout: Annotated[Seconds, within("100ms", "1h")] = Seconds(120)


class SnowflakeConfig(Section, frozen=True, kw_only=True):
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
    confirm_interval: Annotated[Seconds, within("1s", "1d")] = Seconds(300)
    # An object that is not loaded within this time counts as missing.
    late: Annotated[Seconds, within("1s", "7d")] = Seconds(3600)


class WarehouseConfig(Section, frozen=True, kw_only=True):
    """The local warehouse, a stand-in for Snowflake: loads landed objects into a table in a file."""

    kind: Literal["none", "local"] = "none"
    # The database file; None: one for each sink, in a local sink's directory or in ./data.
    path: Text | None = None
    poll: Annotated[Seconds, within("100ms", "1h")] = Seconds(1)  # between two listings of the sink
    queue_url: Url | None = None  # an SQS queue that the bucket notifies; None: the sink is listed


class PageConfig(Section, frozen=True, kw_only=True):
    """The live page, served with the HTTP endpoints."""

    enabled: bool = False
    controls: bool = False  # buttons that pause and disturb the run, for demos
    # A small shop for the audience, whose clicks are ingested beside simulated events; only with source = simulator.
    shop: bool = False


class HealthConfig(Section, frozen=True, kw_only=True):
    """The HTTP endpoints, and the limits of readiness."""

    enabled: bool = True
    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464  # 0 picks a free one
    # Names in the Host header that /metrics and /status answer to, beside IP addresses and localhost.
    allowed_hosts: Annotated[tuple[HostName, ...], Meta(min_length=0, max_length=100)] = ()
    # Not ready when the oldest unlanded record is older than this plus the batch interval.
    stall: Annotated[Seconds, within("1s", "1d")] = Seconds(120)
    no_partition: Annotated[Seconds, within("1s", "1h")] = Seconds(60)  # not ready without a partition for longer
    source_unavailable: Annotated[Seconds, within("1s", "10m")] = Seconds(70)  # not ready if it fails for longer
    loop_lag: Annotated[Seconds, within("100ms", "10m")] = Seconds(3)  # not ready when the event loop was late by more
    # No progress for this long with lag and a healthy sink: rebuild the source, then exit.
    progress_timeout: Annotated[Seconds, within("1s", "1d")] = Seconds(300)


class CollectSource(Section, frozen=True, kw_only=True):
    """One sender of events over HTTP: a table of its own, ``[collect.sources.NAME]``."""

    kind: Literal[
        "native", "segment", "rudderstack", "snowplow", "web",
        "sendgrid", "mailgun", "ses", "postmark", "mandrill", "hubspot", "salesforce", "webhook",
    ]  # fmt: skip
    # Its keys, one a line, of which two are valid at once for a rotation: read again when the file changes.
    key_file: Text | None = None
    # Web pages that may send; none: those of [collect].
    origins: Annotated[tuple[Origin, ...], Meta(min_length=0, max_length=1000)] = ()
    rate: Annotated[Rate, within("1/min", "100000000/min")] = Rate(60_000)  # of events
    mapping: Text | None = None  # a TOML file: names of the sender's events and fields
    # ses: the SNS topics whose messages are taken.
    topic_arns: Annotated[tuple[TopicArn, ...], Meta(min_length=0, max_length=100)] = ()
    organization_id: Text | None = None  # salesforce


class CollectConfig(Section, frozen=True, kw_only=True):
    """The collector: takes events over HTTP, for Kafka (`ingestd collect`) or the journal (source = collector)."""

    host: Text = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080  # 0 picks a free one
    public_url: Url | None = None  # as senders know it; some vendors sign it
    # Networks whose X-Forwarded-For is believed.
    trusted_proxies: Annotated[tuple[Network, ...], Meta(min_length=0, max_length=100)] = ()
    topic: Name = "marketing_events"
    ack_timeout: Annotated[Seconds, within("100ms", "1m")] = Seconds(5)  # then 503, and the sender sends again
    journal: Text | None = None  # the SQLite file; None: no journal behind Kafka, ./data/journal.sqlite without Kafka
    journal_bytes: Annotated[Size, within("1MiB", "1024GiB")] = Size(1 << 30)
    max_body: Annotated[Size, within("1KiB", "16MiB")] = Size(512 << 10)  # after decompression
    max_connections: Annotated[int, Meta(ge=16, le=100_000)] = 1000
    # For all bodies in flight, at least two of `max_body`; 503 beyond.
    body_memory: Annotated[Size, within("1MiB", "16GiB")] = Size(64 << 20)
    origins: Annotated[tuple[Origin, ...], Meta(min_length=0, max_length=1000)] = ()  # web pages that may send
    gpc: Literal["drop", "anonymise", "ignore"] = "anonymise"  # Sec-GPC: 1
    dnt: Literal["drop", "anonymise", "ignore"] = "ignore"  # DNT: 1
    ip: Literal["truncate", "drop", "keep"] = "truncate"  # to /24 and /48
    bots: Literal["flag", "ignore"] = "flag"
    sources: Mapping[str, CollectSource] = {}


class LogConfig(Section, frozen=True, kw_only=True):
    """Logging."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["auto", "json", "text"] = "auto"  # auto: text on a terminal, JSON elsewhere


_ROW_ORIGINS = {"kinesis": RowOrigin.WIDE_OFFSET, "sqs": RowOrigin.MESSAGE_ID}


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    source: Literal["kafka", "kinesis", "sqs", "simulator", "collector"] = "kafka"
    duration: Annotated[Seconds, within("100ms", "3650d")] | None = None  # stop after this time
    # From a signal, or the end of `duration`, to the forced stop.
    grace: Annotated[Seconds, within("100ms", "1h")] = Seconds(60)
    kafka: KafkaConfig = KafkaConfig()
    registry: RegistryConfig = RegistryConfig()
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
    def has_shop(self) -> bool:
        """Whether the page offers the shop: beside live simulated events."""
        return self.page.enabled and self.page.shop and self.source == "simulator" and self.simulator.history is None

    @property
    def fenced(self) -> bool:
        """Whether a manifest precedes each batch of a queue, and fences keep messages from landing twice."""
        return self.sqs.delivery == "fenced" and self.sink.delivery == "exactly-once"

    @property
    def wide(self) -> bool:
        """Whether positions of this source are longer than 64 bits."""
        return self.row_origin is RowOrigin.WIDE_OFFSET
