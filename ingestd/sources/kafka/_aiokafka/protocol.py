"""Requests of Kafka's protocol: those of aiokafka that we send, and versions of some that it does not have."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v5
from aiokafka.protocol.offset import OffsetRequest_v2, OffsetRequest_v3, OffsetResponse_v4
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
)

from ingestd.core.records import EpochEnd, TopicAccess, TopicPartition
from ingestd.sources.kafka._aiokafka.fields import Fields, TopicId, array

__all__ = [
    "DescribeConfigsRequest",
    "DescribeGroupsRequest",
    "EpochEndRequest",
    "HeartbeatRequest",
    "InitProducerIdRequest",
    "ListOffsetsRequest",
    "MetadataRequest",
    "OffsetCommitRequest",
    "OffsetFetchRequest",
    "StableOffsetRequest",
    "TopicAccessRequest",
    "TopicIdsRequest",
]

_UNSTABLE_OFFSET = 88  # a code that aiokafka does not know
_CONSUMER = -1  # in the place of a broker's id
_ANY_EPOCH = -1  # of the leader that is asked
_WRITE = 1 << 4  # among the operations that our user may do with a topic


def _topics(*fields: tuple[str, Any]) -> tuple[str, Array]:
    """Topics by name, each with its partitions."""
    return "topics", Array(("topic", String()), ("partitions", Array(*fields)))


def _compact_topics(*fields: tuple[str, Any]) -> tuple[str, CompactArray]:
    """The same in a flexible version."""
    return "topics", array(("topic", CompactString()), ("partitions", array(*fields)))


# -- metadata


class _MetadataResponse12(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Fields(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            array(("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString())),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            array(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", TopicId),
                ("is_internal", Boolean),
                (
                    "partitions",
                    array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    )


class _MetadataRequest12(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse12
    SCHEMA = Fields(
        ("topics", array(("topic_id", TopicId), ("topic", CompactString()))),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
    )


class TopicIdsRequest(Request[MetadataRequest_v5 | _MetadataRequest12]):  # type: ignore[misc]
    """Asks for topics by name without creating them. `topic_ids` reads the answer."""

    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[Any]) -> Any:
        if request_struct_class is _MetadataRequest12:
            return _MetadataRequest12([("", topic) for topic in self._topics], False, False)
        return request_struct_class(list(self._topics), False)

    @staticmethod
    def topic_ids(answer: Any) -> dict[str, str | kafka_errors.KafkaError]:
        """The id of each topic, "" where it has none, or the topic's error."""
        found: dict[str, str | kafka_errors.KafkaError] = {}
        for code, topic, topic_id, *_ in answer.topics:
            error = kafka_errors.for_code(code)
            known = topic_id if answer.API_VERSION == _MetadataResponse12.API_VERSION else ""
            found[topic] = known if error is kafka_errors.NoError else error(topic)
        return found


class TopicAccessRequest(Request[_MetadataRequest12]):  # type: ignore[misc]
    """Asks what our user may do with a topic, and how many replicas it has. `access` reads the answer."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class([("", self._topic)], False, True)

    @staticmethod
    def access(answer: Any) -> TopicAccess:
        """Raises the topic's error."""
        [(code, topic, _, _, partitions, operations)] = answer.topics
        if code:
            raise kafka_errors.for_code(code)(topic)
        in_sync = {number: len(isr) for _, number, _, _, _, isr, _ in partitions}
        return TopicAccess(bool(operations & _WRITE), in_sync)


# -- offsets of the log


class _ListOffsetsRequest4(RequestStruct):  # type: ignore[misc]
    """aiokafka has it with an epoch of 8 bytes, and does not send it."""

    API_KEY = 2
    API_VERSION = 4
    RESPONSE_TYPE = OffsetResponse_v4
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("isolation_level", Int8),
        _topics(("partition", Int32), ("current_leader_epoch", Int32), ("timestamp", Int64)),
    )


class ListOffsetsRequest(Request[OffsetRequest_v2 | OffsetRequest_v3 | _ListOffsetsRequest4]):  # type: ignore[misc]
    """Asks for the first offset at or after a time. `offsets` reads the answer."""

    API_KEY = 2

    def __init__(self, isolation_level: int, topics: Sequence[tuple[str, Sequence[tuple[int, int]]]]) -> None:
        self._isolation_level = isolation_level
        self._topics = topics

    def build(self, request_struct_class: type[Any]) -> Any:
        topics: Any = self._topics
        if request_struct_class is _ListOffsetsRequest4:
            topics = [(topic, [(number, _ANY_EPOCH, when) for number, when in parts]) for topic, parts in topics]
        return request_struct_class(_CONSUMER, self._isolation_level, topics)

    @staticmethod
    def offsets(answer: Any) -> dict[TopicPartition, tuple[int, int | None] | kafka_errors.KafkaError]:
        """The offset (-1: none) and its leader epoch (None: not known) of each partition, or its error."""
        found: dict[TopicPartition, tuple[int, int | None] | kafka_errors.KafkaError] = {}
        for topic, parts in answer.topics:
            for number, code, _, offset, *epoch in parts:
                error, partition = kafka_errors.for_code(code), TopicPartition(topic, number)
                known = epoch[0] if epoch and epoch[0] >= 0 else None
                found[partition] = (offset, known) if error is kafka_errors.NoError else error(str(partition))
        return found


