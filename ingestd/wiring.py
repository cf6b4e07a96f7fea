"""Builds the parts that a configuration names. With `inspection`, it knows concrete sources and sinks.

Clients are imported where they are used, because each takes its time to load.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ingestd.config.model import BreakerConfig, Config
from ingestd.core import json_validation
from ingestd.core.breaker import Breaker
from ingestd.core.chain import ChainPolicy
from ingestd.core.chain_words import KAFKA, KINESIS
from ingestd.core.events import Model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.queue_keys import QueueKeys
from ingestd.core.sink_url import parse_sink_url
from ingestd.core.validation import Validator
from ingestd.core.values.base import ValueSource
from ingestd.ops import loop_errors
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.flow import Flow, FlowSource
from ingestd.pipeline.ingest import Pipeline
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sinks.state_store import SinkStateStore
from ingestd.sources.base import Source

if TYPE_CHECKING:
    from ingestd.demo.page.demo import Demo
    from ingestd.demo.warehouse.local_loader import LocalLoader
    from ingestd.snowflake.load_monitor import LoadMonitor
    from ingestd.sources.journal.journal import Journal
    from ingestd.sources.sqs.port import QueueSource

T = TypeVar("T")

#: Of the collector's source: everybody could stop the daemon who knows a key, such as that in a web page.
NO_BREAKER = BreakerConfig(max_share=1.0, max_consecutive=10**9)

# Reads of the load monitor: as many at once as the sink has connections besides the uploads.
MONITOR_CONCURRENCY = 2
MONITOR_EFFECT = "the load monitor retries, uploads are not affected"
# Of a source's state: the same.
STATE_CONCURRENCY = 2
STATE_EFFECT = "the source retries; it begins with a shard, and shares shards with other daemons, once it is answered"


def run(main: Coroutine[object, object, T]) -> T:
    """Run `main` on a new event loop: uvloop's, if it is installed."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.get_loop().set_exception_handler(loop_errors.handle)
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  it does not exist everywhere
    except ImportError:
        return None
    return uvloop.new_event_loop


def make_source(config: Config, sink: Sink) -> Source:
    """The source that ``source`` names; not that of the collector, which needs its journal.

    What a source keeps about itself is in `sink`.
    """
    if config.source == "simulator":
        from ingestd.sources.simulator.source import SimulatorSource  # noqa: PLC0415

        return SimulatorSource(config.simulator)
    if config.source == "kinesis":
        return make_kinesis_source(config, sink, read_only=False)
    from ingestd.sources.kafka import KafkaSource  # noqa: PLC0415

    return KafkaSource(config.kafka)


def make_kafka_onlooker(config: Config) -> Source:
    """Reads the topics without joining the group."""
    from ingestd.sources.kafka import ReadOnlySource  # noqa: PLC0415

    return ReadOnlySource(config.kafka)


def make_kinesis_source(config: Config, sink: Sink, *, read_only: bool) -> Source:
    from ingestd.sources.kinesis.source import KinesisSource  # noqa: PLC0415

    state = make_state_store(config, sink)
    return KinesisSource(config.kinesis, state, config.sink.lineage, read_only=read_only)


def make_state_store(config: Config, sink: Sink) -> SinkStateStore:
    """The state of a source in the sink, with calls of its own: uploads must not keep a daemon from saying it lives."""
    keys = make_keys(config)
    retrier = SinkRetrier(config.sink, concurrency=STATE_CONCURRENCY, effect=STATE_EFFECT)
    return SinkStateStore(sink, retrier, keys, config.source)


class FlowParts(NamedTuple):
    """What a flow needs besides its source."""

    sink: Sink
    retrier: SinkRetrier
    metrics: Metrics
    executor: Executor  # for compression
    validator: Validator
    landed: Callable[[str], None]  # called with the key of each data object


class Stream(NamedTuple):
    """A source, and how the flow from it is built."""

    source: FlowSource
    make_flow: Callable[[FlowParts], Flow]


