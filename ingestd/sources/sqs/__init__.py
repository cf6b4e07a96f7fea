"""The SQS source: the port of a queue, its client, and the sender for `ingestd requeue`."""
