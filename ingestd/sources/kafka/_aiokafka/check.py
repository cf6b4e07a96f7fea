"""Checks at import that the installed aiokafka is the one whose internals this package uses."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

import aiokafka

from ingestd.core.errors import SourceError

SUPPORTED_VERSION = "0.14.0"

#: The parameters of each function that is called, overridden or copied with other globals.
SIGNATURES: Mapping[str, str] = {
    "client:AIOKafkaClient.send": "self node_id request group",
    "client:AIOKafkaClient.ready": "self node_id group",
    "client:AIOKafkaClient.coordinator_lookup": "self coordinator_type coordinator_key",
    "client:AIOKafkaClient.close": "self",
    "client:AIOKafkaClient.force_metadata_update": "self",
    "client:AIOKafkaClient.set_topics": "self topics",
    "client:AIOKafkaClient.get_random_node": "self",
    "conn:AIOKafkaConnection.send": "self request expect_response",
    "conn:AIOKafkaConnection.close": "self reason exc",
    "conn:collect_hosts": "hosts randomize",
    "consumer.subscription_state:SubscriptionState.abort_waiters": "self exc",
    "consumer.subscription_state:Assignment.state_value": "self tp",
    "consumer.fetcher:FetchResult.getall": "self max_records",
    "consumer.fetcher:FetchResult.check_assignment": "self tp",
    "consumer.fetcher:FetchResult._update_position": "self",
    "consumer.fetcher:Fetcher._get_actions_per_node": "self assignment",
    "consumer.fetcher:Fetcher._proc_fetch_request": "self assignment node_id request",
    "consumer.fetcher:Fetcher.close": "self",
    "consumer.fetcher:PartitionRecords.__init__": "self tp records aborted_transactions fetch_offset key_deserializer "
    "value_deserializer check_crcs isolation_level",
    "consumer.fetcher:PartitionRecords._consume_aborted_up_to": "self batch_offset",
    "consumer.fetcher:PartitionRecords._contains_abort_marker": "self next_batch",
    "consumer.fetcher:PartitionRecords._unpack_records": "self",
    "consumer.group_coordinator:GroupCoordinator.ensure_coordinator_known": "self",
    "consumer.group_coordinator:GroupCoordinator._send_req": "self request",
    "consumer.group_coordinator:GroupCoordinator.coordinator_dead": "self",
    "consumer.group_coordinator:GroupCoordinator._stop_heartbeat_task": "self",
    "consumer.group_coordinator:GroupCoordinator._stop_commit_offsets_refresh_task": "self",
    "partitioner:murmur2": "data",
    "producer.message_accumulator:MessageAccumulator.fail_all": "self exception",
    "producer.sender:SendProduceReqHandler._can_retry": "self error batch",
    "producer.transaction_manager:TransactionManager.increment_sequence_number": "self tp increment",
    "protocol.api:Request.prepare": "self versions",
    "protocol.types:Schema.decode": "self data",
    "protocol.types:Schema.encode": "self item",
    "protocol.types:TaggedFields.decode": "cls data",
    "record.default_records:_DefaultRecordBatchPy._maybe_uncompress": "self",
    "record.memory_records:_MemoryRecordsPy.next_batch": "self _min_slice _magic_offset",
}
#: The attributes of each class: set in its ``__init__``, or on the class.
ATTRIBUTES: Mapping[str, str] = {
    "client:AIOKafkaClient": "_loop _md_update_fut _sync_task cluster",
    "consumer.consumer:AIOKafkaConsumer": "_client _coordinator _fetcher _group_id _subscription",
    "consumer.fetcher:FetchResult": "_partition_records _topic_partition",
    "consumer.fetcher:Fetcher": "_fetch_max_bytes _fetch_task _records",
    "consumer.fetcher:PartitionRecords": "_aborted_producers _check_crcs _isolation_level _records _tp "
    "next_fetch_offset",
    "consumer.subscription_state:SubscriptionState": "subscription",
    "consumer.subscription_state:Subscription": "assignment",
    "consumer.subscription_state:TopicPartitionState": "has_valid_position highwater lso position timestamp",
    "consumer.group_coordinator:GroupCoordinator": "generation member_id",
    "producer.message_accumulator:MessageAccumulator": "_batches",
    "producer.message_accumulator:MessageBatch": "_drain_waiter tp",
    "producer.producer:AIOKafkaProducer": "_message_accumulator _sender _txn_manager client",
    "producer.sender:BaseHandler": "_sender",
    "producer.sender:Sender": "sender_task",
    "producer.transaction_manager:TransactionManager": "_sequence_numbers _transaction_waiter",
    "record.default_records:DefaultRecordBatch": "base_offset is_control_batch is_transactional next_offset "
    "producer_id validate_crc",
    "record.default_records:_DefaultRecordBatchPy": "_buffer",
    "record.memory_records:MemoryRecords": "has_next next_batch size_in_bytes",
    "record.memory_records:_MemoryRecordsPy": "_next_slice",
}

#: The global names that each function looks up, and that its copy of `with_globals` sees other values for.
GLOBALS: Mapping[str, str] = {
    "client:AIOKafkaClient._get_conn": "create_conn",
    "client:AIOKafkaClient.bootstrap": "create_conn",
    "conn:create_conn": "AIOKafkaConnection",
    "consumer.consumer:AIOKafkaConsumer.__init__": "AIOKafkaClient",
    "consumer.consumer:AIOKafkaConsumer.start": "Fetcher",
    "consumer.fetcher:Fetcher._proc_fetch_request": "FetchResult MemoryRecords PartitionRecords",
    "consumer.fetcher:Fetcher.fetched_records": "FetchResult",
    "consumer.fetcher:Fetcher.next_record": "FetchResult",
    "producer.producer:AIOKafkaProducer.__init__": "AIOKafkaClient Sender TransactionManager",
    "producer.sender:Sender._send_produce_req": "SendProduceReqHandler",
    "producer.sender:SendProduceReqHandler.handle_response": "Errors",
}

#: The fields of each structure of the protocol that is filled or read by name.
FIELDS: Mapping[str, str] = {
    "protocol.fetch:FetchRequest_v11": "replica_id max_wait_time min_bytes max_bytes isolation_level session_id "
    "session_epoch topics forgotten_topics_data rack_id",
    "protocol.metadata:MetadataRequest_v5": "topics allow_auto_topic_creation",
    "protocol.offset:OffsetRequest_v2": "replica_id isolation_level topics",
    "protocol.offset:OffsetRequest_v3": "replica_id isolation_level topics",
    "protocol.offset:OffsetResponse_v4": "throttle_time_ms topics",
}


def check_version(installed: str) -> None:
    """``SourceError`` where another version of aiokafka is installed than the one that was tested."""
    if installed != SUPPORTED_VERSION:
        raise SourceError(
            f"aiokafka {installed} is installed, but ingestd uses internals of aiokafka {SUPPORTED_VERSION}",
            hint=f"install aiokafka=={SUPPORTED_VERSION}",
        )


def check_internals() -> None:
    """``SourceError`` that names the first function or attribute that is not as expected."""
    for path, parameters in SIGNATURES.items():
        code = getattr(_find(path), "__code__", None)
        if not isinstance(code, CodeType) or " ".join(_parameters(code)) != parameters:
            raise _unexpected(path)
    for path, names in ATTRIBUTES.items():
        kind = _find(path)
        set_in_init = getattr(getattr(kind, "__init__", None), "__code__", None)
        known = set_in_init.co_names if isinstance(set_in_init, CodeType) else ()
        for name in names.split():
            if name not in known and not _has(kind, name):
                raise _unexpected(f"{path}.{name}")
    for path, names in GLOBALS.items():
        function = _find(path)
        code = getattr(function, "__code__", None)
        if not isinstance(code, CodeType) or not {*names.split()} <= {*code.co_names} & function.__globals__.keys():
            raise _unexpected(f"{path}, which uses {names},")
    for path, names in FIELDS.items():
        if " ".join(getattr(getattr(_find(path), "SCHEMA", None), "names", ())) != names:
            raise _unexpected(path)


def with_globals(function: Any, **replaced: Any) -> Callable[..., Any]:
    """A copy of a function of aiokafka's that sees other values for these global names; the original is unchanged."""
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **replaced},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _find(path: str) -> Any:
    module, _, names = path.partition(":")
    found: Any = import_module(f"aiokafka.{module}")
    for name in names.split("."):
        found = getattr(found, name, None)
    return found


def _parameters(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _has(kind: Any, name: str) -> bool:
    """Whether a class, or one of its bases, declares the attribute."""
    return hasattr(kind, name) or any(name in getattr(base, "__annotations__", ()) for base in kind.__mro__)


def _unexpected(what: str) -> SourceError:
    return SourceError(
        f"aiokafka.{what} is not as in aiokafka {SUPPORTED_VERSION}",
        hint=f"install an unchanged aiokafka=={SUPPORTED_VERSION}",
    )


check_version(aiokafka.__version__)
check_internals()
