"""What became of events, as plain counters. Pure.

Events that were made safe = produced + journaled + refused by Kafka at once; those journaled = forwarded + waiting +
refused by Kafka later.
"""

from dataclasses import dataclass


@dataclass
class DeliveryCounts:
    """Since the start. An event whose request was answered 503 may be counted, too."""

    produced: int = 0  # acknowledged by Kafka, without the journal
    journaled: int = 0  # written to the journal
    forwarded: int = 0  # acknowledged by Kafka, from the journal
    refused: int = 0  # refused by the topic for good, and kept apart
    accepted_later: int = 0  # of those: acknowledged when they were tried again
    repeated: int = 0  # of those journaled: may be in Kafka already, since they were on their way
