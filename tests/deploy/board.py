"""What the dashboard shows: rows of panels, and the queries of each."""

from typing import NamedTuple


class Query(NamedTuple):
    expr: str  # PromQL, with Grafana's variables
    legend: str


class Panel(NamedTuple):
    title: str
    description: str
    unit: str  # one of Grafana's
    queries: tuple[Query, ...]
    elsewhere: bool = False  # there is data only with Snowflake or a schema registry, or after an accident


class Row(NamedTuple):
    title: str
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    rows: tuple[Row, ...]

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]


_CHOSEN = 'job=~"$job",instance=~"$instance"'
_IN_TIME = ',le="300.0"'


def _of(name: str, more: str = "") -> str:
    return f"ingestd_{name}{{{_CHOSEN}{more}}}"


def _rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate({_of(name)}[$__rate_interval]))"


def _quantile(share: float, name: str) -> Query:
    buckets = f"sum by (le) (rate({_of(f'{name}_bucket')}[$__rate_interval]))"
    return Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}")


def _one(title: str, description: str, unit: str, expr: str, legend: str, *, elsewhere: bool = False) -> Panel:
    return Panel(title, description, unit, (Query(expr, legend),), elsewhere)


def _quantiles(title: str, description: str, name: str, *, elsewhere: bool = False) -> Panel:
    return Panel(title, description, "s", (_quantile(0.5, name), _quantile(0.99, name)), elsewhere)


