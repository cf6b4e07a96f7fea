"""Events as records for the topic, and the bounds of what waits. Pure."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ingestd.collect.messages import Collected, UnavailableError
from ingestd.core.records import Refusal, UnsentRecord

SOURCE_HEADER = "ingestd-source"
REFUSED_HEADER = "ingestd-refused"  # why a record is kept apart; not a part of what is sent

MAX_DELIVERIES = 10_000
MAX_BYTES = 32 << 20


def unsent(source: str, received_at: int, events: Sequence[Collected]) -> list[UnsentRecord]:
    """The events of a request as records."""
    headers = ((SOURCE_HEADER, source.encode()),)
    return [UnsentRecord(received_at, event.key, event.value, headers) for event in events]


def with_reason(record: UnsentRecord, refusal: Refusal) -> UnsentRecord:
    """The record as it is kept apart."""
    headers = (*without_reason(record.headers), (REFUSED_HEADER, refusal.reason.encode()))
    return UnsentRecord(record.timestamp, record.key, record.value, headers)


def without_reason(headers: Sequence[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """The headers that are sent."""
    return tuple(header for header in headers if header[0] != REFUSED_HEADER)


class Admission:
    """Bounds how many deliveries wait, and their bytes: beyond, senders are told at once to come back later."""

    def __init__(self, max_deliveries: int = MAX_DELIVERIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_deliveries, self._max_bytes = max_deliveries, max_bytes
        self.deliveries = 0
        self.bytes = 0

    @contextmanager
    def admit(self, records: Sequence[UnsentRecord]) -> Iterator[None]:
        """While a delivery waits. ``UnavailableError`` where too many do."""
        size = sum(len(record.value) + len(record.key or b"") for record in records)
        if self.deliveries >= self._max_deliveries or (self.deliveries and self.bytes + size > self._max_bytes):
            raise UnavailableError(f"{self.deliveries} deliveries of {self.bytes} bytes wait already")
        self.deliveries += 1
        self.bytes += size
        try:
            yield
        finally:
            self.deliveries -= 1
            self.bytes -= size
