"""Batches of quarantined records to produce, and the notes and receipts that say which were produced. Pure.

Records are produced in transactions. Each transaction says which records it produced: in a note that is part of it (in
Kafka the metadata of the offset that it commits for a group of its own), and after it in a receipt, an object in the
sink that stays:

    requeued/[lineage/]to={target}/identity.json.gz
    requeued/[lineage/]to={target}/{topic}+{partition:05d}+{span:014d}/{first:020d}+{last:020d}[+{epoch:010d}].json.gz

`topic`, `partition` and the offsets `first` and `last` are those of the original records; a span is a million offsets.
A record is named by its offset and leader epoch: where Kafka truncated its log, another record may have the offset of
one that was lost. All records of a transaction are of one leader epoch. Quarantine lines and receipts that older
versions wrote do not know it, and nothing tells whether one that does is of the same record.
"""

import base64
import re
from collections.abc import Collection, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ingestd.core.object_keys import QUARANTINE, REQUEUED, ObjectKeys
from ingestd.core.quarantine import Quarantined, QuarantinedMessage
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason

SPAN = 1_000_000  # offsets; memory has one bit for each offset of one span
ORIGIN = "ingestd-origin-"  # prefix of the headers with a record's origin

_MAX_RECORDS = 4096  # of one transaction
_MAX_BYTES = 4 << 20  # keys, values and headers of one transaction; a single record may have more
# Even with the longest topic name, a note stays below 4096 bytes, the brokers' default of offset.metadata.max.bytes.
_MAX_GAPS_BYTES = 2700
_MAX_OFFSET = 2**63 - 1
_RECEIPT = re.compile(r"(?P<first>\d{20})\+(?P<last>\d{20})(?:\+\d{10})?\.json\.gz", re.ASCII)


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The transactional id, and the Kafka cluster or the journal, with which a target's records are produced."""

    id: str
    cluster: str


