"""How a daemon starts, ends, and waits for what somebody has to mend."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE, Daemon, write_credentials
from tests.e2e.events import fill
from tests.e2e.group import committed, ends
from tests.e2e.ledger import read
from tests.e2e.loader import DataObject, in_directory
from tests.e2e.manager import Manager
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.ports import HOST
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

HELD = {"batch.interval": "1h"}  # nothing lands but at the end
QUICK = {"sink.retry_initial": "50ms", "sink.retry_max": "200ms"}


class Simulated(Protocol):
    """Makes a daemon that brings simulated events, a thousand a second, into `directory`; `more` are keys."""

    def __call__(
        self, directory: Path, more: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
    ) -> Daemon: ...


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    made: list[Daemon] = []

    def make(
        directory: Path, more: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
    ) -> Daemon:
        keys = {"source": "simulator", "simulator.rate": "60000", "sink.url": str(directory), **QUICK, **(more or {})}
        made.append(Daemon(f"simulated-{len(made)}", tmp_path, keys, environment or {}))
        return made[-1]

    yield make
    for daemon in made:
        daemon.kill()


@pytest.fixture
def manager() -> Iterator[Manager]:
    # Not in tmp_path: the address of a socket has 108 characters at most.
    with tempfile.TemporaryDirectory() as directory, closing(Manager(f"{directory}/notify")) as made:
        yield made


# -- the end


@pytest.mark.parametrize("stop", ["SIGTERM", "SIGINT", "duration"])
async def test_lands_and_commits_everything_at_its_end(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon, *, stop: str
) -> None:
    topic = await make_topic(2)
    written = await fill(kafka.bootstrap, topic, 2, 5_000)
    daemon = make_daemon("a", topic, {**HELD, **({"duration": "4s"} if stop == "duration" else {})})

    daemon.start()
    status = await daemon.until(lambda status: status.totals.consumed == 5_000)
    assert status.totals.in_flight == 5_000
    assert await committed(kafka.bootstrap, topic, topic) == {0: 0, 1: 0}
    if stop != "duration":
        daemon.signal(signal.Signals[stop])

    assert await daemon.ended() == 0
    read(s3, bucket, topic).check(written.records, written.ids)
    assert await committed(kafka.bootstrap, topic, topic) == ends(written.records)
    last = log_lines(daemon)[-1]
    assert (last["message"], last["consumed"], last["in_flight"]) == ("stopped", 5_000, 0)


async def test_a_duration_has_the_grace_of_a_signal(simulated: Simulated, tmp_path: Path) -> None:
    data = tmp_path / "data"
    daemon = simulated(data, {**HELD, "duration": "5s", "grace": "500ms"})
    daemon.start()
    await daemon.until(lambda status: status.totals.consumed)

    with replaced_by_a_file(data):
        assert await daemon.ended() == 3

    assert "records undelivered (they will be read again)" in log_lines(daemon)[-1]["message"]


async def test_the_chain_of_a_directory_goes_on_in_the_next_run(simulated: Simulated, tmp_path: Path) -> None:
    consumed = 0
    for _ in range(3):
        daemon = simulated(tmp_path / "data", {"duration": "2s", "batch.interval": "200ms"})
        daemon.start()
        assert await daemon.ended() == 0
        last = log_lines(daemon)[-1]
        assert last["message"] == "stopped"
        assert last["consumed"] == last["landed"] > 0
        consumed += last["landed"]

    objects = in_directory(tmp_path / "data")
    assert sum(len(it.rows) for it in objects) == consumed
    assert len({row["event_id"] for it in objects for row in it.rows}) == consumed
    check_chains(objects, partitions=2)


# -- what ends it at its start


def test_a_wrong_setting_exits_with_2(tmp_path: Path) -> None:
    ended = run("--set", "batch.interval=soon", cwd=tmp_path)

    assert ended.returncode == 2
    assert "batch.interval = soon from --set is not accepted" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_wrong_model_exits_with_2_before_anything_is_written(tmp_path: Path) -> None:
    ended = run("--source", "simulator", "--set", "events.model=no_such_module:Event", cwd=tmp_path)

    assert ended.returncode == 2
    assert 'events.model = "no_such_module:Event"' in last_message(ended)
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_exits_with_2(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--source", "simulator", "--set", f"health.port={port}", cwd=tmp_path)

    assert ended.returncode == 2
    assert f"health.port = {port}: cannot listen on {HOST}:{port}, the port is in use" in last_message(ended)
    assert "choose another" in last_message(ended)
    assert not list(tmp_path.iterdir())


def test_a_missing_topic_exits_with_1(kafka: Broker, tmp_path: Path) -> None:
    keys = {"kafka.bootstrap_servers": kafka.bootstrap, "kafka.topics": "no_such_topic", "health.port": "0"}
    ended = run(*(f"--set={key}={value}" for key, value in keys.items()), cwd=tmp_path)

    assert ended.returncode == 1
    assert last_message(ended) == "topic no_such_topic does not exist (create it, or correct kafka.topics)"


# -- what somebody has to mend


async def test_waits_for_its_bucket(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic, missing = await make_topic(1), f"{bucket}-late"
    written = await fill(kafka.bootstrap, topic, 1, 1_000)
    daemon = make_daemon("a", topic, {**QUICK, "sink.url": f"s3://{missing}"})
    daemon.start()

    await refused(daemon, "NoSuchBucket", "create the bucket or correct sink.url")
    s3.create_bucket(missing)
    try:
        await daemon.until(lambda status: status.ready and status.totals.objects)
        assert (await daemon.get("/readyz"))[0] == 200
        assert await daemon.stop() == 0
        read(s3, missing, topic).check(written.records, written.ids)
    finally:
        s3.delete_bucket(missing)


async def test_waits_for_credentials_that_are_accepted(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon, *, tmp_path: Path
) -> None:
    topic = await make_topic(1)
    written = await fill(kafka.bootstrap, topic, 1, 1_000)
    file = tmp_path / "credentials"
    write_credentials(file, s3.access_key, "wrong-secret-of-mine")
    no_others = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    daemon = make_daemon("a", topic, QUICK, {**no_others, "AWS_SHARED_CREDENTIALS_FILE": str(file)})
    daemon.start()

    await refused(daemon, "SignatureDoesNotMatch", "give this process valid AWS credentials")
    write_credentials(file, s3.access_key, s3.secret_key)
    await daemon.until(lambda status: status.ready and status.totals.objects)

    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(written.records, written.ids)
    assert "wrong-secret-of-mine" not in daemon.log_text()
    assert s3.secret_key not in daemon.log_text()


@contextmanager
def replaced_by_a_file(directory: Path) -> Iterator[None]:
    """For a while the directory is elsewhere, and a file stands where it was."""
    aside = directory.with_name("aside")
    directory.rename(aside)
    directory.write_text("in the way")
    try:
        yield
    finally:
        directory.unlink()
        aside.rename(directory)


async def test_holds_everything_while_its_directory_cannot_be_written(simulated: Simulated, tmp_path: Path) -> None:
    data = tmp_path / "data"
    daemon = simulated(data, {"batch.interval": "200ms"})
    daemon.start()
    await daemon.until(lambda status: status.ready and status.totals.objects)

    with replaced_by_a_file(data):
        before = await daemon.until(lambda status: status.sink_forbidden)
        await refused(daemon, "cannot write", "a file stands where a directory is needed: move it away")
        after = await daemon.until(lambda status: status.totals.in_flight > before.totals.in_flight)
        assert after.totals.released == 0
    await daemon.until(lambda status: status.ready and status.totals.landed > after.totals.landed)

    assert await daemon.stop() == 0
    objects = in_directory(data)
    consumed = log_lines(daemon)[-1]["consumed"]
    assert sum(len(it.rows) for it in objects) == consumed
    check_chains(objects, partitions=2)


# -- the service manager


async def test_tells_systemd_how_it_is(simulated: Simulated, manager: Manager, tmp_path: Path) -> None:
    daemon = simulated(tmp_path / "data", environment={**manager.environment, "WATCHDOG_USEC": "1000000"})
    daemon.start()

    assert [await manager.hear() for _ in range(3)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    assert await daemon.stop() == 0

    rest = manager.rest()
    assert rest.count("STOPPING=1") == 1
    assert set(rest) <= {"WATCHDOG=1", "STOPPING=1"}, "it is alive while it stops"


async def test_systemd_does_not_end_a_daemon_that_waits_for_its_sink(
    simulated: Simulated, manager: Manager, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.write_text("in the way")
    daemon = simulated(data, environment={**manager.environment, "WATCHDOG_USEC": "500000"})
    daemon.start()
    await refused(daemon, "cannot prepare", "move it away")

    assert [await manager.hear() for _ in range(3)] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]

    data.unlink()
    await daemon.until(lambda status: status.ready and status.totals.consumed)
    assert await daemon.stop() == 0


async def refused(daemon: Daemon, *words: str) -> None:
    """Wait until the sink refuses the daemon; it lives, and says why it is not ready and what to do."""
    await daemon.until(lambda status: status.sink_forbidden)
    assert (await daemon.get("/livez"))[0] == 200
    code, body = await daemon.get("/readyz")
    assert code == 503
    (message,) = [it["message"] for it in json.loads(body)["reasons"] if it["code"] == "sink_forbidden"]
    assert all(word in message for word in words), message


def check_chains(objects: list[DataObject], partitions: int) -> None:
    """From 0 on, without a gap and without an overlap."""
    for partition in range(partitions):
        chain = sorted((it for it in objects if it.landed.partition == partition), key=lambda it: it.landed.start)
        assert chain[0].landed.start == 0
        assert all(before.landed.end == after.landed.start for before, after in pairwise(chain))
        offsets = [offset for it in chain for offset in it.offsets]
        assert offsets == list(range(chain[-1].landed.end))


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The command, to its end."""
    command = [sys.executable, "-m", "ingestd", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=DEADLINE, check=False)


def last_message(ended: "subprocess.CompletedProcess[str]") -> str:
    line = json.loads(ended.stderr.splitlines()[-1])
    assert line["level"] == "ERROR"
    return str(line["message"])


def log_lines(daemon: Daemon) -> list[dict[str, Any]]:
    return [json.loads(line) for line in daemon.log_text().splitlines()]
