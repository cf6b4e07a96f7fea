"""What names the record behind a row: a partition's offset, or the id of a queue's message. Pure."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from ingestd.core.events import Event
from ingestd.core.records import Record, TopicPartition


class RowOrigin(StrEnum):
    """How rows and lines of the quarantine name their record."""

    OFFSET = "offset"  # ``source_partition`` and ``source_offset``, both numbers
    WIDE_OFFSET = "wide_offset"  # the same, but the offset is text: readers of JSON have no integers of its size
    MESSAGE_ID = "message_id"  # ``source_message_id``: a queue has neither partitions nor offsets


class MessageRecord(Record, Protocol):
    """A record that is a message of a queue."""

    @property
    def message_id(self) -> str: ...


def record_id(partition: TopicPartition, record: Record) -> str:
    """What tells the record from all others of its source."""
    message_id: str | None = getattr(record, "message_id", None)
    return f"{partition}@{record.offset}" if message_id is None else message_id


#: Changes the origin that every event has, from the accepted records of a block.
SetOrigin = Callable[[Sequence[Event], Sequence[MessageRecord]], None]


def _as_text(events: Sequence[Event], _: Sequence[MessageRecord]) -> None:
    for event in events:
        event.source_offset = str(event.source_offset)


def _of_message(events: Sequence[Event], messages: Sequence[MessageRecord]) -> None:
    for event, message in zip(events, messages, strict=True):
        event.source_partition = event.source_offset = None
        event.source_message_id = message.message_id


#: For the origins that are not a partition and an offset as they are.
SET_ORIGIN: Mapping[RowOrigin, SetOrigin] = {RowOrigin.WIDE_OFFSET: _as_text, RowOrigin.MESSAGE_ID: _of_message}
