"""Object keys: the names of data and quarantine objects.

    events/[lineage/]year=YYYY/month=MM/day=DD/{topic}+{partition:05d}+{start:020d}[+epoch{leader_epoch:010d}].jsonl.gz
    quarantine/[lineage/]year=YYYY/month=MM/day=DD/{topic}+{partition:05d}+{start:020d}+{digest}.jsonl.gz

A data object's name depends on the position where its batch opens and on the log from there, on nothing else: two
writers of the same batch try the same name. The date is that of the first record at or after the
start, by its Kafka timestamp, in UTC. The wall clock would differ between two attempts.

With ``kafka.on_truncation = "fork"`` the name has the leader epoch of the object's records, so that records of a new
history of the log never meet the name of an object with records that Kafka has lost. The first object of an epoch is
named after the offset at which the epoch begins in the log, wherever its writer comes from.
"""

import hashlib
import re
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
_NAME = re.compile(rf"{_DAY}{_PLACE}(?:\+(?P<end>\d{{20}}))?(?:\+epoch(?P<epoch>\d{{10}}))?\.jsonl\.gz", re.ASCII)
_QUARANTINE_NAME = re.compile(rf"{_DAY}{_PLACE}\+(?P<digest>[0-9a-f]{{16}})\.jsonl\.gz", re.ASCII)


class DataObjectName(msgspec.Struct, frozen=True):
    """A parsed key of a data object."""

    partition: TopicPartition
    start: int
    key: str
    leader_epoch: int | None = None  # None: the name has none


class QuarantineObjectName(msgspec.Struct, frozen=True):
    """A parsed key of a quarantine object."""

    partition: TopicPartition
    start: int
    digest: str
    key: str


class ObjectKeys:
    """The keys of one lineage. At-least-once delivery puts the end into the key, so attempts never collide."""

    def __init__(self, lineage: str | None = None, *, exactly_once: bool = True) -> None:
        folder = f"{lineage}/" if lineage else ""
        self.events = EVENTS + folder
        self.quarantine = QUARANTINE + folder
        self.exactly_once = exactly_once

    def data_key(
        self, partition: TopicPartition, start: int, first_timestamp: int, end: int, leader_epoch: int | None = None
    ) -> str:
        tail = "" if self.exactly_once else f"+{end:020d}"
        if leader_epoch is not None:
            tail += f"+epoch{leader_epoch:010d}"
        return f"{self.events}{day_folder(first_timestamp)}{_prefix(partition)}{start:020d}{tail}.jsonl.gz"

    def quarantine_key(self, partition: TopicPartition, start: int, first_timestamp: int, digest: str) -> str:
        """The digest is in the key, so that a second attempt with other contents keeps both."""
        return f"{self.quarantine}{day_folder(first_timestamp)}{_prefix(partition)}{start:020d}+{digest}.jsonl.gz"

    def day_prefix(self, day_folder: str, partition: TopicPartition) -> str:
        """The prefix of `partition`'s keys in one day's folder."""
        return day_folder + _prefix(partition)

    def parse(self, key: str) -> DataObjectName | None:
        """None if `key` is not the key of a data object."""
        match = _NAME.fullmatch(key.removeprefix(self.events)) if key.startswith(self.events) else None
        if match is None:
            return None
        epoch = int(match["epoch"]) if match["epoch"] else None
        return DataObjectName(TopicPartition(match["topic"], int(match["partition"])), int(match["start"]), key, epoch)

    def parse_quarantine(self, key: str) -> QuarantineObjectName | None:
        """None if `key` is not the key of a quarantine object."""
        match = (
            _QUARANTINE_NAME.fullmatch(key.removeprefix(self.quarantine)) if key.startswith(self.quarantine) else None
        )
        if match is None:
            return None
        place = TopicPartition(match["topic"], int(match["partition"]))
        return QuarantineObjectName(place, int(match["start"]), match["digest"], key)

    def commit_tag(self, sink_url: str) -> str:
        """The tag of our commits: this offset is a boundary of the chain in this sink and lineage."""
        place = hashlib.sha256(f"{sink_url}\n{self.events}".encode()).hexdigest()[:16]
        return f"ingestd:1:{place}"


def digest_of(body: bytes) -> str:
    """The digest of a quarantine object, in its key and in the metadata of the data object of its batch."""
    return hashlib.sha256(body).hexdigest()[:16]


def _prefix(partition: TopicPartition) -> str:
    return f"{partition.topic}+{partition.partition:05d}+"


def day_folder(timestamp: int) -> str:
    """The folder of a Kafka timestamp; an absurd one (a producer's clock) goes to the nearest day that exists."""
    if timestamp < 0:
        day = _EPOCH
    else:
        try:
            day = _EPOCH + timedelta(milliseconds=timestamp)
        except OverflowError:
            day = _LAST_DAY
    return f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}/"
