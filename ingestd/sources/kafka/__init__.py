"""Kafka as a source, and the producers of `ingestd produce` and `ingestd requeue`. Only this package imports aiokafka.

consumer            the port `Source`: fetching, recovery from failures, rebuilding
read_only           the port once more, for `ingestd check`: joins no group, commits nothing
group_consumer      one consumer in the group: its partitions and their positions
commits             one commit request at a time, in order
requests            offsets, epochs and topic ids, asked for many partitions at once
epoch_ends          where leader epochs end
coordinator_client  requests to leaders and to the group's coordinator
bootstrap           finds the cluster and the topics; bootstrap_check does so server by server, for `ingestd check`
auth                options, TLS, credentials, tokens for OAUTHBEARER
inspector           reads topics and a group without joining it
producer            writes messages into a topic
transactions        produces records in transactions
errors, retry, error_state   which errors pass, their retries, and what is reported meanwhile
_aiokafka           all use of aiokafka's internals
"""

from ingestd.sources.kafka.consumer import KafkaSource
from ingestd.sources.kafka.inspector import Inspector, open_inspector
from ingestd.sources.kafka.producer import produce
from ingestd.sources.kafka.read_only import ReadOnlySource
from ingestd.sources.kafka.transactions import find_topic, open_transactions

__all__ = ["Inspector", "KafkaSource", "ReadOnlySource", "find_topic", "open_inspector", "open_transactions", "produce"]
