"""Which quarantined records go back into a topic, as what, and what is remembered of it. Pure.

Records are produced in transactions. Each carries a note of which records it produced, in the offset that it commits
for a group of its own; and after it, the same becomes an object of the sink, a receipt, which is kept:

    requeued/[lineage/]to={target}/identity.json.gz
    requeued/[lineage/]to={target}/{topic}+{partition:05d}+{span:014d}/{first:020d}+{last:020d}.json.gz

A record is its topic, partition and offset there; `first` and `last` are offsets, and a span is a million of them.
"""

import base64
import re
from collections.abc import Collection, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from ingestd.core.object_keys import QUARANTINE, REQUEUED, ObjectKeys
from ingestd.core.quarantine import Quarantined
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason

SPAN = 1_000_000  # offsets; what is known of so many is held at once, a bit each
ORIGIN = "ingestd-origin-"  # begins the headers that say where a record came from

_RECORDS_MAX = 4096  # of one transaction
_BYTES_MAX = 4 << 20  # the same, of their keys, values and headers; one record may have more
# With a topic's longest name it keeps a note below offset.metadata.max.bytes, of which a broker's default is 4096.
_GAPS_MAX = 2700
_OFFSET_MAX = 2**63 - 1
_RECEIPT = re.compile(r"(?P<first>\d{20})\+(?P<last>\d{20})\.json\.gz", re.ASCII)


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Under which transactional id, and in which Kafka cluster, a target's records are produced."""

    id: str
    cluster: str


class Produced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The records of one transaction: of one partition and one span, their offsets ascending."""

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offsets: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)]

    @property
    def place(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def note(self) -> str:
        """As text of less than 4096 bytes."""
        first, *rest = self.offsets
        gaps = b"".join(_varint(offset - before) for before, offset in zip(self.offsets, rest, strict=False))
        note = _Note(self.topic, self.partition, first, base64.b64encode(gaps).decode())
        return msgspec.json.encode(note).decode()

    @classmethod
    def from_note(cls, text: str) -> "Produced | None":
        """None where `text` is not such a note."""
        try:
            note = msgspec.json.decode(text, type=_Note)
            gaps = _numbers(base64.b64decode(note.gaps, validate=True))
        except (msgspec.DecodeError, ValueError):
            return None
        offsets = [note.first]
        for gap in gaps:
            offsets.append(offsets[-1] + gap)
        if offsets[-1] > _OFFSET_MAX:
            return None
        return cls(note.topic, note.partition, tuple(offsets))


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Offsets as the first and the distances to the next, each a varint, as base64."""

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    first: Annotated[int, Meta(ge=0)]
    gaps: str


class Receipt(msgspec.Struct, frozen=True):
    """What a receipt's name says."""

    first: int
    last: int
    key: str


class Names:
    """The names of what is kept about one target topic."""

    def __init__(self, layout: ObjectKeys, target: str) -> None:
        # A topic's name has no "=", so no lineage is taken for a target.
        self._folder = f"{REQUEUED}{layout.quarantine.removeprefix(QUARANTINE)}to={target}/"

    @property
    def identity(self) -> str:
        return f"{self._folder}identity.json.gz"

    def span(self, partition: TopicPartition, span: int) -> str:
        """What the names of a span's receipts begin with."""
        return f"{self._folder}{partition.topic}+{partition.partition:05d}+{span:014d}/"

    def receipt(self, produced: Produced) -> str:
        """No two transactions produce the same record, so no two receipts have the same first."""
        first, last = produced.offsets[0], produced.offsets[-1]
        return f"{self.span(produced.place, first // SPAN)}{first:020d}+{last:020d}.json.gz"

    def parse(self, key: str) -> Receipt | None:
        """None where `key` is not the name of a receipt."""
        match = _RECEIPT.fullmatch(key.rpartition("/")[2])
        return Receipt(int(match["first"]), int(match["last"]), key) if match else None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are wanted: Kafka timestamps ``[since, until)`` in milliseconds; no reasons are all of them."""

    since: int | None = None
    until: int | None = None
    reasons: Collection[Reason] = ()

    def takes(self, line: Quarantined) -> bool:
        return (
            (self.since is None or line.timestamp >= self.since)
            and (self.until is None or line.timestamp < self.until)
            and (not self.reasons or line.reason in self.reasons)
        )


def to_validate(line: Quarantined) -> PlainRecord:
    """The record as it came."""
    return PlainRecord(line.offset, line.timestamp, line.value, line.key, tuple(line.headers))  # type: ignore[arg-type]


def to_produce(line: Quarantined, now: int) -> PlainRecord:
    """The record as it goes back: the same, with its origin in headers. A record that fails again keeps its first.

    Its timestamp is `now`: by its own one, retention could remove it before it is read.
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
        headers += [(f"{ORIGIN}{name}", str(value).encode()) for name, value in origin.items()]
    return PlainRecord(line.offset, now, line.value, line.key, tuple(headers))  # type: ignore[arg-type]


class RequeueBatch:
    """Lines of one partition and span, ascending, for one transaction."""

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.lines: list[Quarantined] = []
        self._bytes = 0
        self._gaps = 0

    @property
    def last(self) -> int:
        """The offset of the last line; -1 where there is none."""
        return self.lines[-1].offset if self.lines else -1

    def takes(self, line: Quarantined) -> bool:
        """Whether there is room for one more of the partition."""
        return not self.lines or (
            len(self.lines) < _RECORDS_MAX
            and self._bytes + _size(line) <= _BYTES_MAX
            and self._gaps + len(_varint(line.offset - self.last)) <= _GAPS_MAX
            and self.last // SPAN == line.offset // SPAN
        )

    def add(self, line: Quarantined) -> None:
        if self.lines:
            self._gaps += len(_varint(line.offset - self.last))
        self._bytes += _size(line)
        self.lines.append(line)

    @property
    def produced(self) -> Produced:
        return Produced(*self.partition, tuple(line.offset for line in self.lines))


def _size(line: Quarantined) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in line.headers)
    return len(line.key or b"") + len(line.value or b"") + headers


def _varint(number: int) -> bytes:
    """A number of 1 or more in groups of seven bits, the lowest first; a group that is not the last has its top bit."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _numbers(groups: bytes) -> Sequence[int]:
    """What `_varint` has made of numbers. ValueError where it has not."""
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
        raise ValueError("the last number has no end")
    return numbers
