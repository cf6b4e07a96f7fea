"""Quix Streams with its S3 sink. A peer: it runs in its own environment.

    python quix.py json|bytes

`json` is its own way: its JSON format and its JSON deserialiser. `bytes` gives its sink a format that joins lines.
"""

import gzip
import os
import sys

from quixstreams import Application
from quixstreams.sinks.base import SinkBatch
from quixstreams.sinks.community.file.formats import Format, JSONFormat
from quixstreams.sinks.community.file.s3 import S3FileSink

LEVEL = 1


class Lines(Format):  # type: ignore[misc] # it is not in our environment
    """The values as they are, one a line."""

    file_extension = ".jsonl.gz"
    supports_append = True

    def serialize(self, batch: SinkBatch) -> bytes:
        """One gzip file."""
        return gzip.compress(b"".join(item.value + b"\n" for item in batch), LEVEL)


def main() -> None:
    kind = sys.argv[1]
    application = Application(
        broker_address=os.environ["BOOTSTRAP"],
        consumer_group=os.environ["GROUP"],
        auto_offset_reset="earliest",
        commit_every=int(os.environ["ROWS"]) * int(os.environ["PARTITIONS"]),
        commit_interval=float(os.environ["FLUSH_S"]),
        consumer_extra_config={"session.timeout.ms": 6000, "max.partition.fetch.bytes": 4 << 20},
        max_partition_buffer_size=10_000,
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    sink = S3FileSink(
        bucket=os.environ["BUCKET"],
        endpoint_url=os.environ["S3_ENDPOINT"],
        directory=os.environ["PREFIX"],
        format=Lines() if kind == "bytes" else JSONFormat(compress=True),
    )
    application.dataframe(application.topic(os.environ["TOPIC"], value_deserializer=kind)).sink(sink)
    application.run()


if __name__ == "__main__":
    main()
