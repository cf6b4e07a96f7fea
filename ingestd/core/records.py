"""The words every part shares: a partition, a record, a position in the log."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec


class TopicPartition(NamedTuple):
    """One partition of one topic; equal to, and hashed like, aiokafka's own tuple of that name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Record(Protocol):
    """What the pipeline reads of a record. aiokafka's records have this shape, so none is copied."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Kafka's timestamp: milliseconds since the epoch, UTC."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class PlainRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that no broker made: the simulator's and the tests'."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


_value_of = attrgetter("value")


def value_bytes(records: Sequence[Record]) -> int:
    """The bytes of all their values."""
    try:
        return sum(map(len, map(_value_of, records)))  # no step of it is Python's
    except TypeError:  # a tombstone has no value
        return sum(len(record.value or b"") for record in records)


class Position(NamedTuple):
    """A committed offset: the next one to read, the mark that says whose boundary it is ("" when not ours), and of
    which topic, as one that is created again keeps its name ("" when not known)."""

    offset: int
    mark: str = ""
    topic_id: str = ""


class LogRange(NamedTuple):
    """What the log of a partition holds now: offsets ``[start, end)``."""

    start: int
    end: int


class GroupState(NamedTuple):
    """A consumer group: Kafka's word for its state, such as "Stable" or "Empty", and its members for people."""

    state: str
    members: tuple[str, ...]
