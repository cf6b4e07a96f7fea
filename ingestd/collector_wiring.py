"""Builds the collector that a configuration names: in front of Kafka, in front of a journal, or behind the demo's shop.

As in `wiring`, what takes its time to load is imported where it is used.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ingestd.config.model import CollectConfig, CollectSource, Config
from ingestd.config.types import Rate
from ingestd.core.events import Model
from ingestd.core.json_validation import make_validator
from ingestd.ops.collect_metrics import CollectMetrics

if TYPE_CHECKING:
    from ingestd.collect.service import CollectorService
    from ingestd.demo.shop.server import ShopServer
    from ingestd.sources.journal.journal import Journal

DEFAULT_JOURNAL = "./data/journal.sqlite"  # of source = collector
REFUSED_SHARE = 16  # of the journal's bytes, for events that the topic refuses
MIN_JOURNAL_BYTES = 1 << 20
SHOP_JOURNAL_BYTES = 64 << 20
SHOP_RATE = Rate(6_000)  # events a minute, of all visitors


def make_source_journal(config: Config) -> "Journal | None":
    """The journal that the daemon reads itself, not open yet; None where its source has none."""
    if config.source == "collector":
        return make_journal(config.collect)
    if not config.has_shop:
        return None
    from ingestd.demo.warehouse.location import warehouse_file  # noqa: PLC0415
    from ingestd.sources.journal.journal import Journal  # noqa: PLC0415

    return Journal(warehouse_file(config).with_suffix(".shop.sqlite"), SHOP_JOURNAL_BYTES)


def make_journal(collect: CollectConfig) -> "Journal":
    """The journal of the collector, not open yet."""
    from ingestd.sources.journal.journal import Journal  # noqa: PLC0415

    return Journal(journal_path(collect), int(collect.journal_bytes))


def journal_path(collect: CollectConfig) -> Path:
    """The file of the journal, where there is one."""
    return Path(collect.journal or DEFAULT_JOURNAL)


def make_collector(
    config: Config, model: Model, metrics: CollectMetrics, journal: "Journal | None" = None
) -> "CollectorService":
    """The collector: it delivers to `journal`, or to Kafka where there is none. ConfigError where a key is missing."""
    from ingestd.collect.delivery import JournalDelivery, KafkaDelivery, Spool  # noqa: PLC0415
    from ingestd.collect.endpoints import make_endpoints  # noqa: PLC0415
    from ingestd.collect.request import RequestPath  # noqa: PLC0415
    from ingestd.collect.server import CollectServer  # noqa: PLC0415
    from ingestd.collect.service import CollectorService, CountedDelivery  # noqa: PLC0415
    from ingestd.sources.journal.journal import Journal  # noqa: PLC0415

    collect, refused, kafka = config.collect, None, None
    endpoints = make_endpoints(collect, make_validator(config.events, model))
    delivery: JournalDelivery | KafkaDelivery
    if journal is not None:
        delivery = JournalDelivery(journal, collect.ack_timeout)
    else:
        from ingestd.sources.kafka.sender import KafkaSender  # noqa: PLC0415

        spool = None
        if collect.journal is not None:
            journal, path = make_journal(collect), Path(collect.journal)
            bound = max(MIN_JOURNAL_BYTES, int(collect.journal_bytes) // REFUSED_SHARE)
            refused = Journal(path.with_name(f"{path.stem}-refused{path.suffix}"), bound)
            spool = Spool(journal, refused)
        delivery = kafka = KafkaDelivery(KafkaSender(config.kafka, collect.topic), collect.ack_timeout, spool)
    counted = CountedDelivery(delivery, metrics)
    requests = RequestPath(collect, endpoints.by_source, endpoints.routes, counted, metrics, keys=endpoints.keys)
    server = CollectServer(collect, requests, metrics)
    return CollectorService(
        server, collect.host, delivery, counted, metrics,
        ack_timeout=collect.ack_timeout, journal=journal, refused=refused, kafka=kafka,
    )  # fmt: skip


def make_shop(
    config: Config, model: Model, metrics: CollectMetrics, journal: "Journal"
) -> "tuple[ShopServer, CollectorService]":
    """The shop, and the collector behind it, which listens on the page's own port. ConfigError without the extra."""
    from ingestd.collect.delivery import JournalDelivery  # noqa: PLC0415
    from ingestd.collect.endpoints import make_endpoints  # noqa: PLC0415
    from ingestd.collect.request import RequestPath  # noqa: PLC0415
    from ingestd.collect.service import CollectorService, CountedDelivery  # noqa: PLC0415
    from ingestd.demo.shop import SOURCE, TOPIC  # noqa: PLC0415
    from ingestd.demo.warehouse import needed_by  # noqa: PLC0415

    with needed_by("page.shop = true"):
        from ingestd.demo.shop.server import ShopServer  # noqa: PLC0415

    # The server checks origins itself: they must be its own, under whatever name a visitor knows it.
    source = CollectSource(kind="web", origins=("*",), rate=SHOP_RATE)
    collect = msgspec.structs.replace(config.collect, topic=TOPIC, sources={SOURCE: source}, ip="drop")
    endpoints = make_endpoints(collect, make_validator(config.events, model))
    delivery = JournalDelivery(journal, collect.ack_timeout)
    counted = CountedDelivery(delivery, metrics)
    shop = ShopServer(
        RequestPath(collect, endpoints.by_source, endpoints.routes, counted, metrics, keys=endpoints.keys)
    )
    service = CollectorService(
        shop, config.health.host, delivery, counted, metrics, ack_timeout=collect.ack_timeout, journal=journal
    )
    return shop, service
