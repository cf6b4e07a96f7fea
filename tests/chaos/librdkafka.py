"""The offsets of a topic's records as librdkafka reads them: a count that shares no code with ours."""

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

_LONGEST = 120.0  # seconds for all
_POLL = 0.1  # it waits so long for as many records as are asked for


def read_offsets(bootstrap: str, topic: str, partitions: int) -> dict[int, set[int]]:
    """The offsets by partition, of committed records only."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"count-{topic}",  # it has to have one, and never joins it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    found: dict[int, set[int]] = {partition: set() for partition in range(partitions)}
    left, limit = set(found), time.monotonic() + _LONGEST
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in found])
        while left:
            assert time.monotonic() < limit, f"after {_LONGEST:g} s the partitions {left} are not read to their end"
            for message in consumer.consume(10_000, _POLL):
                partition, error = message.partition(), message.error()
                if error is None:
                    found[partition].add(message.offset())
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(partition)
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return found
