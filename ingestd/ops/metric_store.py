"""Counters and histograms by the rows of a table, and their text for Prometheus."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Generic, Literal, NamedTuple, TypeVar

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.ops.histogram import Histogram

PREFIX = "ingestd_"
SECOND_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

Samples = Iterable[tuple[Sequence[str], float]]
E = TypeVar("E", bound=Enum)


class MetricRow(NamedTuple):
    """One line of the table of metrics."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


def counter(name: str, help_text: str, *labels: str) -> MetricRow:
    return MetricRow(f"{PREFIX}{name}_total", "counter", labels, help_text)


def gauge(name: str, help_text: str, *labels: str) -> MetricRow:
    return MetricRow(PREFIX + name, "gauge", labels, help_text)


def histogram(name: str, help_text: str, bounds: tuple[float, ...], *labels: str) -> MetricRow:
    return MetricRow(PREFIX + name, "histogram", labels, help_text, bounds)


class MetricStore(Generic[E]):
    """The values of counters and histograms. The value of each member of the enum is its row."""

    def __init__(self, members: type[E], elsewhere: Collection[E] = ()) -> None:
        """The counters in `elsewhere` are given to `families`."""
        self._members = members
        self._values: dict[E, dict[tuple[str, ...], float]] = {
            member: {} if member.value.labels else {(): 0}
            for member in members
            if member.value.type == "counter" and member not in elsewhere
        }
        self._histograms: dict[E, dict[tuple[str, ...], Histogram]] = {
            member: {} if member.value.labels else {(): Histogram(member.value.bounds)}
            for member in members
            if member.value.type == "histogram"
        }

    def add(self, member: E, amount: int, *labels: str) -> None:
        values = self._values[member]
        values[labels] = values.get(labels, 0) + amount

    def observe(self, member: E, value: float, *labels: str) -> None:
        known = self._histograms[member]
        if (found := known.get(labels)) is None:
            found = known[labels] = Histogram(member.value.bounds)
        found.observe(value)

    def start(self, labels: tuple[str, ...], *values: str) -> None:
        """Counters with exactly these labels have these values of them from now on, with 0.

        A rate over a counter that appears with 1 would miss that one.
        """
        for member, known in self._values.items():
            if member.value.labels == labels:
                known.setdefault(values, 0)

    def label_values(self, member: E) -> dict[str, int]:
        """The count of each value of a counter's only label."""
        return {label: int(count) for (label,), count in self._values[member].items()}

    def families(self, gauges: Mapping[E, Samples], elsewhere: Mapping[E, Samples]) -> Iterator[Metric]:
        """What is exported, in the order of the enum. A gauge without samples is not known yet."""
        for member in self._members:
            row = member.value
            if row.type == "histogram":
                distribution = HistogramMetricFamily(row.name, row.help, labels=row.labels)
                for labels, found in self._histograms[member].items():
                    distribution.add_metric(labels, found.buckets(), found.total)
                yield distribution
            elif row.type == "counter":
                count = CounterMetricFamily(row.name, row.help, labels=row.labels)
                for names, value in elsewhere[member] if member in elsewhere else self._values[member].items():
                    count.add_metric(names, value)
                yield count
            else:
                level = GaugeMetricFamily(row.name, row.help, labels=row.labels)
                for names, value in gauges.get(member, ()):
                    level.add_metric(names, value)
                yield level


class Exposition(Collector):
    """What a scrape gets: the families of a function, and the usual metrics of the process."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def response(self) -> tuple[bytes, str]:
        """The body and content type of a response to a scrape."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterable[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        """Empty, so that registering does not read the status."""
        return ()
