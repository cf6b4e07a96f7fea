"""The Kinesis source: the shards of one data stream, read by polling and shared among daemons."""
