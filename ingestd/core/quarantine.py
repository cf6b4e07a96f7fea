"""The quarantine (dead letters): one JSON line per rejected record, with all that is needed to produce it again."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from ingestd import __version__
from ingestd.core.errors import IngestdError
from ingestd.core.records import TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import Rejected


class QuarantineError(IngestdError):
    """A line is not in the quarantine format."""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Bytes are base64 in JSON, null is Kafka's null; `timestamp` is Kafka's, in milliseconds.

    Together with its leader epoch, where that is known, the offset names the record for ever.
    """

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    reason: Reason
    path: str
    message: str
    ingestd_version: str
    leader_epoch: Annotated[int, Meta(ge=0)] | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Quarantined)


def encode(partition: TopicPartition, rejected: Sequence[Rejected], leader_epoch: int | None = None) -> bytes:
    """The lines for rejected records of one partition and leader epoch, each ended by a newline."""
    return _ENCODER.encode_lines([_line(partition, one, leader_epoch) for one in rejected])


def decode(line: bytes) -> Quarantined:
    """Parse one line. Raises ``QuarantineError``."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QuarantineError(f"not a line of a quarantine object: {error}") from error


def _line(partition: TopicPartition, rejected: Rejected, leader_epoch: int | None) -> Quarantined:
    record = rejected.record
    return Quarantined(
        topic=partition.topic,
        partition=partition.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
        reason=rejected.reason,
        path=rejected.path,
        message=rejected.message,
        ingestd_version=__version__,
        leader_epoch=leader_epoch,
    )
