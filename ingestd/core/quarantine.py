"""The quarantine (dead letters): one JSON line per rejected record, with all that is needed to produce it again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
from msgspec import Meta

from ingestd import __version__
from ingestd.core.errors import IngestdError
from ingestd.core.records import TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.row_origin import MessageRecord, RowOrigin
from ingestd.core.validation import Rejected


class QuarantineError(IngestdError):
    """A line is not in the quarantine format."""


if TYPE_CHECKING:
    Offset = int
else:
    Offset = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=r"^[0-9]{1,60}\Z")]


class Quarantined(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Bytes are base64 in JSON, null is Kafka's null; `timestamp` is Kafka's, in milliseconds.

    The offset is text in JSON where the source's offsets are longer than 64 bits. Together with its leader epoch,
    where that is known, it names the record for ever.
    """

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Offset
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    reason: Reason
    path: str
    message: str
    ingestd_version: str
    leader_epoch: Annotated[int, Meta(ge=0)] | None = None


class QuarantinedMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line about a message of a queue, which its id names."""

    topic: str  # the queue's name
    message_id: str
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    reason: Reason
    path: str
    message: str
    ingestd_version: str


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Quarantined)
_MESSAGE_DECODER = msgspec.json.Decoder(QuarantinedMessage)


def encode(
    partition: TopicPartition,
    rejected: Sequence[Rejected],
    leader_epoch: int | None = None,
    origin: RowOrigin = RowOrigin.OFFSET,
) -> bytes:
    """The lines for rejected records of one partition and leader epoch, each ended by a newline."""
    return _ENCODER.encode_lines([_line(partition, one, leader_epoch, origin) for one in rejected])


def encode_messages(queue: str, rejected: Sequence[Rejected]) -> bytes:
    """The lines for rejected messages of a queue, each ended by a newline."""
    return _ENCODER.encode_lines([_message_line(queue, one) for one in rejected])


def decode(line: bytes) -> Quarantined:
    """Parse one line. Raises ``QuarantineError``."""
    try:
        found = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QuarantineError(f"not a line of a quarantine object: {error}") from error
    return found if type(found.offset) is int else msgspec.structs.replace(found, offset=int(found.offset))


def decode_message(line: bytes) -> QuarantinedMessage:
    """Parse one line about a message of a queue. Raises ``QuarantineError``."""
    try:
        return _MESSAGE_DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QuarantineError(f"not a line of a quarantine object: {error}") from error


def _line(partition: TopicPartition, rejected: Rejected, leader_epoch: int | None, origin: RowOrigin) -> Quarantined:
    record = rejected.record
    offset = str(record.offset) if origin is RowOrigin.WIDE_OFFSET else record.offset
    return Quarantined(
        topic=partition.topic,
        partition=partition.partition,
        offset=cast("int", offset),
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


def _message_line(queue: str, rejected: Rejected) -> QuarantinedMessage:
    record = cast("MessageRecord", rejected.record)
    return QuarantinedMessage(
        topic=queue,
        message_id=record.message_id,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
        reason=rejected.reason,
        path=rejected.path,
        message=rejected.message,
        ingestd_version=__version__,
    )
