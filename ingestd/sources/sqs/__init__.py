"""The SQS source: the port of a queue, and its client."""
