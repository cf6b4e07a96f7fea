"""Makes the parts that a configuration names: beside the ports' own packages, only this file knows which there are.

Clients are imported where they are used: each takes its time to load.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ingestd.config.model import Config
from ingestd.core.breaker import Breaker
from ingestd.core.chain import ChainPolicy
from ingestd.core.events import Model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.validation import Validator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.ingest import Pipeline
from ingestd.pipeline.partition_writer import Dependencies
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

if TYPE_CHECKING:
    from ingestd.demo.page.demo import Demo
    from ingestd.demo.warehouse.local_loader import LocalLoader
    from ingestd.snowflake.load_monitor import LoadMonitor
    from ingestd.sources.kafka import Inspector

T = TypeVar("T")


def run(main: Coroutine[object, object, T]) -> T:
    """Run `main` on a new event loop, the fastest there is."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  it does not exist everywhere
    except ImportError:
        return None
    return uvloop.new_event_loop


def make_source(config: Config) -> Source:
    """The one that ``source`` names."""
    if config.source == "simulator":
        from ingestd.sources.simulator.source import SimulatorSource  # noqa: PLC0415

        return SimulatorSource(config.simulator)
    from ingestd.sources.kafka import KafkaSource  # noqa: PLC0415

    return KafkaSource(config.kafka)


def make_onlooker(config: Config) -> Source:
    """The one that ``source`` names, leaving no trace there: neither a member of the group nor a commit."""
    if config.source == "simulator":
        return make_source(config)
    from ingestd.sources.kafka import ReadOnlySource  # noqa: PLC0415

    return ReadOnlySource(config.kafka)


def make_layout(config: Config) -> ObjectKeys:
    """The names of objects."""
    return ObjectKeys(config.sink.lineage, exactly_once=config.sink.delivery == "exactly-once")


def make_pipeline(config: Config, tools: Dependencies, validator: Validator) -> Pipeline:
    """The flow from one to the other."""
    layout = make_layout(config)
    policy = ChainPolicy(
        layout, layout.mark(tools.sink.url), config.kafka.skip_lost, replayable=config.source != "simulator"
    )
    return Pipeline(
        config.batch,
        tools,
        validator,
        Breaker(config.breaker),
        policy,
        revoke_timeout=config.kafka.rebalance_timeout / 2,
    )


def make_sink(config: Config, *, connections: int = 2) -> Sink:
    """The one that ``sink.url`` names; `connections` are for calls beside the uploads."""
    url = config.sink.url
    if url.startswith("s3://"):
        from ingestd.sinks.s3 import S3Sink  # noqa: PLC0415

        exactly_once = config.sink.delivery == "exactly-once"
        return S3Sink(url, config.s3, connections=config.sink.concurrency + connections, conditional=exactly_once)
    from ingestd.sinks.local import LocalSink  # noqa: PLC0415

    return LocalSink(Path(url))


def make_pipe(config: Config, model: Model, sink: Sink) -> "LocalLoader | None":
    """The local Snowpipe with its warehouse; None where there is none. ConfigError where it is not installed."""
    if config.warehouse.kind == "none":
        return None
    from ingestd.demo.warehouse import needed_by  # noqa: PLC0415

    with needed_by("warehouse.kind = local"):
        from ingestd.demo.warehouse.database import Warehouse  # noqa: PLC0415
        from ingestd.demo.warehouse.local_loader import LocalLoader  # noqa: PLC0415
        from ingestd.demo.warehouse.sqs_events import SqsEvents  # noqa: PLC0415
    from ingestd.snowflake.table import columns  # noqa: PLC0415

    settings = config.warehouse
    warehouse = Warehouse(Path(settings.path), config.snowflake)
    events = SqsEvents(settings.queue_url, sink.url, config.s3.region) if settings.queue_url is not None else None
    return LocalLoader(settings, warehouse, columns(model), sink, events)


def make_confirmation(config: Config, sink: Sink, guard: SinkRetrier, metrics: Metrics) -> "LoadMonitor | None":
    """What follows objects into Snowflake's table; None where it is not wanted. ConfigError without the extra."""
    settings = config.snowflake
    if not settings.confirm and settings.delivery != "rest":
        return None
    from ingestd.snowflake.connection import load_connector  # noqa: PLC0415
    from ingestd.snowflake.load_monitor import LoadMonitor  # noqa: PLC0415
    from ingestd.snowflake.load_queries import ask_once  # noqa: PLC0415
    from ingestd.snowflake.rest import Endpoint  # noqa: PLC0415
    from ingestd.snowflake.stage_location import stage_location  # noqa: PLC0415

    load_connector()
    return LoadMonitor(
        settings,
        root=stage_location(config).root,
        sink=sink,
        layout=make_layout(config),
        guard=guard,
        metrics=metrics,
        ask=partial(ask_once, settings),
        name=Endpoint(settings).insert_files if settings.delivery == "rest" else None,
    )


def make_stage(config: Config, source: Source, sink: Sink) -> "Demo | None":
    """The page's place around the flow; None where there is no page."""
    if not config.page.enabled:
        return None
    from ingestd.demo.page.demo import Demo  # noqa: PLC0415
    from ingestd.sources.simulator.source import SimulatorSource  # noqa: PLC0415

    is_live = config.simulator.history is None
    director = source.director if isinstance(source, SimulatorSource) and is_live else None
    return Demo(config, sink, make_layout(config), director)


def open_inspector(config: Config) -> "AbstractAsyncContextManager[Inspector]":
    """Who looks at the topics and the group from outside."""
    from ingestd.sources.kafka import open_inspector  # noqa: PLC0415

    return open_inspector(config.kafka)
