"""`make services`: a broker and a store in the foreground, to try things by hand."""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.services import clients, kinesis, ministack, snowflake
from tests.services.elasticmq import elasticmq_jars
from tests.services.environment import ensure_environment
from tests.services.kafka import KafkaBroker, create_topic, ensure_class_archive, topic_admin
from tests.services.kafka_program import ensure_jars
from tests.services.ports import GRPC_OFFSET, free_port, is_free
from tests.services.process import ServiceError, end_in_order
from tests.services.seaweed import REGION, SeaweedFS, find_weed

KAFKA_PORT = 29092
S3_PORT = 28333
TOPIC = "marketing_events"
PARTITIONS = 6
BUCKET = "marketing-events-bucket"


def main() -> None:
    """Get what the services need, or run them."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only get what they need")
    options = parser.parse_args()
    try:
        check() if options.check else serve()
    except ServiceError as error:
        sys.exit(str(error))


def check() -> None:
    """Get what the services need, and say where it is; raise ServiceError when something is missing."""
    for what, where in (
        ("Kafka, fetched through Maven the first time", ensure_jars),
        ("Kafka's classes, loaded once", ensure_class_archive),
        ("SeaweedFS", find_weed),
        ("ministack", lambda: ensure_environment("ministack", ministack.REQUIREMENTS)),
        ("Kinesis' stand-ins", kinesis.emulators),
        ("ElasticMQ, fetched through Maven the first time", elasticmq_jars),
        ("Python's analytics SDKs", clients.python_environment),
        ("Snowflake's stand-in", lambda: ensure_environment("snowflake", snowflake.REQUIREMENTS)),
    ):
        print(f"{what}: ", end="", flush=True)
        print(where())


def serve() -> None:
    """Run both until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    end_in_order()
    try:
        with tempfile.TemporaryDirectory(prefix="ingestd-services-") as directory:
            _serve_in(Path(directory))
    except KeyboardInterrupt:
        print("\nStopped; the data is removed.")


def _serve_in(directory: Path) -> None:
    for name in ("kafka", "s3"):
        (directory / name).mkdir()
    print("Starting Kafka and SeaweedFS ...", flush=True)
    broker = KafkaBroker(directory / "kafka", port=_preferred(KAFKA_PORT))
    store = SeaweedFS(directory / "s3", port=_preferred(S3_PORT))
    with broker, store:
        asyncio.run(_create_default_topic(broker.bootstrap))
        store.create_bucket(BUCKET)
        print(_usage(broker, store), flush=True)
        while broker.running and store.running:
            time.sleep(0.5)
        raise ServiceError(f"{'SeaweedFS' if broker.running else 'Kafka'} has ended by itself.")


def _preferred(port: int) -> int:
    return port if is_free(port) and is_free(port + GRPC_OFFSET) else free_port()


async def _create_default_topic(bootstrap: str) -> None:
    async with topic_admin(bootstrap) as admin:
        await create_topic(admin, TOPIC, PARTITIONS)


def _usage(broker: KafkaBroker, store: SeaweedFS) -> str:
    return f"""
  Kafka    {broker.bootstrap}    topic {TOPIC}, {PARTITIONS} partitions
  S3       {store.endpoint}    bucket {BUCKET}, access key {store.access_key}, secret key {store.secret_key}

In another terminal:

  AWS_ACCESS_KEY_ID={store.access_key} AWS_SECRET_ACCESS_KEY={store.secret_key} AWS_REGION={REGION} \\
  .venv/bin/ingestd --set kafka.bootstrap_servers={broker.bootstrap} --set kafka.topics={TOPIC} \\
    --set s3.endpoint_url={store.endpoint} --set sink.url=s3://{BUCKET}

Ctrl-C stops both and removes their data.
"""


if __name__ == "__main__":
    main()
