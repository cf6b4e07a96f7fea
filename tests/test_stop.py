"""How a run stops: at any moment, by any signal, and with an exit code that tells what was delivered."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd import wiring
from ingestd.config.load import Settings
from ingestd.config.model import BatchConfig, Config, HealthConfig, PageConfig, SimulatorConfig, SinkConfig
from ingestd.config.types import Rate, Seconds
from ingestd.core.errors import DeadlineExceeded
from ingestd.core.records import Position, TopicPartition
from ingestd.core.stored import Stored
from ingestd.daemon import Daemon
from ingestd.demo.page.demo import Demo
from ingestd.sources.base import Capabilities, Fetched
from ingestd.sources.simulator.source import SimulatorSource
from tests.fakes.memory_sink import MemorySink

AT = """
import signal, sys

class RaiseAt:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.{number})

from ingestd import __main__
sys.meta_path.insert(0, RaiseAt())
sys.argv = ["ingestd", *sys.argv[1:]]
sys.exit(__main__.main())
"""
WITHIN_S = 30
NOTHING = "127.0.0.1:1"


def program(code: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=WITHIN_S, check=False, env=environment
    )


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("module", ["ingestd.cli.main", "msgspec", "ingestd.cli.run", "ingestd.daemon"])
def test_a_signal_during_the_imports_ends_a_run_with_a_word(tmp_path: Path, module: str, number: str) -> None:
    flags = ["--source", "simulator", "--set", "health.port=0", "--set", "log.format=json"]
    ended = program(AT.format(module=module, number=number), *flags, cwd=tmp_path)
    assert ended.returncode == 130, ended.stderr
    assert f"{number}: stopping immediately" in ended.stderr
    assert {json.loads(line)["level"] for line in ended.stderr.splitlines()} <= {"INFO", "WARNING"}


def test_a_signal_during_the_imports_of_another_command_ends_it_as_ever(tmp_path: Path) -> None:
    ended = program(AT.format(module="ingestd.cli.config", number="SIGINT"), "config", cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
    ended = program(AT.format(module="ingestd.cli.config", number="SIGTERM"), "config", cwd=tmp_path)
    assert ended.returncode == -signal.SIGTERM
    ended = program(AT.format(module="ingestd.cli.main", number="SIGINT"), "--help", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_little_is_imported_before_the_handlers_are_set() -> None:
    """Each of these takes longer than all that is needed."""
    code = "import sys, ingestd.__main__; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    told = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert not {"asyncio", "contextlib", "logging", "re", "typing"}.intersection(told.stdout.split())


LATE = """
import atexit, signal, sys
from ingestd import __main__
from ingestd.ops.health import HealthServer
from ingestd.sinks.local import LocalSink

def late(method):
    async def called(self):
        signal.raise_signal(signal.SIGTERM)
        await method(self)
    return called

