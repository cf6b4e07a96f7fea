"""Fetch requests that name the topic's id and the leader epoch before the offset, in versions that aiokafka lacks.

A topic that was deleted and created again has the name of the former one, and another id. A log that was truncated and
written again has the offsets of the former records, and another leader epoch at them. aiokafka names neither, and goes
on at the same offset in another log, or in another history of it. A broker that is told answers for the topic with that
id only (version 13), and tells where the histories part (version 12). Topics without an id are asked for by name, and
brokers before Kafka 2.7 the way aiokafka does.
"""

import struct
from collections import defaultdict
from collections.abc import Mapping
from io import SEEK_CUR, BytesIO
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.types import (
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
from ingestd.sources.kafka._aiokafka.fields import Fields, TopicId, array
from ingestd.sources.kafka._aiokafka.leader_epochs import FetchPositions

_UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID = 100, 103  # codes that aiokafka does not know
_NO_EPOCH = -1
_DIVERGING_EPOCH_TAG = 0
_EPOCH_AND_END = struct.Struct(">iq")


class _PartitionAnswer(Schema):  # type: ignore[misc]  # aiokafka has no types
    """One partition's part of an answer, with the errors and the layout of aiokafka's version 11.

    An answer that has records of a few partitions, or of none, tells of all that were asked for: a part without records
    is read in one step.
    """

    _ABORTED = array(("producer_id", Int64), ("first_offset", Int64))
    # partition, error_code, highwater_offset, last_stable_offset, log_start_offset
    _HEAD = struct.Struct(">ihqqq")
    # The same, and in one byte each, where they are empty: aborted_transactions, message_set, tags. Before the last two
    # is preferred_read_replica. No part of an answer is shorter.
    _WITHOUT_RECORDS = struct.Struct(">ihqqqBiBB")

    def decode(self, data: BytesIO) -> tuple[Any, ...]:
        found = data.read(self._WITHOUT_RECORDS.size)
        number, code, *offsets, aborted, replica, records, tags = self._WITHOUT_RECORDS.unpack(found)
        if aborted <= 1 and records <= 1 and not tags:
            return (number, _known(code), *offsets, [] if aborted else None, replica, b"")
        data.seek(self._HEAD.size - len(found), SEEK_CUR)
        aborted, replica, records = self._ABORTED.decode(data), Int32.decode(data), CompactBytes.decode(data)
        if _diverges(TaggedFields.decode(data)):
            code = kafka_errors.OffsetOutOfRangeError.errno
        return (number, _known(code), *offsets, aborted, replica, records or b"")


def _known(code: int) -> int:
    """A code that aiokafka knows: it would ask again at once and for ever where a topic has another id."""
    return kafka_errors.OffsetOutOfRangeError.errno if code in {_UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID} else code


class _PartitionQuestion(Schema):  # type: ignore[misc]
    """What is asked of one partition: its fields, and no tags."""

    # partition, current_leader_epoch, fetch_offset, last_fetched_epoch, log_start_offset, max_bytes
    _FIELDS = struct.Struct(">iiqiqix")

    def encode(self, item: tuple[int, ...]) -> bytes:
        return self._FIELDS.pack(*item)


def _diverges(tags: Mapping[int, bytes]) -> bool:
    """Whether the log has another history before the fetch offset than the epoch that was named."""
    tag = tags.get(_DIVERGING_EPOCH_TAG)
    return tag is not None and _EPOCH_AND_END.unpack_from(tag)[0] != _NO_EPOCH


def _response(topic: tuple[str, Any]) -> Fields:
    return Fields(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        ("topics", array(topic, ("partitions", CompactArray(_PartitionAnswer())))),
    )


def _request(topic: tuple[str, Any]) -> Fields:
    return Fields(
        ("replica_id", Int32),
        ("max_wait_time", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        ("topics", array(topic, ("partitions", CompactArray(_PartitionQuestion())))),
        ("forgotten_topics_data", array(topic, ("partitions", CompactArray(Int32)))),
        ("rack_id", CompactString()),
    )


class _FetchResponse12(Response):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = 12
    SCHEMA = _response(("topic", CompactString()))


class _FetchRequest12(RequestStruct):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _FetchResponse12
    SCHEMA = _request(("topic", CompactString()))


class _FetchResponse13(Response):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = 13
    SCHEMA = _response(("topic_id", TopicId))


class _FetchRequest13(RequestStruct):  # type: ignore[misc]
    API_KEY = 1
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _FetchResponse13
    SCHEMA = _request(("topic_id", TopicId))


class FetchRequest(Request[FetchRequest_v11 | _FetchRequest12 | _FetchRequest13]):  # type: ignore[misc]
    """A fetch request of aiokafka's, with the epochs of the positions, and by id where each of its topics has one."""

    API_KEY = 1

    def __init__(self, request: Any, ids: Mapping[TopicPartition, str], positions: FetchPositions) -> None:
        self._request = request
        # Both of this moment: they may have changed once the request is sent, but its offsets have not.
        self._ids: dict[TopicPartition, str] = {}
        self._epochs: dict[TopicPartition, int | None] = {}
        for topic, partitions in request.topics:
            for number, offset, *_ in partitions:
                partition = TopicPartition(topic, number)
                self._ids[partition] = ids.get(partition, "")
                self._epochs[partition] = positions.epoch_before(partition, offset)

    @property
    def topics(self) -> Any:
        return self._request.topics

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        low, high = versions.get(self.API_KEY, (0, 0))
        if low <= _FetchRequest13.API_VERSION <= high and all(self._ids.values()):
            return self.build(_FetchRequest13)
        if low <= _FetchRequest12.API_VERSION <= high:
            return self.build(_FetchRequest12)
        return self._request.prepare(versions)

    def build(self, request_struct_class: type[Any]) -> Any:
        by_name = self._request.build(FetchRequest_v11)
        by_id = request_struct_class is _FetchRequest13
        topics: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for topic, partitions in by_name.topics:
            for number, current_epoch, offset, log_start, max_bytes in partitions:
                partition = TopicPartition(topic, number)
                epoch = self._epochs[partition]
                asked = (number, current_epoch, offset, _NO_EPOCH if epoch is None else epoch, log_start, max_bytes)
                topics[self._ids[partition] if by_id else topic].append(asked)
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
        if by_id:
            request.RESPONSE_TYPE = _ResponseByName({topic_id: each.topic for each, topic_id in self._ids.items()})
        return request


class _ResponseByName:
    """Decodes an answer, with names in the place of ids, as the fetcher expects."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def decode(self, data: BytesIO) -> Any:
        response: Any = _FetchResponse13.decode(data)
        response.topics = [(self._names[topic_id], partitions) for topic_id, partitions in response.topics]
        return response
