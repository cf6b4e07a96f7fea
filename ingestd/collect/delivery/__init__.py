"""Makes events safe: in Kafka, in the journal, or in Kafka with the journal behind it."""

from ingestd.collect.delivery.counts import DeliveryCounts
from ingestd.collect.delivery.journal import JournalDelivery
from ingestd.collect.delivery.kafka import KafkaDelivery
from ingestd.collect.delivery.ports import Journal, Sender, Sending, Spool

__all__ = ["DeliveryCounts", "Journal", "JournalDelivery", "KafkaDelivery", "Sender", "Sending", "Spool"]