LocalSink.close, HealthServer.stop = late(LocalSink.close), late(HealthServer.stop)
atexit.register(signal.raise_signal, signal.SIGTERM)
sys.argv = ["ingestd", *sys.argv[1:]]
sys.exit(__main__.main())
"""


def test_a_signal_after_everything_has_landed_changes_nothing(tmp_path: Path) -> None:
    flags = ["--source", "simulator", "--duration", "3s", "--set", "health.port=0", "--sink", "data"]
    ended = program(LATE, *flags, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("unreachable", ["kafka", "store"])
def test_a_duration_in_which_nothing_was_reached_is_not_clean(tmp_path: Path, unreachable: str) -> None:
    flags = {
        "kafka": ["--set", f"kafka.bootstrap_servers={NOTHING}", "--set", "kafka.topics=t", "--sink", "data"],
        "store": ["--source", "simulator", "--sink", "s3://bucket", "--set", f"s3.endpoint_url=http://{NOTHING}"],
    }[unreachable]
    code = "import sys; from ingestd.__main__ import main; sys.exit(main())"
    ended = program(code, "--duration", "4s", "--set", "health.port=0", *flags, cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    last = json.loads(ended.stderr.splitlines()[-1])["message"]
    assert last.startswith("stopped before the stream began: ")
    assert {"kafka": "cannot be used", "store": "s3://bucket"}[unreachable] in last


def test_produce_ends_its_duration_while_no_broker_answers(tmp_path: Path) -> None:
    code = "import sys; from ingestd.__main__ import main; sys.exit(main())"
    ended = program(code, "produce", "--topic", "t", "--bootstrap-servers", NOTHING, "--duration", "1s", cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert "stopped before Kafka had acknowledged all events" in ended.stderr


def test_produce_can_be_stopped_while_no_broker_answers(tmp_path: Path) -> None:
    code = AT.format(module="ingestd.sources.simulator.source", number="SIGTERM")
    ended = program(code, "produce", "--topic", "t", "--bootstrap-servers", NOTHING, cwd=tmp_path)
    assert ended.returncode == 130, ended.stderr


# -- a daemon in this process


def config(**more: Any) -> Settings:
    settings: dict[str, Any] = {
        "source": "simulator",
        "simulator": SimulatorConfig(rate=Rate(60_000)),
        "sink": SinkConfig(url="./unused"),
        "health": HealthConfig(enabled=False),
        "batch": BatchConfig(interval=Seconds(0.2)),
        "grace": Seconds(3600),
        **more,
    }
    return Settings(Config(**settings), {})


class SlowSink(MemorySink):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def put_new(self, key: str, body: bytes, metadata: Any) -> Stored:
        if key.startswith("events/"):
            self.asked.set()
            await self.may.wait()
        return await super().put_new(key, body, metadata)


class StuckSource(SimulatorSource):
    """Leaves for ever, as a member of a group does whose brokers are gone."""

    def __init__(self, settings: SimulatorConfig) -> None:
        super().__init__(settings)
        self.leaving = asyncio.Event()

    async def stop(self) -> None:
        self.leaving.set()
        await asyncio.Event().wait()


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> SlowSink:
    made = SlowSink()
    monkeypatch.setattr(wiring, "make_sink", lambda _: made)
    return made


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> StuckSource:
    made = StuckSource(SimulatorConfig(rate=Rate(60_000)))
    monkeypatch.setattr(wiring, "make_source", lambda *_: made)
    return made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - nothing tells of these changes
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("INFO"):
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_after_the_duration_is_no_second_one(
    sink: SlowSink, caplog: pytest.LogCaptureFixture, number: signal.Signals
) -> None:
    daemon = Daemon(config())
    run = asyncio.create_task(daemon.run())
    await sink.asked.wait()
    daemon._finish()  # as the end of the duration does
    signal.raise_signal(number)
    await until(lambda: f"{number.name}: draining" in caplog.text)
    sink.may.set()
    assert await asyncio.wait_for(run, WITHIN_S) == 0
    assert "stopping immediately" not in caplog.text


async def test_a_second_signal_forces_the_end_while_the_group_is_left(
    sink: SlowSink, stuck: StuckSource, caplog: pytest.LogCaptureFixture
) -> None:
    sink.may.set()
    run = asyncio.create_task(Daemon(config()).run())
    await sink.asked.wait()
    signal.raise_signal(signal.SIGTERM)
    await stuck.leaving.wait()
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(run, WITHIN_S) == 0
    assert "SIGTERM: stopping immediately" in caplog.text
    assert "Traceback" not in caplog.text


async def test_the_grace_time_bounds_the_leaving(sink: SlowSink, stuck: StuckSource) -> None:
    sink.may.set()
    run = asyncio.create_task(Daemon(config(grace=Seconds(1))).run())
    await sink.asked.wait()
    loop = asyncio.get_running_loop()
    signal.raise_signal(signal.SIGTERM)
    signalled_at = loop.time()
    assert await asyncio.wait_for(run, WITHIN_S) == 0
    assert loop.time() - signalled_at < 1.5


class Uncommitting(SimulatorSource):
    """Has commits that are never answered, but for the position at which it begins."""

    capabilities = Capabilities(replayable=False, has_log_end=False)
    given = False

    async def fetch(self) -> Fetched | None:
        """Records once: more of them would stay undelivered behind the first ones."""
        if not self.given:
            fetched = await super().fetch()
            self.given = bool(fetched)
            return fetched
        await self._stream.sleep()
        return None if self._stream.finished else {}

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        if partition in self._commits:
            await asyncio.Event().wait()
        return await super().commit(partition, position)


async def test_objects_that_are_not_committed_are_told(sink: SlowSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "make_source", lambda it, _: Uncommitting(it.simulator))
    sink.may.set()
    run = asyncio.create_task(Daemon(config(grace=Seconds(1))).run())
    await sink.asked.wait()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(DeadlineExceeded, match=r"objects of \d partitions? not committed"):
        await asyncio.wait_for(run, WITHIN_S)


class Silent(SimulatorSource):
    """Was reached once, and has given no record since."""

    error = "no broker answers"
    error_since = 0.0

    async def fetch(self) -> Fetched | None:
        await self._stream.sleep()
        return None if self._stream.finished else {}


async def test_a_source_that_fails_from_the_first_record_on_is_told(
    sink: SlowSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "make_source", lambda it, _: Silent(it.simulator))
    with pytest.raises(DeadlineExceeded, match="without having read a record: no broker answers"):
        await asyncio.wait_for(Daemon(config(duration=Seconds(1))).run(), WITHIN_S)


class Unfinished:
    """A subscriber that never settles."""

    unprocessed = "2 objects not in the local warehouse"

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    def landed(self, key: str) -> None: ...

    async def settled(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


async def test_a_full_warehouse_is_told(sink: SlowSink) -> None:
    sink.may.set()
    daemon = Daemon(config(grace=Seconds(1)))
    daemon._subscribers.append(Unfinished())
    run = asyncio.create_task(daemon.run())
    await sink.asked.wait()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(DeadlineExceeded, match="2 objects not in the local warehouse"):
        await asyncio.wait_for(run, WITHIN_S)


async def test_a_proof_that_a_signal_cuts_off_is_no_proof(
    sink: SlowSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proving = asyncio.Event()

    async def never(*_: object) -> None:
        proving.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Demo, "verify", never)
    sink.may.set()
    run = asyncio.create_task(Daemon(config(page=PageConfig(enabled=True, controls=True))).run())
    await sink.asked.wait()
    signal.raise_signal(signal.SIGTERM)
    await proving.wait()
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(run, WITHIN_S) == 4
    assert "not verified" in caplog.text
