"""`ingestd verify` with real services: on what a daemon wrote, before and after damage."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.structs import OffsetAndMetadata

from ingestd.core.gzip import compress
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition
from ingestd.verify.findings import VerifyFinding, VerifyReport
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE, Daemon, credentials, settings
from tests.e2e.events import fill, is_good, load
from tests.e2e.group import caught_up, ends, reset
from tests.services.kafka import KafkaAddress, KafkaBroker, create_topic, topic_admin
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

PARTITIONS = 2
RECORDS = 6_000
BATCHES = {"batch.records": "500"}


class Written:
    """A bucket that a daemon has filled from a topic, with all that can be done to it."""

    def __init__(self, bootstrap: str, store: S3Store, name: str) -> None:
        self.bootstrap = bootstrap
        self.topic = self.bucket = name
        self._store = store
        self._keys = settings(bootstrap, store, name, name)
        self.layout = ObjectKeys()
        with closing(store.client()) as client:
            self._client: Any = client
            self._before = self._contents()

    def __enter__(self) -> "Written":
        self._client = self._store.client()
        return self

    def __exit__(self, *_: object) -> None:
        """As it was."""
        now = self._contents()
        for key in now.keys() - self._before.keys():
            self.delete(key)
        for key, (body, metadata) in self._before.items():
            if now.get(key) != (body, metadata):
                self.put(key, body, metadata)
        self._client.close()

    def _contents(self) -> dict[str, tuple[bytes, dict[str, str]]]:
        keys = [
            entry["Key"]
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            for entry in page.get("Contents", [])
        ]
        return {key: self.get(key) for key in keys}

    def get(self, key: str) -> tuple[bytes, dict[str, str]]:
        found = self._client.get_object(Bucket=self.bucket, Key=key)
        return found["Body"].read(), found["Metadata"]

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self._client.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata)

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=key)

    def chain(self, partition: int) -> list[tuple[str, ObjectMetadata]]:
        """The data objects of a partition in order."""
        found = [
            (key, landed)
            for key, (_, metadata) in self._before.items()
            if key.startswith(self.layout.events) and (landed := ObjectMetadata.from_metadata(metadata)) is not None
        ]
        return sorted((it for it in found if it[1].partition == partition), key=lambda it: it[1].start)

    def quarantine_of(self, landed: ObjectMetadata) -> str:
        place = TopicPartition(landed.topic, landed.partition)
        assert landed.quarantine is not None
        return self.layout.quarantine_key(place, landed.start, landed.first_timestamp, landed.quarantine)

    async def commit(self, partition: int, offset: int) -> None:
        """As a daemon does."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.topic, enable_auto_commit=False)
        await consumer.start()
        try:
            place = KafkaPartition(self.topic, partition)
            consumer.assign([place])
            mark = self.layout.commit_tag(f"s3://{self.bucket}")
            await consumer.commit({place: OffsetAndMetadata(offset, mark)})
        finally:
            await consumer.stop()

    def run(self, *flags: str) -> subprocess.CompletedProcess[str]:
        keys = [part for key, value in self._keys.items() for part in ("--set", f"{key}={value}")]
        return subprocess.run(
            [sys.executable, "-m", "ingestd", "verify", *keys, *flags],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            env={**os.environ, **credentials(self._store)},
        )

    def verify(self, *flags: str) -> VerifyReport:
        done = self.run("--json", *flags)
        assert done.returncode in {0, 4}, done.stderr
        report = msgspec.json.decode(done.stdout, type=VerifyReport)
        assert done.returncode == (0 if report.ok else 4)
        return report

    def problem(self, *flags: str) -> VerifyFinding:
        """The only one."""
        (problem,) = self.verify(*flags).problems
        return problem


