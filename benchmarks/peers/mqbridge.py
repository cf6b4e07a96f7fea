"""mq-bridge: a route from Kafka into an object store, run by its Rust core. A peer: it runs in its own environment."""

import logging
import os
import signal

from mq_bridge import Route, init_logging, request_shutdown


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    init_logging("warn")
    signal.signal(signal.SIGTERM, lambda *_: request_shutdown())
    Route.from_config({
        "input": {
            "kafka": {
                "url": os.environ["BOOTSTRAP"],
                "topic": os.environ["TOPIC"],
                "group_id": os.environ["GROUP"],
                "source_metadata": True,
                "consumer_options": [
                    ["auto.offset.reset", "earliest"],
                    ["session.timeout.ms", "6000"],
                    ["max.partition.fetch.bytes", str(4 << 20)],
                    ["queued.max.messages.kbytes", "65536"],
                ],
            }
        },
        "output": {
            "object_store": {
                "url": f"s3://{os.environ['BUCKET']}/{os.environ['PREFIX']}",
                "format": "raw",
                "compression": "gzip",
            }
        },
        "batch_size": int(os.environ["ROWS"]),
        "concurrency": 2,
    }).run()  # fmt: skip


if __name__ == "__main__":
    main()
