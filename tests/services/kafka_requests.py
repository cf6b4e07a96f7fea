"""Requests that aiokafka does not have: who leads the quorum, elections, and configuration."""

from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

_TAGS = ("tags", TaggedFields)
_TOPIC, _COMPACT_TOPIC = ("topic", String("utf-8")), ("topic", CompactString("utf-8"))


class _DescribeQuorumResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 55, 0
    _REPLICA = (("replica_id", Int32), ("log_end_offset", Int64), _TAGS)
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                _COMPACT_TOPIC,
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", CompactArray(*_REPLICA)),
                        ("observers", CompactArray(*_REPLICA)),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class _DescribeQuorum(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION, API_KEY, API_VERSION, RESPONSE_TYPE = True, 55, 0, _DescribeQuorumResponse
    _PARTITIONS = ("partitions", CompactArray(("partition", Int32), _TAGS))
    SCHEMA = Schema(("topics", CompactArray(_COMPACT_TOPIC, _PARTITIONS, _TAGS)), _TAGS)


class _ElectLeadersResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 43, 1
    _PARTITIONS = ("partitions", Array(("partition", Int32), ("error_code", Int16), ("message", String("utf-8"))))
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16), ("topics", Array(_TOPIC, _PARTITIONS)))


class _ElectLeaders(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = 43, 1, _ElectLeadersResponse
    _PARTITIONS = ("partitions", Array(Int32))
    SCHEMA = Schema(("election_type", Int8), ("topics", Array(_TOPIC, _PARTITIONS)), ("timeout_ms", Int32))


class _AlterConfigsResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 44, 0
    _RESOURCE = (("error_code", Int16), ("message", String("utf-8")), ("type", Int8), ("name", String("utf-8")))
    SCHEMA = Schema(("throttle_time_ms", Int32), ("resources", Array(*_RESOURCE)))


class _AlterConfigs(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = 44, 0, _AlterConfigsResponse
    _CONFIG = (("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8")))
    _RESOURCE = (("type", Int8), ("name", String("utf-8")), ("configs", Array(*_CONFIG)))
    # The last field is `validate_only`; as a number, so that it needs no type of its own.
    SCHEMA = Schema(("resources", Array(*_RESOURCE)), ("validate_only", Int8))


def _keep(request: Any, *fields: Any) -> None:
    request.fields = fields


def _build(request: Any, struct: Any) -> Any:
    return struct(*request.fields)


class DescribeQuorum(Request[_DescribeQuorum]):  # type: ignore[misc]
    """Fields: topics, of (name, [(partition, tags)], tags); tags."""

    API_KEY, __init__, build = 55, _keep, _build


class ElectLeaders(Request[_ElectLeaders]):  # type: ignore[misc]
    """Fields: PREFERRED or UNCLEAN; topics, of (name, partitions); time-out in ms."""

    API_KEY, __init__, build = 43, _keep, _build
    PREFERRED, UNCLEAN = 0, 1


class IncrementalAlterConfigs(Request[_AlterConfigs]):  # type: ignore[misc]
    """Fields: resources, of (TOPIC, name, [(key, SET, value)]); whether they are only checked."""

    API_KEY, __init__, build = 44, _keep, _build
    TOPIC, SET = 2, 0
