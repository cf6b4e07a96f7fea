"""Benchmark of a stream and a queue beside Kafka: `python -m benchmarks.queues`."""
