"""What a hostile producer or a stranger at the HTTP port can do to a running daemon."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path

from aiokafka import AIOKafkaProducer

from ingestd.ops.http import MAX_CONNECTIONS
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.group import caught_up
from tests.e2e.loader import in_bucket
from tests.e2e.test_bad_input import event, quarantined_in
from tests.services.kafka import KafkaAddress
from tests.services.ports import HOST
from tests.services.seaweed import S3Store
from tests.test_kafka_bad_headers import Headers, raw_batch
from tests.test_security_events import ODD_TEXT, REFUSED

BAD_NAMES: Headers = [(b"\xff\xfe", b"v"), (b"\x00\x1b[2J", None), (b"", b"")]
MIB = 1 << 20


def hostile_values() -> dict[str, bytes | None]:
    """By name; what the validator alone decides is in tests/test_security_events.py."""
    refused = {name: value for name, (value, _) in REFUSED.items() if len(value) < 6 * MIB}
    accepted = {name: event(text) for name, text in ODD_TEXT.items()}
    keys = dict.fromkeys((f"k{number}" for number in range(50_000)), 1)
    return {**refused, **accepted, "50,000 keys": event("keys", **keys), "null": None}


async def write(bootstrap: str, topic: str, values: Mapping[str, bytes | None]) -> None:
    """In their order into the only partition, each with headers that no client library should let pass."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=32 * MIB, max_batch_size=16 * MIB)
    await producer.start()
    try:
        for value in values.values():
            batch = producer.create_batch()
            batch._builder = raw_batch([(b"\xff key", value, BAD_NAMES * 1_000)])
            batch._relative_offset = 1
            await (await producer.send_batch(batch, topic, partition=0))
            await producer.send_and_wait(topic, event("good"), partition=0)
    finally:
        await producer.stop()


async def test_every_hostile_record_is_one_row_or_one_reject_and_stops_nothing(
    kafka: KafkaAddress, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(1, {"max.message.bytes": str(16 * MIB)})
    values = hostile_values()
    await write(kafka.bootstrap, topic, values)
    daemon = make_daemon("a", topic, {"events.max_bytes": "4MiB", "breaker.max_share": "1"})

    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: 2 * len(values)})
    assert await daemon.stop() == 0

    rows = {row["source_offset"]: row for it in in_bucket(s3, bucket) for row in it.rows}
    quarantined = quarantined_in(s3, bucket)
    assert rows.keys() | quarantined.keys() == set(range(2 * len(values)))
    assert not rows.keys() & quarantined.keys()
    for number, (name, value) in enumerate(values.items()):
        if name in ODD_TEXT:
            assert rows[2 * number]["event_id"] == ODD_TEXT[name]
        elif name == "50,000 keys":
            assert len(rows[2 * number]["properties"]) == 50_000
        else:
            reject = quarantined[2 * number]
            assert reject.reason == REFUSED.get(name, (None, "null_value"))[1], name
            assert (reject.key, reject.value) == (b"\xff key", value)
            assert reject.headers == [("\\xff\\xfe", b"v"), ("\x00\x1b[2J", None), ("", b"")] * 1_000
    assert '"level": "ERROR"' not in daemon.log_text()
    assert "cannot be decoded" not in daemon.log_text()


async def test_a_daemon_under_attack_at_its_port_lands_on_and_answers(tmp_path: Path) -> None:
    settings = {
        "source": "simulator",
        "simulator.rate": "60000",
        "sink.url": str(tmp_path / "d"),
        "batch.interval": "1s",
    }
    daemon = Daemon("a", tmp_path, settings, {})
    try:
        daemon.start()
        before = await daemon.until(lambda status: status.ready and status.totals.objects)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2 * MAX_CONNECTIONS):
                connection = stack.enter_context(socket.create_connection((HOST, daemon._port)))
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
            attackers = [asyncio.create_task(garble(daemon._port)) for _ in range(4)]
            await daemon.until(lambda status: status.totals.objects > before.totals.objects + 2)
            assert (await daemon.get("/readyz"))[0] == 200
            for attacker in attackers:
                attacker.cancel()
            await asyncio.gather(*attackers, return_exceptions=True)
        assert await daemon.stop() == 0
    finally:
        daemon.kill()
    levels = {json.loads(line)["level"] for line in daemon.log_text().splitlines()}
    assert levels == {"INFO"}


async def garble(port: int) -> None:
    """Connect, send what is no request, and do it again."""
    while True:
        with contextlib.suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(b"\x16\x03\x01" + bytes(4096))
                await reader.read()
            finally:
                writer.close()
                await writer.wait_closed()
