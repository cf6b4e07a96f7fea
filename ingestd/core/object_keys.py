"""Object keys: the names of data and quarantine objects.

    events/[lineage/]year=YYYY/month=MM/day=DD/{topic}+{partition:05d}+{start:020d}.jsonl.gz
    quarantine/[lineage/]year=YYYY/month=MM/day=DD/{topic}+{partition:05d}+{start:020d}+{digest}.jsonl.gz

A data object's name depends on the position where its batch opens and on the log from there, on nothing else: two
writers of the same batch try the same name. The date is that of the first record at or after the
start, by its Kafka timestamp, in UTC. The wall clock would differ between two attempts.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from ingestd.core.records import TopicPartition

EVENTS = "events/"
QUARANTINE = "quarantine/"
REQUEUED = "requeued/"  # what of the quarantine was produced again
OWN = ".ingestd/"  # outside the pipe's prefix: Snowpipe never hears of what is in it

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC)
_DAY = r"year=\d{4}/month=\d\d/day=\d\d/"
_PLACE = r"(?P<topic>[A-Za-z0-9._-]{1,249})\+(?P<partition>\d{5,})\+(?P<start>\d{20})"
_NAME = re.compile(rf"{_DAY}{_PLACE}(?:\+(?P<end>\d{{20}}))?\.jsonl\.gz", re.ASCII)
_QUARANTINE_NAME = re.compile(rf"{_DAY}{_PLACE}\+(?P<digest>[0-9a-f]{{16}})\.jsonl\.gz", re.ASCII)


class ObjectMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a data object says of itself. Offsets ``[start, end)``; timestamps in milliseconds."""

    topic: str
    partition: int
    start: int
    end: int
    rows: int
    rejected: int
    sha256: str  # of the uncompressed rows
    first_offset: int  # of the first record at or after `start`
    first_timestamp: int
    last_timestamp: int
    cluster: str | None = None  # None: the source has no id
    topic_id: str | None = None  # None: none was known
    version: str
    quarantine: str | None = None  # digest in the name of the quarantine object with its rejects; None: there are none

    def metadata(self) -> dict[str, str]:
        """As user metadata of an object: lower-case names, text values."""
        values = {name.replace("_", "-"): getattr(self, name) for name in self.__struct_fields__}
        return {name: str(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ObjectMetadata | None":
        """None where an object does not carry (all of) it: then it was not written by us."""
        known = {name.replace("-", "_"): value for name, value in metadata.items()}
        try:
            return msgspec.convert(known, cls, strict=False)
        except msgspec.ValidationError:
            return None


class DataObjectName(msgspec.Struct, frozen=True):
    """What a data object's name says."""

    partition: TopicPartition
    start: int
    key: str


class QuarantineObjectName(msgspec.Struct, frozen=True):
    """What a quarantine object's name says."""

    partition: TopicPartition
    start: int
    digest: str
    key: str


class ObjectKeys:
    """The names of one lineage. `delivery` at-least-once puts the end into the name, so attempts never collide."""

    def __init__(self, lineage: str | None = None, *, exactly_once: bool = True) -> None:
        folder = f"{lineage}/" if lineage else ""
        self.events = EVENTS + folder
        self.quarantine = QUARANTINE + folder
        self.exactly_once = exactly_once

    def data_key(self, partition: TopicPartition, start: int, first_timestamp: int, end: int) -> str:
        tail = "" if self.exactly_once else f"+{end:020d}"
        return f"{self.events}{day_folder(first_timestamp)}{_prefix(partition)}{start:020d}{tail}.jsonl.gz"

    def quarantine_key(self, partition: TopicPartition, start: int, first_timestamp: int, digest: str) -> str:
        """The content's digest is in the name, so that a second attempt with other contents keeps both."""
        return f"{self.quarantine}{day_folder(first_timestamp)}{_prefix(partition)}{start:020d}+{digest}.jsonl.gz"

    def day_prefix(self, day_folder: str, partition: TopicPartition) -> str:
        """What the names of `partition`'s objects in one day's folder begin with."""
        return day_folder + _prefix(partition)

    def parse(self, key: str) -> DataObjectName | None:
        """None where `key` is not the name of a data object."""
        match = _NAME.fullmatch(key.removeprefix(self.events)) if key.startswith(self.events) else None
        if match is None:
            return None
        return DataObjectName(TopicPartition(match["topic"], int(match["partition"])), int(match["start"]), key)

    def parse_quarantine(self, key: str) -> QuarantineObjectName | None:
        """None where `key` is not the name of a quarantine object."""
        match = (
            _QUARANTINE_NAME.fullmatch(key.removeprefix(self.quarantine)) if key.startswith(self.quarantine) else None
        )
        if match is None:
            return None
        place = TopicPartition(match["topic"], int(match["partition"]))
        return QuarantineObjectName(place, int(match["start"]), match["digest"], key)

    def mark(self, sink_url: str) -> str:
        """Goes into each commit: this offset is a boundary of the chain in this place. Another place, another mark."""
        place = hashlib.sha256(f"{sink_url}\n{self.events}".encode()).hexdigest()[:16]
        return f"ingestd:1:{place}"


def digest_of(body: bytes) -> str:
    """What stands for a quarantine object's contents in its name, and in the metadata of the data object beside it."""
    return hashlib.sha256(body).hexdigest()[:16]


def _prefix(partition: TopicPartition) -> str:
    return f"{partition.topic}+{partition.partition:05d}+"


def day_folder(timestamp: int) -> str:
    """The folder of a Kafka timestamp; what a producer's clock makes absurd goes to the nearest day that exists."""
    if timestamp < 0:
        day = _EPOCH
    else:
        try:
            day = _EPOCH + timedelta(milliseconds=timestamp)
        except OverflowError:
            day = _LAST_DAY
    return f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}/"
