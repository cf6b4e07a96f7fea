"""Topics by their ids. A topic that was deleted and created again has the name of the former one, and another id.

aiokafka fetches by name, and so it goes on at the same offset in another topic's log. Here are the versions of Kafka's
requests that have ids, and what makes a fetcher use them: what a broker hands out then is of the topic that is asked
for. Brokers before Kafka 3.1, and topics that have no id, are asked by name.
"""

import base64
from collections import defaultdict
from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.metadata import MetadataRequest_v5
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
from ingestd.sources.kafka.bootstrap import FAILURES
from ingestd.sources.kafka.requests import Answers, Brokers

_NONE = bytes(16)  # the id of a topic that has none
_UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID = 100, 103
_NO_TAGS = b"\0"


async def ask(brokers: Brokers, partitions: Collection[TopicPartition]) -> Answers[str]:
    """The ids of the partitions' topics, as each partition's leader knows them; "" where there is none."""
    answers: dict[TopicPartition, str | BaseException] = {}
    by_leader: dict[int, list[TopicPartition]] = defaultdict(list)
    for partition in partitions:
        if (node := brokers.leader(partition)) is None:
            answers[partition] = kafka_errors.LeaderNotAvailableError(str(partition))
        else:
            by_leader[node].append(partition)
    for node, led in by_leader.items():
        try:
            found = await _ask_leader(brokers, node, {partition.topic for partition in led})
        except FAILURES as error:
            found = dict.fromkeys((partition.topic for partition in led), error)
        if any(isinstance(answer, BaseException) for answer in found.values()):
            brokers.refresh()
        answers |= {each: found.get(each.topic, kafka_errors.UnknownTopicOrPartitionError(str(each))) for each in led}
    return answers


async def _ask_leader(brokers: Brokers, node: int, topics: Collection[str]) -> dict[str, str | BaseException]:
    answer = await brokers.ask_broker(node, _TopicsRequest(sorted(topics)))
    found: dict[str, str | BaseException] = {}
    for code, topic, topic_id, *_ in answer.topics:
        error = kafka_errors.for_code(code)
        known = topic_id if answer.API_VERSION == _MetadataResponse12.API_VERSION else ""
        found[topic] = known if error is kafka_errors.NoError else error(topic)
    return found


def fetch_by_id(fetcher: Any, ids: Mapping[TopicPartition, str]) -> None:
    """Have a fetcher ask for topics of these ids. Partitions of other topics are reported as out of range."""
    actions = fetcher._get_actions_per_node

    def with_ids(assignment: Any) -> tuple[Any, ...]:
        requests, *others = actions(assignment)
        return [(node, _FetchById(request, ids)) for node, request in requests], *others

    fetcher._get_actions_per_node = with_ids


# -- how they are written


class _Id:
    """16 bytes, and in text as Kafka prints them; "" for none."""

    @staticmethod
    def encode(value: str) -> bytes:
        return base64.urlsafe_b64decode(f"{value}==") if value else _NONE

    @staticmethod
    def decode(data: BytesIO) -> str:
        value = data.read(len(_NONE))
        return "" if value == _NONE else base64.urlsafe_b64encode(value).decode().rstrip("=")

    repr = repr


class _Fields(Schema):  # type: ignore[misc]  # aiokafka has no types
    """A structure of the protocol's flexible versions. What its tags say is of no use to us."""

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
                ("topic_id", _Id),
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
        ("topics", _array(("topic_id", _Id), ("topic", CompactString()))),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
    )


class _TopicsRequest(Request[MetadataRequest_v5 | _MetadataRequest12]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[Any]) -> Any:
        if request_struct_class is _MetadataRequest12:
            return _MetadataRequest12([("", topic) for topic in self._topics], False, False)
        return request_struct_class(list(self._topics), False)


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
                ("topic_id", _Id),
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
                ("topic_id", _Id),
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
        ("forgotten_topics_data", _array(("topic_id", _Id), ("partitions", CompactArray(Int32)))),
        ("rack_id", CompactString()),
    )


class _FetchById(Request[FetchRequest_v11 | _FetchRequest13]):  # type: ignore[misc]
    """A fetch request of aiokafka's, asked by id where there is one for each of its topics."""

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
        request.RESPONSE_TYPE = _ByName({topic_id: each.topic for each, topic_id in self._ids.items()})
        return request


class _ByName:
    """Reads an answer, with the names that the fetcher knows topics by."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def decode(self, data: BytesIO) -> Any:
        response: Any = _FetchResponse13.decode(data)
        response.topics = [
            (
                self._names[topic_id],
                [(number, _meaning(code), *rest, records or b"") for number, code, *rest, records in partitions],
            )
            for topic_id, partitions in response.topics
        ]
        return response


def _meaning(code: int) -> int:
    """What aiokafka makes of it: it does not know these codes, and would ask again at once and for ever."""
    if code in {_UNKNOWN_TOPIC_ID, _INCONSISTENT_TOPIC_ID}:
        out_of_range: int = kafka_errors.OffsetOutOfRangeError.errno
        return out_of_range
    return code
