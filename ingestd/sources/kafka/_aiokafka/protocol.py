"""Requests of Kafka's protocol: those of aiokafka that we send, and versions of some that it does not have.

A topic that was deleted and created again has the name of the former one, and another id. aiokafka fetches by name, and
goes on at the same offset in another topic's log. The versions here have ids: a broker then answers for the topic with
that id only. Brokers before Kafka 3.1, and topics without an id, are asked by name.
"""

import base64
from collections import defaultdict
from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v5
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from ingestd.core.records import TopicPartition

__all__ = [
    "DescribeConfigsRequest",
    "DescribeGroupsRequest",
    "FetchByIdRequest",
    "HeartbeatRequest",
    "MetadataRequest",
    "OffsetCommitRequest",
    "OffsetFetchRequest",
    "OffsetRequest",
    "StableOffsetRequest",
    "TopicIdsRequest",
]

_NO_ID = bytes(16)
_UNSTABLE_OFFSET, _UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID = 88, 100, 103  # codes that aiokafka does not know
_NO_TAGS = b"\0"


class _TopicId:
    """A type of the protocol: 16 bytes, as text the way Kafka prints them; "" for no id."""

    @staticmethod
    def encode(value: str) -> bytes:
        return base64.urlsafe_b64decode(f"{value}==") if value else _NO_ID

    @staticmethod
    def decode(data: BytesIO) -> str:
        value = data.read(len(_NO_ID))
        return "" if value == _NO_ID else base64.urlsafe_b64encode(value).decode().rstrip("=")

    repr = repr


class _Fields(Schema):  # type: ignore[misc]  # aiokafka has no types
    """A structure of the protocol's flexible versions; its tags are skipped."""

    def encode(self, item: Any) -> bytes:
        encoded: bytes = super().encode(item)
        return encoded + _NO_TAGS

    def decode(self, data: BytesIO) -> tuple[Any, ...]:
        decoded: tuple[Any, ...] = super().decode(data)
        TaggedFields.decode(data)
        return decoded


def _array(*fields: tuple[str, Any]) -> CompactArray:
    return CompactArray(_Fields(*fields))


# -- metadata


class _MetadataResponse12(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = _Fields(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            _array(("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString())),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            _array(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", _TopicId),
                ("is_internal", Boolean),
                (
                    "partitions",
                    _array(
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
    SCHEMA = _Fields(
        ("topics", _array(("topic_id", _TopicId), ("topic", CompactString()))),
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


# -- fetches


class _FetchResponse13(Response):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = 13
    SCHEMA = _Fields(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        (
            "topics",
            _array(
                ("topic_id", _TopicId),
                (
                    "partitions",
                    _array(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("highwater_offset", Int64),
                        ("last_stable_offset", Int64),
                        ("log_start_offset", Int64),
                        ("aborted_transactions", _array(("producer_id", Int64), ("first_offset", Int64))),
                        ("preferred_read_replica", Int32),
                        ("message_set", CompactBytes),
                    ),
                ),
            ),
        ),
    )


class _FetchRequest13(RequestStruct):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _FetchResponse13
    SCHEMA = _Fields(
        ("replica_id", Int32),
        ("max_wait_time", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            _array(
                ("topic_id", _TopicId),
                (
                    "partitions",
                    _array(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("fetch_offset", Int64),
                        ("last_fetched_epoch", Int32),
                        ("log_start_offset", Int64),
                        ("max_bytes", Int32),
                    ),
                ),
            ),
        ),
        ("forgotten_topics_data", _array(("topic_id", _TopicId), ("partitions", CompactArray(Int32)))),
        ("rack_id", CompactString()),
    )


class FetchByIdRequest(Request[FetchRequest_v11 | _FetchRequest13]):  # type: ignore[misc]
    """A fetch request of aiokafka's, sent by id where an id is known for each of its topics."""

    API_KEY = 1

    def __init__(self, request: Any, ids: Mapping[TopicPartition, str]) -> None:
        self._request = request
        self._ids = {
            each: ids.get(each, "")
            for topic, partitions in request.topics
            for each in (TopicPartition(topic, partition) for partition, *_ in partitions)
        }

    @property
    def topics(self) -> Any:
        return self._request.topics

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        low, high = versions.get(self.API_KEY, (0, 0))
        if low <= _FetchRequest13.API_VERSION <= high and all(self._ids.values()):
            return self.build(_FetchRequest13)
        return self._request.prepare(versions)

    def build(self, request_struct_class: type[Any]) -> Any:
        by_name = self._request.build(FetchRequest_v11)
        topics: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for topic, partitions in by_name.topics:
            for partition, epoch, offset, log_start, max_bytes in partitions:
                no_epoch_yet = -1
                asked = (partition, epoch, offset, no_epoch_yet, log_start, max_bytes)
                topics[self._ids[TopicPartition(topic, partition)]].append(asked)
        request = request_struct_class(
            by_name.replica_id,
            by_name.max_wait_time,
            by_name.min_bytes,
            by_name.max_bytes,
            by_name.isolation_level,
            by_name.session_id,
            by_name.session_epoch,
            list(topics.items()),
            [],
            by_name.rack_id,
        )
        request.RESPONSE_TYPE = _ResponseByName({topic_id: each.topic for each, topic_id in self._ids.items()})
        return request


class _ResponseByName:
    """Decodes an answer, with names in the place of ids, as the fetcher expects."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def decode(self, data: BytesIO) -> Any:
        response: Any = _FetchResponse13.decode(data)
        response.topics = [
            (
                self._names[topic_id],
                [(number, _known_code(code), *rest, records or b"") for number, code, *rest, records in partitions],
            )
            for topic_id, partitions in response.topics
        ]
        return response


def _known_code(code: int) -> int:
    """Errors of ids as out of range: aiokafka does not know their codes, and would ask again at once and for ever."""
    if code in {_UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID}:
        out_of_range: int = kafka_errors.OffsetOutOfRangeError.errno
        return out_of_range
    return code


# -- offsets of transactions


class _OffsetFetchResponse7(Response):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = _Fields(
        ("throttle_time_ms", Int32),
        (
            "topics",
            _array(
                ("topic", CompactString()),
                (
                    "partitions",
                    _array(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString()),
                        ("error_code", Int16),
                    ),
                ),
            ),
        ),
        ("error_code", Int16),
    )


class _OffsetFetchRequest7(RequestStruct):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetFetchResponse7
    SCHEMA = _Fields(
        ("group", CompactString()),
        ("topics", _array(("topic", CompactString()), ("partitions", CompactArray(Int32)))),
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
