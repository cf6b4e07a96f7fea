"""Kafka as a source, and the producer behind ``ingestd produce``. Only files of this package import aiokafka.

client     options, TLS, credentials, the first contact, what aiokafka's errors mean
oauth      tokens for OAUTHBEARER
member     one consumer in the group: its partitions, and where each of them is read
commits    one commit request at a time, in order
offsets    questions to brokers, asked for many partitions at once
source     the port: fetching, failures, rebuilding
reader     looks at topics and a group from outside
producer   writes messages into a topic
"""

from ingestd.sources.kafka.producer import produce
from ingestd.sources.kafka.reader import Reader, open_reader
from ingestd.sources.kafka.source import KafkaSource

__all__ = ["KafkaSource", "Reader", "open_reader", "produce"]
