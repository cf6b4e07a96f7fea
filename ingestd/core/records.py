"""The types that every part shares: partitions, records, positions, log ranges."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol, cast

import msgspec

from ingestd.core.rejections import Reason


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


class SourceRefusal(NamedTuple):
    """Why a source refuses a record before its value is looked at: it goes to the quarantine as it was received."""

    reason: Reason
    message: str


class RefusableRecord(Record, Protocol):
    """A record of a source that refuses some by itself."""

    @property
    def refused(self) -> SourceRefusal | None: ...


def refusals(records: Sequence[Record]) -> dict[int, SourceRefusal]:
    """By index, why their source has refused some of these records, which are all of one type."""
    if not records or not hasattr(records[0], "refused"):  # asked once: most sources refuse nothing
        return {}
    found = cast("Sequence[RefusableRecord]", records)
    return {index: record.refused for index, record in enumerate(found) if record.refused is not None}


class PlainRecord(msgspec.Struct, frozen=True, gc=False):
    """A record without a broker, for the simulator and the tests."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class UnsentRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that no log has yet: it has no offset."""

    timestamp: int  # milliseconds since the epoch, UTC
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


class Refusal(NamedTuple):
    """Why a topic refuses a record for good: it will not take it before an operator changes the topic."""

    reason: str  # for people; never a part of the record
    too_large: bool


_value_of = attrgetter("value")


def value_bytes(records: Sequence[Record]) -> int:
    """The total size of the records' values."""
    try:
        return sum(map(len, map(_value_of, records)))  # runs without a step of Python's interpreter
    except TypeError:  # a tombstone has no value
        return sum(len(record.value or b"") for record in records)


class Position(NamedTuple):
    """A committed position: the next offset to read, and what its commit's metadata says.

    `commit_tag` says in which sink and lineage the offset is a boundary of the chain ("" if it is not our
    commit). `topic_id` tells a topic from a deleted one of the same name ("" if not known). `leader_epoch` is that of
    the last record before the offset (None if not known).
    """

    offset: int
    commit_tag: str = ""
    topic_id: str = ""
    leader_epoch: int | None = None


class EpochRecords(NamedTuple):
    """Consecutive records of one partition that were written in one leader epoch; None where there are no epochs.

    `cuts` are the indexes, ascending and up to ``len(records)``, in front of which a batch may end: a source that
    cannot seek into an aggregate of several events names where each one ends. None: anywhere.
    """

    records: Sequence[Record]
    leader_epoch: int | None = None
    cuts: Sequence[int] | None = None


class EpochEnd(NamedTuple):
    """Where a leader epoch ends in today's log.

    `epoch` is the largest epoch in the log that is not later than the one asked for; records of later epochs begin at
    offset `end`, or the log ends there. Both are -1 where the epoch asked for is later than all that the log knows.
    """

    epoch: int
    end: int


class Pin(NamedTuple):
    """Where a chain is on record to begin, and to end for good; None where it is not."""

    start: int | None = None
    end: int | None = None


class LogRange(NamedTuple):
    """The offsets ``[start, end)`` that a partition's log holds now."""

    start: int
    end: int


class TopicAccess(NamedTuple):
    """What our user may do with a topic, and how many replicas of each partition are in sync."""

    may_write: bool
    in_sync: Mapping[int, int]


class GroupState(NamedTuple):
    """A consumer group: its state in Kafka's words, such as "Stable" or "Empty", and its members' names."""

    state: str
    members: tuple[str, ...]
