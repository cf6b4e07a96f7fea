"""A real Kafka broker and a real S3 server, for the tests and for `make services`."""