_STATE = (
    _one("Ready", "1 while /readyz answers 200.", "short", _of("ready"), "{{instance}}"),
    _one(
        "Reasons not to be ready", "1 for each reason; the runbook has a section for each.", "short",
        f"sum by (reason) ({_of('not_ready')}) > 0", "{{reason}}",
    ),
    _one("Assigned partitions", "By daemon.", "short", _of("partitions"), "{{instance}}"),
    _one(
        "Halted partitions", "Operator action required.", "short",
        f"sum by (topic) ({_of('partition_halted')})", "{{topic}}",
    ),
)  # fmt: skip
_VOLUME = (
    _one("Accepted events by type", "Events a second.", "eps", _rate("events_accepted_total", "event_type"),
         "{{event_type}}"),
    Panel(
        "Records consumed and landed", "Read from Kafka, and written as rows.", "cps",
        (
            Query(_rate("records_consumed_total", "topic"), "{{topic}} consumed"),
            Query(_rate("records_landed_total", "topic"), "{{topic}} landed"),
        ),
    ),
    _one("Landed row bytes", "Uncompressed: Snowpipe bills these.", "Bps", _rate("row_bytes_total", "topic"),
         "{{topic}}"),
)  # fmt: skip
_QUALITY = (
    _one("Rejected events by reason", "They are in the quarantine.", "eps", _rate("events_rejected_total", "reason"),
         "{{reason}}"),
    _one(
        "Share of rejected events", "The daemon stops above breaker.max_share.", "percentunit",
        f"sum(rate({_of('events_rejected_total')}[$__rate_interval]))"
        f" / sum(rate({_of('records_consumed_total')}[$__rate_interval]))",
        "rejected",
    ),
    _one(
        "Unaccounted records", "consumed - landed - quarantined - skipped - released - in flight: always 0.", "short",
        " - ".join(f"sum({_of(f'records_{name}')})" for name in
                   ("consumed_total", "landed_total", "quarantined_total", "skipped_total", "released_total",
                    "in_flight")),
        "records",
    ),
)  # fmt: skip
_BATCHES = (
    _one("Flushed batches by trigger", "If many are flushed by memory, batch.memory is too small.", "cps",
         _rate("batches_sealed_total", "trigger"), "{{trigger}}"),
    Panel(
        "Object size", "Compressed. Snowflake recommends 100 to 250 MB.", "bytes",
        (_quantile(0.5, "object_size_bytes"), _quantile(0.99, "object_size_bytes")),
    ),
    _quantiles("Batch age at flush", "From its first record.", "batch_age_seconds"),
)  # fmt: skip
_UPLOADS = (
    _quantiles("Upload duration", "One batch, including its quarantine object and retries.", "upload_duration_seconds"),
    _one("Upload retries by code", "Failed calls that are retried; nothing is lost.", "cps",
         _rate("upload_retries_total", "code"), "{{code}}"),
    Panel(
        "Landed and adopted objects", "Adopted: another writer wrote the object first.", "cps",
        (
            Query(_rate("objects_landed_total", "topic"), "{{topic}} landed"),
            Query(_rate("objects_adopted_total", "topic"), "{{topic}} adopted"),
        ),
    ),
    _quantiles("Commit duration", "From request to response.", "commit_duration_seconds"),
)  # fmt: skip
_LAG = (
    _one(
        "Lag", "Offsets up to the end of the log that have not landed.", "short",
        f"sum by (topic) (max by (topic, partition) ({_of('partition_lag_records')}))", "{{topic}}",
    ),
    _one(
        "Behind the end", "Of Kinesis shards and SQS queues: the worst of each.", "s",
        f"max by (topic) ({_of('partition_behind_seconds')})", "{{topic}}", elsewhere=True,
    ),
    _one(
        "Oldest unlanded record", "The worst partition of each topic.", "s",
        f"max by (topic) ({_of('partition_oldest_unlanded_seconds')})", "{{topic}}",
    ),
    _quantiles("Freshness", "Landing time minus Kafka timestamp of an object's last record.", "landing_delay_seconds"),
    _one(
        "Share of objects later than 5 minutes", "The objective is at most 1 % over 30 days.", "percentunit",
        f"1 - sum(rate({_of('landing_delay_seconds_bucket', _IN_TIME)}[$__rate_interval]))"
        f" / sum(rate({_of('landing_delay_seconds_count')}[$__rate_interval]))",
        "late",
    ),
)  # fmt: skip
_RESOURCES = (
    Panel(
        "Memory", "Resident memory, buffered records, and their limit (batch.memory).", "bytes",
        (
            Query(f"process_resident_memory_bytes{{{_CHOSEN}}}", "{{instance}} resident"),
            Query(_of("buffered_bytes"), "{{instance}} buffered"),
            Query(_of("buffer_budget_bytes"), "{{instance}} limit"),
        ),
    ),
    _one("CPU", "CPU-seconds a second, by daemon.", "short",
         f"rate(process_cpu_seconds_total{{{_CHOSEN}}}[$__rate_interval])", "{{instance}}"),
    _quantiles("Event loop lag", "How late the event loop runs a timer.", "loop_lag_seconds"),
    _one("Open files", "Including sockets.", "short", f"process_open_fds{{{_CHOSEN}}}", "{{instance}}"),
    Panel(
        "Rebalances and rebuilt consumers", "Since the daemon started.", "short",
        (
            Query(_of("rebalances_total"), "{{instance}} rebalances"),
            Query(_of("source_restarts_total"), "{{instance}} consumers rebuilt"),
        ),
    ),
    _one("Uptime", "By daemon.", "s", f"time() - {_of('start_time_seconds')}", "{{instance}}"),
)  # fmt: skip
_SNOWFLAKE = (
    Panel(
        "Landed and loaded rows", "The two lines should be close.", "cps",
        (
            Query(f"sum(rate({_of('records_landed_total')}[$__rate_interval]))", "landed"),
            Query(f"sum(rate({_of('snowflake_rows_loaded_total')}[$__rate_interval]))", "loaded"),
        ),
    ),
    _one("Rows not loaded yet", "Landed minus loaded.", "short", f"sum({_of('snowflake_unloaded_rows')})", "rows",
         elsewhere=True),
    _one("Oldest object not loaded yet", "Age since it landed.", "s",
         f"max({_of('snowflake_oldest_unloaded_seconds')})", "oldest", elsewhere=True),
    _quantiles("Loading delay", "Load time minus Kafka timestamp of an object's last record.",
               "snowflake_loading_delay_seconds", elsewhere=True),
    _one("Failed files", "Snowpipe does not retry them.", "short", f"max({_of('snowflake_failed_files')})", "files",
         elsewhere=True),
    _one("Age of the last comparison", "The other panels of this row are that old.", "s",
         f"max({_of('snowflake_compared_seconds')})", "age", elsewhere=True),
)  # fmt: skip
_REGISTRY = (
    Panel(
        "Requests to the schema registry", "Each schema is asked for once; failed requests hold records.", "reqps",
        (
            Query(_rate("registry_requests_total", "instance"), "{{instance}}"),
            Query(_rate("registry_failures_total", "instance"), "{{instance}} failed"),
        ),
        elsewhere=True,
    ),
    _one("Cached schemas", "Up to registry.cache_schemas.", "short", _of("registry_cached_schemas"), "{{instance}}",
         elsewhere=True),
)  # fmt: skip
_COLLECTOR = (
    _one("Collected events by source and outcome",
         "Each outcome but delivered, dropped, unavailable and refused is a fault.", "eps",
         _rate("collect_events_total", "source,outcome"), "{{source}} {{outcome}}"),
    _one("Requests by status", "503: the events were not safe in time, and the sender sends them again.", "reqps",
         _rate("collect_requests_total", "status,reason"), "{{status}} {{reason}}"),
    _quantiles("Delivery duration", "From a request's events to the acknowledgement of all of them.",
               "collect_delivery_seconds"),
    Panel(
        "Journal", "Its bytes, and their limit (collect.journal_bytes).", "bytes",
        (
            Query(_of("collect_journal_bytes"), "{{instance}}"),
            Query(_of("collect_journal_limit_bytes"), "{{instance}} limit"),
        ),
    ),
    _one("Oldest event in the journal", "0 while it is empty.", "s", _of("collect_journal_oldest_seconds"),
         "{{instance}}"),
    Panel(
        "Where events can go", "1 while events can be made safe, and while Kafka acknowledges them.", "short",
        (
            Query(_of("collect_available"), "{{instance}} safe"),
            Query(_of("collect_kafka_available"), "{{instance}} Kafka"),
        ),
    ),
)  # fmt: skip

BOARD = Board((
    Row("State", _STATE),
    Row("Volume", _VOLUME),
    Row("Quality", _QUALITY),
    Row("Batches", _BATCHES),
    Row("Uploads and commits", _UPLOADS),
    Row("Lag and freshness", _LAG),
    Row("Resources", _RESOURCES),
    Row("Snowflake", _SNOWFLAKE),
    Row("Schema registry", _REGISTRY),
    Row("Collector", _COLLECTOR),
))  # fmt: skip
