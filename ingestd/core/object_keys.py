"""Object keys: the names of data and quarantine objects.

    events/[lineage/]year=YYYY/month=MM/day=DD/{topic}+{partition:05d}+{start:020d}[+epoch{leader_epoch:010d}].jsonl.gz
    quarantine/[lineage/]year=YYYY/month=MM/day=DD/{topic}+{partition:05d}+{start:020d}+{digest}.jsonl.gz

A data object's name depends on the position where its batch opens and on the log from there, on nothing else: two
writers of the same batch try the same name. The date is that of the first record at or after the
start, by its Kafka timestamp, in UTC. The wall clock would differ between two attempts.

The positions of some sources, such as Kinesis, are longer: then starts and ends have 60 digits instead of 20.

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
MEMBERS = ".members/"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC)
_DAY = r"year=\d{4}/month=\d\d/day=\d\d/"
_PARTITION = r"(?P<topic>[A-Za-z0-9._-]{1,249})\+(?P<partition>\d{5,})"
_DIGITS, _WIDE_DIGITS = 20, 60


def _patterns(digits: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Of the names of data objects and of quarantine objects, without their root."""
    place = rf"{_DAY}{_PARTITION}\+(?P<start>\d{{{digits}}})"
    data = rf"{place}(?:\+(?P<end>\d{{{digits}}}))?(?:\+epoch(?P<epoch>\d{{10}}))?\.jsonl\.gz"
    return re.compile(data, re.ASCII), re.compile(rf"{place}\+(?P<digest>[0-9a-f]{{16}})\.jsonl\.gz", re.ASCII)


_NAMES, _WIDE_NAMES = _patterns(_DIGITS), _patterns(_WIDE_DIGITS)


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
    """The keys of one lineage. At-least-once delivery puts the end into the key, so attempts never collide.

    `wide`: for a source with wide positions. A name with another width is not of this lineage.
    """

    def __init__(self, lineage: str | None = None, *, exactly_once: bool = True, wide: bool = False) -> None:
        folder = f"{lineage}/" if lineage else ""
        self.events = EVENTS + folder
        self.quarantine = QUARANTINE + folder
        self._own = f"lineage={lineage}/" if lineage else ""  # "=" keeps it apart from the names below
        self.exactly_once = exactly_once
        self.wide = wide
        self._digits = _WIDE_DIGITS if wide else _DIGITS
        self.last_position = 10**self._digits - 1
        self._name, self._quarantine_name = _WIDE_NAMES if wide else _NAMES

    def data_key(
        self, partition: TopicPartition, start: int, first_timestamp: int, end: int, leader_epoch: int | None = None
    ) -> str:
        tail = "" if self.exactly_once else f"+{self._position(end)}"
        if leader_epoch is not None:
            tail += f"+epoch{leader_epoch:010d}"
        return f"{self.events}{day_folder(first_timestamp)}{_prefix(partition)}{self._position(start)}{tail}.jsonl.gz"

    def quarantine_key(self, partition: TopicPartition, start: int, first_timestamp: int, digest: str) -> str:
        """The digest is in the key, so that a second attempt with other contents keeps both."""
        name = f"{_prefix(partition)}{self._position(start)}+{digest}.jsonl.gz"
        return f"{self.quarantine}{day_folder(first_timestamp)}{name}"

    def day_prefix(self, day_folder: str, partition: TopicPartition) -> str:
        """The prefix of `partition`'s keys in one day's folder."""
        return day_folder + _prefix(partition)

    def state_folder(self, source: str) -> str:
        """The folder of what a kind of source keeps in the sink about itself: written once, as everything."""
        return f"{OWN}{source}/{self._own}"

    def members_folder(self, source: str) -> str:
        """The folder of what daemons tell each other. Nowhere else is an object written again."""
        return f"{MEMBERS}{source}/{self._own}"

    def batch_prefix(self, key: str) -> str:
        """What the names of all objects of one batch begin with, without their folder: partition and start."""
        name = key.rpartition("/")[2]
        return name[: name.index("+", name.index("+") + 1) + 1 + self._digits]

    def parse(self, key: str) -> DataObjectName | None:
        """None if `key` is not the key of a data object."""
        match = self._name.fullmatch(key.removeprefix(self.events)) if key.startswith(self.events) else None
        if match is None:
            return None
        epoch = int(match["epoch"]) if match["epoch"] else None
        return DataObjectName(TopicPartition(match["topic"], int(match["partition"])), int(match["start"]), key, epoch)

    def parse_quarantine(self, key: str) -> QuarantineObjectName | None:
        """None if `key` is not the key of a quarantine object."""
        match = (
            self._quarantine_name.fullmatch(key.removeprefix(self.quarantine))
            if key.startswith(self.quarantine)
            else None
        )
        if match is None:
            return None
        place = TopicPartition(match["topic"], int(match["partition"]))
        return QuarantineObjectName(place, int(match["start"]), match["digest"], key)

    def commit_tag(self, sink_url: str) -> str:
        """The tag of our commits: this offset is a boundary of the chain in this sink and lineage."""
        place = hashlib.sha256(f"{sink_url}\n{self.events}".encode()).hexdigest()[:16]
        return f"ingestd:1:{place}"

    def _position(self, position: int) -> str:
        return f"{position:0{self._digits}d}"


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