_EPOCHS = ("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32)
_EPOCH_ENDS = ("error_code", Int16), ("partition", Int32), ("leader_epoch", Int32), ("end_offset", Int64)


class _EpochEndResponse3(Response):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    SCHEMA = Schema(("throttle_time_ms", Int32), _topics(*_EPOCH_ENDS))


class _EpochEndRequest3(RequestStruct):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 3
    RESPONSE_TYPE = _EpochEndResponse3
    SCHEMA = Schema(("replica_id", Int32), _topics(*_EPOCHS))


class _EpochEndResponse4(Response):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 4
    SCHEMA = Fields(("throttle_time_ms", Int32), _compact_topics(*_EPOCH_ENDS))


class _EpochEndRequest4(RequestStruct):  # type: ignore[misc]
    API_KEY = 23
    API_VERSION = 4
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _EpochEndResponse4
    SCHEMA = Fields(("replica_id", Int32), _compact_topics(*_EPOCHS))


class EpochEndRequest(Request[_EpochEndRequest3 | _EpochEndRequest4]):  # type: ignore[misc]
    """Asks where leader epochs end: Kafka's OffsetForLeaderEpoch. `ends` reads the answer.

    Brokers before Kafka 2.3, which have older versions only, want rights to the cluster for it.
    """

    API_KEY = 23

    def __init__(self, epochs: Mapping[TopicPartition, int]) -> None:
        self._topics: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, number), epoch in epochs.items():
            self._topics.setdefault(topic, []).append((number, _ANY_EPOCH, epoch))

    def build(self, request_struct_class: type[Any]) -> Any:
        return request_struct_class(_CONSUMER, list(self._topics.items()))

    @staticmethod
    def ends(answer: Any) -> dict[TopicPartition, EpochEnd | kafka_errors.KafkaError]:
        """The end of each partition's epoch, or the partition's error."""
        found: dict[TopicPartition, EpochEnd | kafka_errors.KafkaError] = {}
        for topic, parts in answer.topics:
            for code, number, epoch, end in parts:
                error, partition = kafka_errors.for_code(code), TopicPartition(topic, number)
                found[partition] = EpochEnd(epoch, end) if error is kafka_errors.NoError else error(str(partition))
        return found


# -- offsets of transactions


class _OffsetFetchResponse7(Response):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Fields(
        ("throttle_time_ms", Int32),
        _compact_topics(
            ("partition", Int32),
            ("offset", Int64),
            ("leader_epoch", Int32),
            ("metadata", CompactString()),
            ("error_code", Int16),
        ),
        ("error_code", Int16),
    )


class _OffsetFetchRequest7(RequestStruct):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetFetchResponse7
    SCHEMA = Fields(
        ("group", CompactString()),
        ("topics", array(("topic", CompactString()), ("partitions", CompactArray(Int32)))),
        ("require_stable", Boolean),
    )


class StableOffsetRequest(Request[_OffsetFetchRequest7]):  # type: ignore[misc]
    """Asks for a group's offset of a topic's first partition; the answer tells whether a transaction on it is open.

    Versions that aiokafka has answer with the offset before the transaction, for a while after its commit, too.
    """

    API_KEY = 9

    def __init__(self, group: str, topic: str) -> None:
        self._group = group
        self._topic = topic

    def build(self, request_struct_class: type[_OffsetFetchRequest7]) -> _OffsetFetchRequest7:
        first = [0]
        return request_struct_class(self._group, [(self._topic, first)], True)

    @staticmethod
    def metadata(answer: Any, group: str) -> str | None:
        """The metadata that was committed with the offset; None without an offset. Raises aiokafka's errors."""
        [(_, [(_, offset, _, metadata, code)])] = answer.topics or [("", [(0, 0, 0, "", 0)])]
        code = answer.error_code or code
        if code == _UNSTABLE_OFFSET:
            raise kafka_errors.ConcurrentTransactions
        if code:
            raise kafka_errors.for_code(code)(group)
        return (metadata or "") if offset >= 0 else None
