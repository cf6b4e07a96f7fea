"""Counts records and objects since the start: plain state that exit codes and the demo's verification rely on. Pure."""

from collections import Counter
from collections.abc import Mapping

import msgspec

#: Labels that come from outside (event types, reasons) may take this many values; later ones count as "other".
MAX_LABEL_VALUES = 30
MAX_LABEL_LENGTH = 64
OTHER = "other"


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Records and objects since the start.

    ``consumed == landed + quarantined + skipped + released + in_flight`` at every instant. Skipped records are
    tombstones in the range of an object that landed. Released records were given up to another owner or to another
    daemon's object: that daemon lands them, or they are read again.
    """

    consumed: int = 0
    landed: int = 0
    quarantined: int = 0
    skipped: int = 0
    released: int = 0
    in_flight: int = 0
    objects: int = 0
    object_bytes: int = 0  # compressed
    adopted: int = 0  # objects
    rejected_by_reason: dict[str, int] = {}
    accepted_by_type: dict[str, int] = {}


class FlowCounters:
    """The counters of one daemon, by topic where nothing else is said. For one thread: the event loop's."""

    def __init__(self) -> None:
        self.consumed: Counter[str] = Counter()
        self.landed: Counter[str] = Counter()
        self.quarantined: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.released: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()
        self.objects: Counter[str] = Counter()
        self.adopted: Counter[str] = Counter()
        self.accepted_by_type: Counter[str] = Counter()
        self.rejected_by_reason: Counter[str] = Counter()
        self.object_bytes = 0

    def add_topic(self, topic: str) -> None:
        """Its counters exist from now on, with 0."""
        for counter in (
            self.consumed, self.landed, self.quarantined, self.skipped, self.released, self.in_flight, self.objects,
            self.adopted,
        ):  # fmt: skip
            counter[topic] += 0

    def record_consumed(self, topic: str, records: int) -> None:
        self.consumed[topic] += records
        self.in_flight[topic] += records

    def record_validated(self, accepted: Mapping[str, int], rejected: Mapping[str, int]) -> None:
        """Accepted events by type, rejected records by reason."""
        for event_type, count in accepted.items():
            self.accepted_by_type[bounded_label(self.accepted_by_type, event_type)] += count
        for reason, count in rejected.items():
            self.rejected_by_reason[bounded_label(self.rejected_by_reason, reason)] += count

    def record_landed(self, topic: str, *, rows: int, rejected: int, skipped: int, body_bytes: int) -> None:
        """A data object was written, and before it the quarantine object of its rejected records."""
        self.landed[topic] += rows
        self.quarantined[topic] += rejected
        self.skipped[topic] += skipped
        self.in_flight[topic] -= rows + rejected + skipped
        self.objects[topic] += 1
        self.object_bytes += body_bytes

    def record_adopted(self, topic: str, records: int) -> None:
        """Another daemon's object takes the place of these records."""
        self.adopted[topic] += 1
        self.record_released(topic, records)

    def record_released(self, topic: str, records: int) -> None:
        self.released[topic] += records
        self.in_flight[topic] -= records

    def totals(self) -> Totals:
        """The sums over all topics."""
        return Totals(
            consumed=self.consumed.total(),
            landed=self.landed.total(),
            quarantined=self.quarantined.total(),
            skipped=self.skipped.total(),
            released=self.released.total(),
            in_flight=self.in_flight.total(),
            objects=self.objects.total(),
            object_bytes=self.object_bytes,
            adopted=self.adopted.total(),
            rejected_by_reason=dict(self.rejected_by_reason),
            accepted_by_type=dict(self.accepted_by_type),
        )


def bounded_label(known: Mapping[str, int], label: str) -> str:
    """The label, or "other" where it is new and there are too many, or where it would break the exposition."""
    fits = len(label) <= MAX_LABEL_LENGTH and label.isprintable()  # a lone surrogate would fail every scrape
    return label if label in known or (fits and len(known) < MAX_LABEL_VALUES) else OTHER
