"""The collector's life cycle, what its status counts, and the endpoints that a configuration gives."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ingestd.collect.delivery import DeliveryCounts
from ingestd.collect.endpoints import make_endpoints
from ingestd.collect.messages import Acknowledgement, Collected, UnavailableError
from ingestd.collect.service import ANSWER_S, CollectorService, CountedDelivery
from ingestd.config.model import CollectConfig, CollectSource, EventsConfig
from ingestd.core.errors import ConfigError, ConfigErrors
from ingestd.core.events import load_model
from ingestd.core.validation import EventValidator, Validator
from ingestd.ops.collect_metrics import CollectMetrics

EVENT = Collected(b"12345", None)


class World:
    """Fakes of all parts, which note what is done with them in one list."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.metrics = CollectMetrics()
        self.journal, self.refused = Journal(self, "journal"), Journal(self, "refused")
        self.server, self.delivery = Server(self), Delivery(self)
        self.counted = CountedDelivery(self.delivery, self.metrics)

    def service(self, *, kafka: bool = False) -> CollectorService:
        return CollectorService(
            self.server, "127.0.0.1", self.delivery, self.counted, self.metrics,
            ack_timeout=5.0, journal=self.journal, refused=self.refused if kafka else None,
            kafka=self.delivery if kafka else None,
        )  # fmt: skip


class Server:
    def __init__(self, world: World) -> None:
        self._done = world.done
        self.grace: list[float] = []

    async def start(self) -> int:
        self._done.append("server starts")
        return 8080

    async def stop(self, grace: float) -> None:
        self._done.append("server stops")
        self.grace.append(grace)


class Delivery:
    def __init__(self, world: World) -> None:
        self._world = world
        self.counts = DeliveryCounts()
        self.error: str | None = None
        self.kafka_error: str | None = None
        self.where: Acknowledgement = "journal"

    async def start(self) -> None:
        self._world.done.append("delivery starts")

    async def stop(self) -> None:
        self._world.done.append("delivery stops")

    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement:
        if self.error is not None:
            raise UnavailableError(self.error)
        if self.where == "journal":
            self._world.journal.next_offset += len(events)
        else:
            self.counts.produced += len(events)
        return self.where


class Journal:
    def __init__(self, world: World, name: str) -> None:
        self._done, self._name = world.done, name
        self.first_offset = self.next_offset = 0
        self.size_bytes, self.max_bytes, self.oldest_timestamp = 100, 1000, None
        self.error: str | None = None

    async def open(self) -> None:
        self._done.append(f"{self._name} opens")

    async def close(self) -> None:
        self._done.append(f"{self._name} closes")


async def test_the_port_closes_first_and_the_journal_last() -> None:
    world = World()
    service = world.service(kafka=True)
    await service.open()
    await service.start()
    assert world.done == ["journal opens", "refused opens", "delivery starts", "server starts"]
    world.done.clear()
    await service.drain(60.0)
    await service.stop()
    await service.close()
    assert world.done == ["server stops", "server stops", "delivery stops", "refused closes", "journal closes"]


async def test_requests_in_flight_have_as_long_as_their_acknowledgement_takes() -> None:
    world = World()
    service = world.service()
    await service.drain(60.0)
    await service.drain(1.0)
    assert world.server.grace == [5.0 + ANSWER_S, 1.0]


async def test_what_was_accepted_is_produced_or_in_the_journal() -> None:
    world = World()
    world.journal.first_offset, world.journal.next_offset = 5, 12  # what a former process has left
    service = world.service()
    await service.open()
    await world.counted.deliver("web", 0, [EVENT] * 4)
    status = service.status()
    assert (status.accepted, status.safe, status.produced) == (4, 4, 0)
    world.journal.first_offset = 14  # the sink has all that was there before, and two more
    status = service.status()
    assert (status.accepted, status.safe, status.produced) == (4, 4, 9)
    assert status.journal is not None
    assert (status.journal.records, status.journal.at_start, status.journal.appended, status.journal.removed) == (
        2, 7, 4, 9,
    )  # fmt: skip


