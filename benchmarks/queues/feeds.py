"""Fills a stream and a queue with events of the usual size.

An event that is not taken is an error: who reads would wait for it in vain.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.rig.fill import Load, events
from tests.services.elasticmq import ElasticMQ
from tests.services.process import ServiceError

SHARDS = 2
PER_PUT = 500  # records of one shard
_ACTIVE_S = 30.0
# Nothing is repeated: what was taken and not answered would be there twice.
ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=10, read_timeout=120)
_PER_SEND = 10
_HASHES = 2**128


def fill_queue(server: ElasticMQ, name: str, messages: int) -> str:
    """Create a queue with so many events; its URL."""
    url = server.create_queue(name)
    with closing(server.client(config=ONCE)) as client, _errors_of(server.name):
        for batch in _batches(messages, _PER_SEND):
            entries = [{"Id": str(number), "MessageBody": value.decode()} for number, value in enumerate(batch)]
            if failed := client.send_message_batch(QueueUrl=url, Entries=entries).get("Failed"):
                raise ServiceError(f"{server.name} does not take {len(failed)} of {len(batch)} messages: {failed[0]}")
    if (found := server.depth(url)) != (messages, 0):
        raise ServiceError(f"{server.name} has {found} messages (visible, in flight) of {messages} that were sent")
    return url


def fill_stream(client: Any, name: str, records: int) -> None:
    """Create a stream with so many events, a multiple of `PER_PUT`, to each shard in turn. `client` is closed."""
    until = time.monotonic() + _ACTIVE_S
    with closing(client), _errors_of("the stand-in for Kinesis"):
        client.create_stream(StreamName=name, ShardCount=SHARDS)
        while (status := _stream_status(client, name)) != "ACTIVE":
            if time.monotonic() > until:
                raise ServiceError(f"the stream {name} is {status} after {_ACTIVE_S:g} s")
            time.sleep(0.05)
        for number, batch in enumerate(_batches(records, PER_PUT)):
            shard = str(_HASHES // SHARDS * (number % SHARDS))
            entries = [
                {"Data": value, "PartitionKey": f"{number}-{index}", "ExplicitHashKey": shard}
                for index, value in enumerate(batch)
            ]
            if failed := client.put_records(StreamName=name, Records=entries)["FailedRecordCount"]:
                raise ServiceError(f"the stream {name} does not take {failed} of {len(batch)} records")


def _stream_status(client: Any, name: str) -> str:
    return str(client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"])


def _batches(count: int, size: int) -> Iterator[list[bytes]]:
    values = islice(events(Load(events=count)), count)
    while batch := list(islice(values, size)):
        yield batch


@contextmanager
def _errors_of(service: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise ServiceError(f"{service} does not take events: {error}") from error
