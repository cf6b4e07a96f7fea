"""The offsets of a topic's records as librdkafka reads them: a count that shares no code with ours."""

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

_WAIT = 30.0  # seconds without any record


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
    left = set(found)
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in found])
        while left:
            messages = consumer.consume(1000, _WAIT if len(left) == len(found) else 1.0)
            for message in messages:
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
