"""Kafka as a source, and the producer behind ``ingestd produce``. Only files of this package import aiokafka.

client     options, TLS, credentials, the first contact, what aiokafka's errors mean
oauth      tokens for OAUTHBEARER
member     one consumer in the group: its partitions, and where each of them is read
commits    one commit request at a time, in order
offsets    questions to brokers, asked for many partitions at once
source     the port: fetching, failures, rebuilding
outside    requests from a client that is not in the group
reader     looks at topics and a group from outside
onlooker   the port once more, for who only looks on
contact    the first contact, one server and one topic at a time
producer   writes messages into a topic
transactions   produces records in transactions
"""

from ingestd.sources.kafka.inspector import Inspector, open_inspector
from ingestd.sources.kafka.producer import produce
from ingestd.sources.kafka.read_only import ReadOnlySource
from ingestd.sources.kafka.source import KafkaSource
from ingestd.sources.kafka.transactions import find_topic, open_transactions

__all__ = ["Inspector", "KafkaSource", "ReadOnlySource", "find_topic", "open_inspector", "open_transactions", "produce"]
