"""What a topic refuses a record for, whichever producer or transaction it comes from."""

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import errors as kafka_errors

from ingestd.core.records import Refusal
from ingestd.sources.kafka._aiokafka import InvalidRecordError


class RefusedRecord(NamedTuple):
    """What is wrong with a record, and what to do about the topic."""

    reason: str
    hint: str
    too_large: bool = False


REFUSED_RECORDS: Mapping[type[BaseException], RefusedRecord] = {
    kafka_errors.MessageSizeTooLargeError: RefusedRecord(
        "it is too large for topic {topic}", "raise max.message.bytes of the topic", too_large=True
    ),
    kafka_errors.RecordListTooLargeError: RefusedRecord(
        "it is larger than a segment of topic {topic}", "raise segment.bytes of the topic", too_large=True
    ),
    InvalidRecordError: RefusedRecord(
        "topic {topic} does not accept it, as a compacted topic does not accept a record without a key",
        "choose a topic that is not compacted, or remove compact from cleanup.policy of the topic",
    ),
}
_INVALID_TIME = RefusedRecord(
    "topic {topic} refuses its time",
    "set the clocks of this machine and of the brokers, or raise message.timestamp.before.max.ms and "
    "message.timestamp.after.max.ms of the topic",
)


def refusal(error: BaseException, topic: str) -> Refusal | None:
    """Why a batch with its own records' times was refused; None where another try may succeed."""
    times = {kafka_errors.InvalidTimestampError: _INVALID_TIME}
    if (found := {**REFUSED_RECORDS, **times}.get(type(error))) is None:
        return None
    return Refusal(f"{found.reason.format(topic=topic)} ({found.hint})", found.too_large)
