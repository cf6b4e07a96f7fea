"""ingestd: Kafka events as validated gzip JSON lines in S3, each exactly once."""

__version__ = "0.1.0"