@pytest.fixture(scope="module")
def outcome(kafka: Broker, s3: S3Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    name = f"verified-{uuid.uuid4().hex}"
    s3.create_bucket(name)
    keys = {**settings(kafka.bootstrap, s3, name, name), **BATCHES}
    daemon = Daemon(name, tmp_path_factory.mktemp(name), keys, credentials(s3))
    try:
        asyncio.run(bring(kafka.bootstrap, name, daemon))
        yield Written(kafka.bootstrap, s3, name)
    finally:
        daemon.kill()
        s3.delete_bucket(name)


async def bring(bootstrap: str, topic: str, daemon: Daemon) -> None:
    async with topic_admin(bootstrap) as admin:
        await create_topic(admin, topic, PARTITIONS)
    written = await fill(bootstrap, topic, PARTITIONS, RECORDS)
    await daemon.start_ready()
    await caught_up(bootstrap, topic, topic, ends(written.records))
    assert await daemon.stop() == 0


@pytest.fixture
def written(outcome: Written) -> Iterator[Written]:
    with outcome:
        yield outcome


@pytest.mark.parametrize("flags", [(), ("--read",)], ids=["metadata", "bodies"])
def test_what_a_daemon_has_written_is_well(written: Written, flags: tuple[str, ...]) -> None:
    report = written.verify(*flags)
    assert report.ok
    assert not report.notes
    bad = sum(not is_good(number) for number in range(RECORDS))
    assert (report.totals.rows, report.totals.rejected) == (RECORDS - bad, bad)
    assert report.totals.quarantine_objects > 0
    assert [(it.start, it.end == it.committed == it.log_end, it.lag) for it in report.partitions] == [(0, True, 0)] * 2
    assert report.cluster == written.chain(0)[0][1].cluster


def test_the_report_says_so_in_words(written: Written) -> None:
    done = written.run("--read")
    assert done.returncode == 0
    objects = len(written.chain(0)) + len(written.chain(1))
    assert done.stdout.splitlines()[-1] == (
        f"Nothing wrong: {objects} objects in 2 unbroken chains; every row was read."
    )
    assert not done.stderr


def test_finds_a_deleted_object(written: Written) -> None:
    (before, _), (lost, landed), (after, _) = written.chain(0)[:3]
    written.delete(lost)
    problem = written.problem()
    assert (problem.code, problem.start, problem.end) == ("gap", landed.start, landed.end)
    assert (problem.key, problem.other) == (before, after)


def test_finds_the_first_object_deleted(written: Written) -> None:
    lost, landed = written.chain(1)[0]
    written.delete(lost)
    problem = written.problem()
    assert (problem.code, problem.start, problem.end) == ("before_first", 0, landed.end)


def test_finds_the_last_object_deleted(written: Written) -> None:
    lost, landed = written.chain(1)[-1]
    written.delete(lost)
    problem = written.problem()
    assert (problem.code, problem.start, problem.end) == ("lost", landed.start, landed.end)


def test_finds_an_object_with_other_rows(written: Written) -> None:
    key, _ = written.chain(0)[1]
    other, _ = written.chain(0)[2]
    written.put(key, written.get(other)[0], written.get(key)[1])
    assert written.verify().ok
    problem = written.problem("--read")
    assert (problem.code, problem.key) == ("content", key)


def test_finds_an_overlap(written: Written) -> None:
    _, landed = written.chain(0)[1]
    extra = msgspec.structs.replace(landed, start=landed.start + 7, rows=1, rejected=0, quarantine=None)
    extra = msgspec.structs.replace(extra, first_offset=extra.start)
    key = written.layout.data_key(TopicPartition(written.topic, 0), extra.start, extra.first_timestamp, 0)
    written.put(key, compress(b"").data, extra.to_user_metadata())
    problem = written.problem()
    assert (problem.code, problem.start, problem.end) == ("overlap", extra.start, extra.end)
    assert {problem.key, problem.other} == {key, written.chain(0)[1][0]}


def test_finds_metadata_that_is_another_object_s(written: Written) -> None:
    (key, landed), (_, other) = written.chain(0)[1:3]
    written.put(key, written.get(key)[0], other.to_user_metadata())
    report = written.verify()
    assert sorted(problem.code for problem in report.problems) == ["gap", "mismatch"]
    (mismatch,) = [problem for problem in report.problems if problem.code == "mismatch"]
    assert mismatch.key == key
    assert f"from {other.start}" in mismatch.message
    assert landed.start != other.start


def test_finds_what_somebody_else_has_put_there(written: Written) -> None:
    folder = written.chain(0)[0][0].rpartition("/")[0]
    written.put(f"{folder}/backup.jsonl.gz", b"", {})
    assert (problem := written.problem()).code == "foreign"
    assert problem.key == f"{folder}/backup.jsonl.gz"


def test_finds_a_deleted_quarantine_object(written: Written) -> None:
    key = next(written.quarantine_of(landed) for _, landed in written.chain(0) if landed.rejected)
    written.delete(key)
    assert (problem := written.problem()).code == "quarantine_missing"
    assert problem.key == key


def test_finds_a_quarantine_object_with_other_records(written: Written) -> None:
    key, other = [written.quarantine_of(landed) for _, landed in written.chain(0) if landed.rejected][:2]
    written.put(key, written.get(other)[0], written.get(key)[1])
    assert written.verify().ok
    assert (problem := written.problem("--read")).code == "quarantine_content"
    assert problem.key == key


@pytest.mark.parametrize("where", ["inside", "past", "behind"])
def test_compares_with_what_the_group_has_committed(written: Written, where: str) -> None:
    *_, (key, last) = written.chain(0)
    offset = {"inside": last.start + 1, "past": last.end + 10, "behind": last.start}[where]
    asyncio.run(reset(written.bootstrap, written.topic, written.topic, {0: offset}))
    try:
        report = written.verify()
        assert written.verify("--objects-only").ok
    finally:
        asyncio.run(written.commit(0, last.end))
    expected = {"inside": ["misaligned"], "past": ["lost"], "behind": []}[where]
    assert [problem.code for problem in report.problems] == expected
    assert report.note_counts.get("trails", 0) == (where == "behind")
    assert report.note_counts["mark"] == 1  # another tool has set it
    if where == "inside":
        assert f"reset it to {last.end}" in report.problems[0].message
        assert key in report.problems[0].message


def test_looks_at_a_range_of_time(written: Written) -> None:
    last = max(landed.last_timestamp for partition in range(2) for _, landed in written.chain(partition))
    day = 86_400_000
    assert written.verify("--since", iso(last - day)).totals.objects > 0
    nothing = written.verify("--since", iso(last + 2 * day))
    assert nothing.ok
    assert nothing.totals.objects == 0
    lost, _ = written.chain(0)[-1]
    written.delete(lost)
    assert written.problem("--since", iso(last + 2 * day)).code == "lost"


def iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


async def until_landed(daemon: Daemon, more_than: int) -> None:
    """Until so many objects have landed, and one more."""
    await daemon.until(lambda status: status.totals.objects > more_than)


async def test_a_daemon_under_load_raises_no_alarm(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(3)
    daemon = make_daemon("a", topic, {"batch.interval": "200ms"})
    await daemon.start_ready()
    keys = settings(kafka.bootstrap, s3, bucket, topic)
    flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    async with load(kafka.bootstrap, topic, 3) as writer:
        enough = asyncio.Event()

        async def pour() -> None:
            while not enough.is_set():
                await writer.write(100)
                await asyncio.sleep(0.05)  # some thousand a second, some objects

        writing = asyncio.create_task(pour())
        seen = 0
        for _ in range(3):
            await until_landed(daemon, seen)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ingestd", "verify", "--json", "--read", *flags),
                stdout=subprocess.PIPE,
                env={**os.environ, **credentials(s3)},
            )
            out, _ = await process.communicate()
            report = msgspec.json.decode(out, type=VerifyReport)
            assert report.ok, report.problems
            assert report.totals.objects > seen
            seen = report.totals.objects
        enough.set()
        await writing


def test_a_bucket_that_is_not_there_is_no_verdict(written: Written) -> None:
    done = written.run("--sink", "s3://no-such-bucket")
    assert done.returncode == 1
    assert not done.stdout
    assert "NoSuchBucket" in done.stderr


def test_a_topic_that_is_not_there_is_no_verdict(written: Written) -> None:
    done = written.run("--topic", "no-such-topic")
    assert done.returncode == 1
    assert not done.stdout
    assert "topic no-such-topic does not exist" in done.stderr