def make_stream(config: Config, journal: "Journal | None", sink: Sink) -> Stream:
    """What the daemon runs. What a source keeps about itself is in `sink`; the collector's source needs its journal."""
    if config.source == "sqs":
        queue = make_queue_source(config)
        return Stream(queue, partial(make_queue_flow, config, queue))
    if journal is None:
        source = make_source(config, sink)
    elif config.has_shop:
        source = _make_audience_source(config, journal, sink)
    else:
        source = make_journal_source(config, journal)
    return Stream(source, partial(_make_chain_flow, config, source))


def _make_audience_source(config: Config, journal: "Journal", sink: Sink) -> Source:
    """Simulated events, and beside them those of the shop's visitors."""
    from ingestd.demo.shop import TOPIC  # noqa: PLC0415
    from ingestd.sources.joint import JointSource  # noqa: PLC0415
    from ingestd.sources.journal.source import JournalSource  # noqa: PLC0415

    simulator = make_source(config, sink)
    return JointSource(simulator.source_id, simulator.capabilities, [simulator, JournalSource(journal, TOPIC)])


def make_queue_source(config: Config) -> "QueueSource":
    """The queue that ``sqs.queue_url`` names."""
    from ingestd.sources.sqs.source import SqsSource  # noqa: PLC0415

    return SqsSource(config.sqs)


def _make_chain_flow(config: Config, source: Source, parts: FlowParts) -> Flow:
    dependencies = Dependencies(
        source=source,
        sink=parts.sink,
        retrier=parts.retrier,
        metrics=parts.metrics,
        executor=parts.executor,
        wall_clock=time.time,
        landed=parts.landed,
    )
    return make_pipeline(config, dependencies, parts.validator)


def make_queue_flow(config: Config, source: "QueueSource", parts: FlowParts) -> Flow:
    """The flow from a queue."""
    from ingestd.pipeline.queue.dependencies import QueueDependencies  # noqa: PLC0415
    from ingestd.pipeline.queue.flow import QueuePipeline  # noqa: PLC0415
    from ingestd.sources.sqs.port import clock  # noqa: PLC0415

    dependencies = QueueDependencies(
        source=source,
        sink=parts.sink,
        retrier=parts.retrier,
        metrics=parts.metrics,
        executor=parts.executor,
        keys=QueueKeys(config.sink.lineage),
        clock=clock,
        wall_clock=time.time,
        visibility=config.sqs.visibility,
        fenced=config.fenced,
        random=SystemRandom(),
        landed=parts.landed,
    )
    breaker = Breaker(config.breaker)
    return QueuePipeline(config.batch, dependencies, parts.validator, breaker, receivers=config.sqs.receivers)


def make_validator(config: Config, model: Model) -> Validator:
    """The validator of events from the source."""
    return json_validation.make_validator(config.events, model, config.row_origin, make_values(config))


def make_values(config: Config) -> ValueSource | None:
    """What decodes values that are not JSON; None where all are."""
    if config.source != "kafka" or config.kafka.value_format == "json":
        return None
    from ingestd.sources import registry  # noqa: PLC0415

    return registry.make_values(config)


def make_journal_source(config: Config, journal: "Journal") -> Source:
    """The source of the collector: what is in its journal."""
    from ingestd.sources.journal.source import JournalSource  # noqa: PLC0415

    return JournalSource(journal, config.collect.topic)


def make_keys(config: Config) -> ObjectKeys:
    """The naming of objects."""
    exactly_once = config.sink.delivery == "exactly-once"
    return ObjectKeys(config.sink.lineage, exactly_once=exactly_once, wide=config.wide)


def make_pipeline(config: Config, dependencies: Dependencies, validator: Validator) -> Pipeline:
    """The flow from the source to the sink."""
    keys, source = make_keys(config), dependencies.source
    commit_tag = keys.commit_tag(dependencies.sink.url)
    policy = ChainPolicy(
        keys,
        commit_tag,
        skip_lost={"kafka": config.kafka.skip_lost, "kinesis": config.kinesis.skip_lost}.get(config.source, False),
        replayable=source.capabilities.replayable,
        fork=config.source == "kafka" and config.kafka.on_truncation == "fork",
        has_commits=source.capabilities.has_commits,
        words=KINESIS if config.source == "kinesis" else KAFKA,
    )
    return Pipeline(
        config.batch,
        dependencies,
        validator,
        Breaker(NO_BREAKER if config.source == "collector" else config.breaker),
        policy,
        revoke_timeout=source.revoke_timeout,
    )


