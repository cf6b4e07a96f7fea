"""From Kafka into a table: the daemon, a bucket that notifies, the stand-in for Snowflake, the unmodified connector.

The table and its COPY are real SQL on the stand-in; the pipe, its status and its history are a simulation.
"""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingestd.cli.snowflake.reconcile import stage_of
from ingestd.core.errors import EXIT_PROBLEMS
from ingestd.core.object_keys import EVENTS
from ingestd.snowflake.connection import Connection
from ingestd.snowflake.pipe_status import parse, query
from tests.conftest import MakeTopic
from tests.e2e.daemon import settings
from tests.e2e.events import fill
from tests.e2e.group import caught_up, ends
from tests.e2e.ledger import Ledger, read
from tests.e2e.snowflake import Rig
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.ministack import Ministack, Queue
from tests.services.snowflake import Snowflake

Broker = KafkaAddress | KafkaBroker
MakeRig = Callable[[str], Rig]
ROOT = "some/where/"
PREFIX = ROOT + EVENTS


@pytest.fixture
def make_rig(
    kafka: Broker, ministack: Ministack, queue: Queue, snowflake: Snowflake, tmp_path: Path
) -> Iterator[MakeRig]:
    """A function that makes a rig for a topic; its daemons are killed after the test."""
    made: list[Rig] = []

    def make(topic: str) -> Rig:
        made.append(rig := Rig(ministack, queue, snowflake, settings(kafka.bootstrap, ministack, "", topic), tmp_path))
        return rig

    yield make
    for rig in made:
        rig.close()


async def loaded(rig: Rig, connection: Connection, count: int) -> None:
    """Wait until so many rows are in the table."""
    deadline = time.monotonic() + 60
    while len(rows := await asyncio.to_thread(rig.rows, connection)) != count:
        assert time.monotonic() < deadline, f"{len(rows)} rows are in the table, not {count}"
        await asyncio.sleep(0.1)


def landed(rig: Rig, topic: str) -> Ledger:
    return read(rig.store, rig.bucket, topic, root=ROOT)


async def test_every_row_gets_into_the_table_once_and_both_commands_say_so(
    kafka: Broker, make_topic: MakeTopic, make_rig: MakeRig
) -> None:
    topic = await make_topic(2)
    rig = make_rig(topic)
    rig.notify(PREFIX)
    more = {"snowflake.confirm": "true", "snowflake.confirm_interval": "1s"}
    daemon = rig.daemon("a", more)
    with await asyncio.to_thread(rig.connect) as connection:
        await asyncio.to_thread(rig.set_up, connection)
        written = await fill(kafka.bootstrap, topic, 2, 2000)
        await daemon.start_ready()
        await caught_up(kafka.bootstrap, topic, topic, ends(written.records))

        status = await daemon.until(
            lambda it: it.loading is not None and it.totals.landed == len(written.ids) and not it.loading.unloaded_rows
            and not it.loading.unloaded_objects and it.loading.compared_age is not None
        )  # fmt: skip
        assert status.loading is not None
        assert status.loading.failed_files == 0
        assert await daemon.metric("ingestd_snowflake_rows_loaded_total") == len(written.ids)
        assert await daemon.metric("ingestd_snowflake_loading_delay_seconds_count") == status.totals.objects
        assert await daemon.stop() == 0
        rows = await asyncio.to_thread(rig.rows, connection)

    assert sorted(event for event, _, _ in rows) == sorted(written.ids)
    keys = {f"{ROOT}{link.key}" for chain in landed(rig, topic).chains.values() for link in chain}
    assert {file for _, file, _ in rows} == keys
    assert len({(file, number) for _, file, number in rows}) == len(rows)
    code, report = await rig.reconcile()
    assert (code, report["ok"], report["counts"]) == (0, True, {})
    assert (report["rows"], report["loaded_rows"]) == (len(rows), len(rows))
    code, output, log = await rig.command("status")
    assert (code, "Healthy." in output) == (0, True), output + log