async def test_with_kafka_events_of_both_ways_count() -> None:
    world = World()
    service = world.service(kafka=True)
    await service.open()
    world.delivery.where = "kafka"
    await world.counted.deliver("web", 0, [EVENT] * 3)
    world.delivery.where = "journal"
    await world.counted.deliver("web", 0, [EVENT] * 4)
    world.journal.first_offset = 2
    world.delivery.counts.forwarded, world.delivery.counts.refused = 1, 1
    world.refused.next_offset = 1
    status = service.status()
    assert (status.accepted, status.safe, status.produced, status.kept_apart) == (7, 7, 4, 1)


async def test_events_that_were_answered_too_late_are_safe_and_not_accepted() -> None:
    world = World()
    service = world.service()
    await service.open()
    world.journal.next_offset = 3  # the append came to its end after the request's time was over
    status = service.status()
    assert (status.accepted, status.safe) == (0, 3)


async def test_events_that_may_not_be_safe_are_not_counted() -> None:
    world = World()
    world.delivery.error = "the disk is full"
    with pytest.raises(UnavailableError):
        await world.counted.deliver("web", 0, [EVENT])
    assert world.counted.accepted == 0


async def test_the_last_status_remains_after_the_end() -> None:
    world = World()
    service = world.service()
    await service.open()
    await world.counted.deliver("web", 0, [EVENT])
    await service.close()
    del world.journal.__dict__["next_offset"]  # a closed journal knows nothing
    assert service.status().accepted == 1


async def test_metrics_count_what_was_accepted_and_where() -> None:
    world = World()
    await world.service().open()
    await world.counted.deliver("web", 0, [EVENT] * 2)
    found = {sample.name: sample for family in world.metrics.families() for sample in family.samples if sample.value}
    assert found["ingestd_collect_events_accepted_total"].labels == {"where": "journal"}
    assert found["ingestd_collect_event_bytes_total"].value == 10
    assert found["ingestd_collect_events_safe_total"].value == 2


# -- endpoints


@pytest.fixture
def validator() -> Validator:
    return EventValidator(EventsConfig(), load_model(None))


def test_there_are_routes_for_the_configured_kinds_alone(validator: Validator) -> None:
    found = make_endpoints(CollectConfig(sources={"shop": CollectSource(kind="web")}), validator)
    assert found.by_source.keys() == {"shop"}
    assert not found.keys
    assert {route.path for route in found.routes} == {"/v1/events", "/i", "/pixel.gif"}


def test_every_kind_has_an_endpoint(tmp_path: Path, validator: Validator) -> None:
    file = tmp_path / "key"
    file.write_text("user:password")
    kinds = ("native", "web", "segment", "rudderstack", "snowplow", "mailgun", "postmark", "mandrill", "hubspot")
    sources = {kind: CollectSource(kind=kind, key_file=str(file)) for kind in kinds}  # type: ignore[arg-type]
    found = make_endpoints(CollectConfig(sources=sources, public_url="https://e.example.com"), validator)
    assert found.by_source.keys() == found.keys.keys() == set(kinds)
    assert {kind for route in found.routes for kind in route.kinds} >= set(kinds)


def test_all_sources_with_a_fault_are_told_at_once(validator: Validator) -> None:
    wrong = {name: CollectSource(kind="segment", key_file=f"/nowhere/{name}") for name in ("one", "two")}
    with pytest.raises(ConfigErrors) as caught:
        make_endpoints(CollectConfig(sources=wrong), validator)
    for name, error in zip(wrong, caught.value.errors, strict=True):
        assert f"/nowhere/{name}" in str(error)
    with pytest.raises(ConfigError, match="/nowhere/one"):
        make_endpoints(CollectConfig(sources={"one": wrong["one"]}), validator)
