"""All use of aiokafka's internals, for one exact version of it.

Another version, or one whose internals differ, fails at import with one `SourceError`. Changes are in
subclasses, nothing is monkeypatched: consumers and producers of other code in the same process are not affected.

check           the version, and the signatures and attributes that the other files rely on
connection      connections and clients that survive a lost connection on uvloop
consumer        the consumer, with what aiokafka's public methods do not tell
fast_records    records of a fetch in lists instead of one by one
fetch_request   fetches by topic id and leader epoch
fetcher         builds fetch requests and reads their answers
fields          types of Kafka's protocol
leader_epochs   of record batches and of fetch positions
prefetch_limit  bounds the bytes that are fetched ahead and handed out at once
producer        the producer: errors that aiokafka does not know, sequence numbers, an end within a bound
protocol        requests of Kafka's protocol, some in versions that aiokafka does not have
"""

from ingestd.sources.kafka._aiokafka.check import SUPPORTED_VERSION
from ingestd.sources.kafka._aiokafka.connection import ConnectionGroup, CoordinationType, collect_hosts, create_conn
from ingestd.sources.kafka._aiokafka.consumer import Consumer
from ingestd.sources.kafka._aiokafka.producer import InvalidRecordError, Producer, hash_key
from ingestd.sources.kafka._aiokafka.protocol import (
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    EpochEndRequest,
    HeartbeatRequest,
    InitProducerIdRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    StableOffsetRequest,
    TopicAccessRequest,
    TopicIdsRequest,
)

__all__ = [
    "SUPPORTED_VERSION",
    "ConnectionGroup",
    "Consumer",
    "CoordinationType",
    "DescribeConfigsRequest",
    "DescribeGroupsRequest",
    "EpochEndRequest",
    "HeartbeatRequest",
    "InitProducerIdRequest",
    "InvalidRecordError",
    "ListOffsetsRequest",
    "MetadataRequest",
    "OffsetCommitRequest",
    "OffsetFetchRequest",
    "Producer",
    "StableOffsetRequest",
    "TopicAccessRequest",
    "TopicIdsRequest",
    "collect_hosts",
    "create_conn",
    "hash_key",
]