async def test_what_the_pipe_missed_failed_or_loaded_twice_is_found_and_the_statements_repair_it(
    kafka: Broker, make_topic: MakeTopic, make_rig: MakeRig
) -> None:
    topic = await make_topic(3)
    rig = make_rig(topic)
    daemon = rig.daemon("a")
    with await asyncio.to_thread(rig.connect) as connection:
        await asyncio.to_thread(rig.set_up, connection)
        written = await fill(kafka.bootstrap, topic, 3, 4000)
        await daemon.start_ready()
        await caught_up(kafka.bootstrap, topic, topic, ends(written.records))
        assert await daemon.stop() == 0
        chains = landed(rig, topic).chains
        missed, failed, twice = (ROOT + chains[number][0].key for number in range(3))
        with closing(rig.store.client()) as client:
            # No notification was set up, so the pipe has heard of none of them. One is damaged, and then made whole.
            whole = client.get_object(Bucket=rig.bucket, Key=failed)
            body, metadata = whole["Body"].read(), whole["Metadata"]
            broken = gzip.compress(gzip.decompress(body)[:-20])
            client.put_object(Bucket=rig.bucket, Key=failed, Body=broken, Metadata=metadata)
            for key in {ROOT + link.key for chain in chains.values() for link in chain} - {missed}:
                await asyncio.to_thread(_refresh, connection, rig, key)
            await _heard(connection, rig, failed)
            client.put_object(Bucket=rig.bucket, Key=failed, Body=body, Metadata=metadata)
        # A pipe that is made anew has forgotten all names.
        connection.execute(f"DROP PIPE MARKETING.{rig.schema}.MARKETING_EVENTS_PIPE")
        await asyncio.to_thread(rig.set_up, connection)
        connection.execute(_copy(rig, twice))

        code, report = await rig.reconcile(snowflake__late="1s")
        found = {(it["kind"], it["key"]) for it in report["findings"]}
        wrong = {("missing", missed), ("failed", failed), ("twice", twice)}
        assert (code, found) == (EXIT_PROBLEMS, {(kind, key.removeprefix(ROOT)) for kind, key in wrong})

        for repair in report["repairs"]:
            for statement in repair.split(";"):
                if statement.strip():
                    await asyncio.to_thread(connection.execute, statement)
        await loaded(rig, connection, len(written.ids))
        rows = await asyncio.to_thread(rig.rows, connection)

    assert sorted(event for event, _, _ in rows) == sorted(written.ids)
    code, report = await rig.reconcile(snowflake__late="1s")
    assert (code, report["findings"]) == (0, [])


async def test_a_daemon_names_objects_to_a_pipe_that_nobody_notifies_and_the_next_one_names_what_is_left(
    kafka: Broker, make_topic: MakeTopic, make_rig: MakeRig
) -> None:
    topic = await make_topic(2)
    rig = make_rig(topic)
    rest = {"snowflake.delivery": "rest", "snowflake.confirm_interval": "1s"}
    away = {**rest, "snowflake.host": "127.0.0.1:9", "grace": "2s"}
    with await asyncio.to_thread(rig.connect) as connection:
        await asyncio.to_thread(rig.set_up, connection)
        first = await fill(kafka.bootstrap, topic, 2, 600)
        daemon = rig.daemon("a", away)
        await daemon.start_ready()
        await caught_up(kafka.bootstrap, topic, topic, ends(first.records))
        await daemon.until(lambda it: it.loading is not None and it.loading.unnamed_objects == it.totals.objects)
        assert await daemon.stop() == 0
        assert "cannot submit objects to the pipe" in daemon.log_text()
        assert "objects not submitted to the pipe; the next start submits them" in daemon.log_text()

        daemon = rig.daemon("b", rest)
        await daemon.start_ready()
        await loaded(rig, connection, len(first.ids))
        await daemon.until(lambda it: it.loading is not None and it.loading.unloaded_objects == 0)
        assert await daemon.stop() == 0
        rows = await asyncio.to_thread(rig.rows, connection)

    assert sorted(event for event, _, _ in rows) == sorted(first.ids)
    assert (await rig.reconcile())[1]["ok"]


def _refresh(connection: Connection, rig: Rig, key: str) -> None:
    name = key.removeprefix(PREFIX)
    connection.execute(f"ALTER PIPE MARKETING.{rig.schema}.MARKETING_EVENTS_PIPE REFRESH PREFIX = '{name}'")


def _copy(rig: Rig, key: str) -> str:
    return f"{stage_of(rig.config).copy}\nFILES = ('{key.removeprefix(PREFIX)}') FORCE = TRUE"


async def _heard(connection: Connection, rig: Rig, key: str) -> None:
    """Wait until the pipe has tried the file and all others."""
    deadline = time.monotonic() + 60
    while True:
        answer = await asyncio.to_thread(connection.execute, query(f"MARKETING.{rig.schema}.MARKETING_EVENTS_PIPE"))
        if parse(answer.rows[0][0]).pending_file_count == 0:
            return
        assert time.monotonic() < deadline, key
        await asyncio.sleep(0.05)