class ProducedRecords(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The original records of one transaction: of one partition, leader epoch and span, their offsets ascending.

    An older version that reads a leader epoch fails: it would take another record for one of these.
    """

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offsets: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)]
    leader_epoch: Annotated[int, Meta(ge=0)] | None = None

    @property
    def origin(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def note(self) -> str:
        """The note about these records, in less than 4096 bytes."""
        first, *rest = self.offsets
        gaps = b"".join(_varint(offset - before) for before, offset in zip(self.offsets, rest, strict=False))
        note = _Note(self.topic, self.partition, first, base64.b64encode(gaps).decode(), self.leader_epoch)
        return msgspec.json.encode(note).decode()

    @classmethod
    def from_note(cls, text: str) -> "ProducedRecords | None":
        """Parse a note; None where `text` is not one."""
        try:
            note = msgspec.json.decode(text, type=_Note)
            gaps = _from_varints(base64.b64decode(note.gaps, validate=True))
        except (msgspec.DecodeError, ValueError):
            return None
        offsets = [note.first]
        for gap in gaps:
            offsets.append(offsets[-1] + gap)
        if offsets[-1] > _MAX_OFFSET:
            return None
        return cls(note.topic, note.partition, tuple(offsets), note.leader_epoch)


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first offset and the distances to each next one, as varints in base64."""

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    first: Annotated[int, Meta(ge=0)]
    gaps: str
    leader_epoch: Annotated[int, Meta(ge=0)] | None = None


class ReceiptName(msgspec.Struct, frozen=True):
    """The offsets in the name of a receipt."""

    first: int
    last: int
    key: str


class ReceiptKeys:
    """The keys of the objects about one target topic."""

    def __init__(self, layout: ObjectKeys, target: str) -> None:
        # "=" keeps a target's folder apart from a lineage's.
        self._folder = f"{REQUEUED}{layout.quarantine.removeprefix(QUARANTINE)}to={target}/"

    @property
    def identity(self) -> str:
        return f"{self._folder}identity.json.gz"

    def span(self, partition: TopicPartition, span: int) -> str:
        """The folder of the receipts of one partition and span."""
        return f"{self._folder}{partition.topic}+{partition.partition:05d}+{span:014d}/"

    def receipt(self, produced: ProducedRecords, *, with_epoch: bool = False) -> str:
        """The receipt's key. No two transactions produce the same record: `with_epoch`, it is unique.

        Without, it is a name that older versions read, too.
        """
        first, last = produced.offsets[0], produced.offsets[-1]
        epoch = f"+{produced.leader_epoch:010d}" if with_epoch and produced.leader_epoch is not None else ""
        return f"{self.span(produced.origin, first // SPAN)}{first:020d}+{last:020d}{epoch}.json.gz"

    def parse(self, key: str) -> ReceiptName | None:
        """Parse a receipt's key; None where `key` is not one."""
        match = _RECEIPT.fullmatch(key.rpartition("/")[2])
        return ReceiptName(int(match["first"]), int(match["last"]), key) if match else None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Selects records: by Kafka timestamps ``[since, until)`` in milliseconds and by reasons (none: all)."""

    since: int | None = None
    until: int | None = None
    reasons: Collection[Reason] = ()

    def matches(self, line: Quarantined | QuarantinedMessage) -> bool:
        """Whether the record is selected."""
        return (
            (self.since is None or line.timestamp >= self.since)
            and (self.until is None or line.timestamp < self.until)
            and (not self.reasons or line.reason in self.reasons)
        )


def to_validate(line: Quarantined) -> PlainRecord:
    """The original record, for validation."""
    return PlainRecord(line.offset, line.timestamp, line.value, line.key, tuple(line.headers))  # type: ignore[arg-type]


def to_produce(line: Quarantined, now: int) -> PlainRecord:
    """The record to produce: the original one with its origin in headers. A record that has an origin keeps it.

    Its timestamp is `now`: with the original one, Kafka's retention could remove it before it is read, and its row
    would count as late.
    """
    headers = list(line.headers)
    if not any(name == f"{ORIGIN}topic" for name, _ in headers):
        origin = {
            "topic": line.topic,
            "partition": line.partition,
            "offset": line.offset,
            "timestamp": line.timestamp,
            "reason": line.reason,
        }
        if line.leader_epoch is not None:
            origin["leader-epoch"] = line.leader_epoch
        headers += [(f"{ORIGIN}{name}", str(value).encode()) for name, value in origin.items()]
    return PlainRecord(line.offset, now, line.value, line.key, tuple(headers))  # type: ignore[arg-type]


class BatchLimits(NamedTuple):
    """How many records, and how many bytes of keys, values and headers, one transaction has at most."""

    records: int
    size: int


class RequeueBatch:
    """The records of one transaction: of one partition, leader epoch and span, their offsets ascending."""

    def __init__(self, partition: TopicPartition, leader_epoch: int | None, limits: BatchLimits | None = None) -> None:
        self.partition = partition
        self.leader_epoch = leader_epoch
        self._limits = limits or BatchLimits(_MAX_RECORDS, _MAX_BYTES)
        self.lines: list[Quarantined] = []
        self.objects: list[str] = []  # for each line, the key of its quarantine object
        self._bytes = 0
        self._gaps_bytes = 0

    @property
    def last(self) -> int:
        """The offset of the last record; -1 where there is none."""
        return self.lines[-1].offset if self.lines else -1

    def fits(self, line: Quarantined) -> bool:
        """Whether a record of the partition and leader epoch may be added."""
        return not self.lines or (
            len(self.lines) < self._limits.records
            and self._bytes + _size(line) <= self._limits.size
            and self._gaps_bytes + len(_varint(line.offset - self.last)) <= _MAX_GAPS_BYTES
            and self.last // SPAN == line.offset // SPAN
        )

    def add(self, line: Quarantined, key: str) -> None:
        """Add a record that ``fits``, from the quarantine object of this key."""
        if self.lines:
            self._gaps_bytes += len(_varint(line.offset - self.last))
        self._bytes += _size(line)
        self.lines.append(line)
        self.objects.append(key)

    def halves(self) -> "tuple[RequeueBatch, RequeueBatch]":
        """Two batches with these records in the same order, of which there are at least two."""
        middle = len(self.lines) // 2
        first, second = (RequeueBatch(self.partition, self.leader_epoch, self._limits) for _ in range(2))
        for number, (line, key) in enumerate(zip(self.lines, self.objects, strict=True)):
            (first if number < middle else second).add(line, key)
        return first, second

    @property
    def produced(self) -> ProducedRecords:
        """Which records these are."""
        return ProducedRecords(*self.partition, tuple(line.offset for line in self.lines), self.leader_epoch)


def _size(line: Quarantined) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in line.headers)
    return len(line.key or b"") + len(line.value or b"") + headers


def _varint(number: int) -> bytes:
    """A number of 1 or more in groups of seven bits, the lowest first; all but the last have the top bit set."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _from_varints(groups: bytes) -> Sequence[int]:
    """The numbers of a sequence of varints. ValueError where it is not one."""
    numbers, number, shift = [], 0, 0
    for group in groups:
        number |= (group & 0x7F) << shift
        shift += 7
        if group & 0x80:
            continue
        if not number:
            raise ValueError("a distance of 0")
        numbers.append(number)
        number = shift = 0
    if shift:
        raise ValueError("the last number is incomplete")
    return numbers