def make_sink(config: Config, *, connections: int = MONITOR_CONCURRENCY + STATE_CONCURRENCY) -> Sink:
    """The sink that ``sink.url`` names; `connections` are for calls besides the uploads."""
    return _SINKS[parse_sink_url(config.sink.url).kind](config, connections)


def _make_s3_sink(config: Config, connections: int) -> Sink:
    from ingestd.sinks.s3 import S3Sink  # noqa: PLC0415

    total, exactly_once = config.sink.concurrency + connections, config.sink.delivery == "exactly-once"
    return S3Sink(config.sink.url, config.s3, connections=total, conditional=exactly_once)


def _make_local_sink(config: Config, _: int) -> Sink:
    from ingestd.sinks.local import LocalSink  # noqa: PLC0415

    return LocalSink(Path(config.sink.url))


#: By the scheme of ``sink.url``; ``config.validate`` refuses all others.
_SINKS: dict[str, Callable[[Config, int], Sink]] = {"s3": _make_s3_sink, "file": _make_local_sink}


def make_local_loader(config: Config, model: Model, sink: Sink) -> "LocalLoader | None":
    """The loader of the local warehouse; None if it is off. ConfigError if its extra is not installed."""
    if config.warehouse.kind == "none":
        return None
    from ingestd.demo.warehouse import needed_by  # noqa: PLC0415

    with needed_by("warehouse.kind = local"):
        from ingestd.demo.warehouse.local_loader import LocalLoader  # noqa: PLC0415
        from ingestd.demo.warehouse.location import warehouse_file  # noqa: PLC0415
        from ingestd.demo.warehouse.process import WarehouseProcess  # noqa: PLC0415
        from ingestd.demo.warehouse.sqs_events import SqsEvents  # noqa: PLC0415
    from ingestd.snowflake.table import columns_of  # noqa: PLC0415

    settings = config.warehouse
    warehouse = WarehouseProcess(warehouse_file(config), config.snowflake)
    events = SqsEvents(settings.queue_url, sink.url, config.s3.region) if settings.queue_url is not None else None
    return LocalLoader(settings, warehouse, columns_of(config, model), sink, events)


def make_load_monitor(config: Config, sink: Sink, metrics: Metrics) -> "LoadMonitor | None":
    """The monitor of loads into Snowflake; None if it is off. ConfigError if its extra is not installed."""
    settings = config.snowflake
    if not settings.confirm and settings.delivery != "rest":
        return None
    from ingestd.snowflake.connection import load_connector  # noqa: PLC0415
    from ingestd.snowflake.load_monitor import LoadMonitor  # noqa: PLC0415
    from ingestd.snowflake.load_queries import query_history  # noqa: PLC0415
    from ingestd.snowflake.rest import PipeEndpoint  # noqa: PLC0415
    from ingestd.snowflake.stage_location import stage_location  # noqa: PLC0415

    load_connector()
    return LoadMonitor(
        settings,
        root=stage_location(config).root,
        sink=sink,
        layout=make_keys(config),
        retrier=SinkRetrier(config.sink, concurrency=MONITOR_CONCURRENCY, effect=MONITOR_EFFECT),
        metrics=metrics,
        query_history=partial(query_history, settings),
        submit=PipeEndpoint(settings).submit if settings.delivery == "rest" else None,
    )


def make_demo(config: Config, source: FlowSource, sink: Sink, validator: Validator) -> "Demo | None":
    """The live page around the flow, which watches `validator`; None if it is off."""
    if not config.page.enabled:
        return None
    from ingestd.demo.page.demo import Demo  # noqa: PLC0415
    from ingestd.sources.joint import JointSource  # noqa: PLC0415
    from ingestd.sources.simulator.source import SimulatorSource  # noqa: PLC0415

    is_live = config.simulator.history is None
    simulated = source.parts[0] if isinstance(source, JointSource) else source
    director = simulated.controls if isinstance(simulated, SimulatorSource) and is_live else None
    return Demo(config, sink, make_keys(config), director, validator)
