"""The units: systemd takes them, they shut the daemon in, and shut in as they say it does its work."""

import asyncio
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from ingestd.cli.main import USAGE
from ingestd.config.load import load
from ingestd.config.model import Config
from tests.collect.test_hooks_signatures import SENDGRID_KEY
from tests.conftest import MakeTopic
from tests.deploy import image
from tests.deploy.root import Confined, Root
from tests.e2e.daemon import credentials as of_store
from tests.e2e.events import fill
from tests.e2e.group import caught_up, ends
from tests.e2e.ledger import read
from tests.e2e.manager import Manager
from tests.services.kafka import SecuredKafka
from tests.services.ports import free_port
from tests.services.seaweed import S3Store
from tests.services.systemd import ensure_systemd, system_calls, systemd_analyze

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "deploy" / "systemd"
PRODUCTION = REPOSITORY / "config" / "production.toml"
UNITS = ("ingestd.service", "ingestd@.service")
COLLECT = "ingestd-collect.service"
INSTANCES = ("ingestd.service", "ingestd@9464.service", COLLECT)
EXPOSURE = 11  # tenths; the network is what the daemon is for, and its addresses are yours
DYNAMIC = 61184  # the first of the numbers that DynamicUser takes from
CREDENTIALS = "/run/credentials/ingestd.service"
COLLECT_CREDENTIALS = "/run/credentials/ingestd-collect.service"


def directives(unit: str) -> dict[str, list[str]]:
    """What the unit says, each name with its values in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", (FOLDER / unit).read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root of a system that has the units, and what they start."""
    root = tmp_path / "system"
    shutil.copytree(ensure_systemd(), root / "usr/lib/systemd/system", symlinks=True)
    (root / "etc/systemd/system").mkdir(parents=True)
    for unit in (*UNITS, COLLECT):
        shutil.copy(FOLDER / unit, root / "etc/systemd/system")
    program = root / "opt/ingestd/bin/ingestd"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    return root


@pytest.mark.parametrize("unit", INSTANCES)
def test_systemd_takes_the_unit_without_a_word(system: Path, unit: str) -> None:
    told = systemd_analyze("verify", "--man=no", f"--root={system}", unit)
    assert (told.returncode, told.stderr) == (0, "")


def test_a_directive_that_systemd_does_not_know_would_be_noticed(system: Path) -> None:
    unit = system / "etc/systemd/system/ingestd.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogSec"))
    assert "Unknown key 'WatchDogSec'" in systemd_analyze("verify", f"--root={system}", "ingestd.service").stderr


@pytest.mark.parametrize("unit", INSTANCES)
def test_little_is_exposed(system: Path, unit: str) -> None:
    told = systemd_analyze("security", "--offline=true", f"--root={system}", f"--threshold={EXPOSURE}", unit)
    assert told.returncode == 0, told.stdout


def test_the_template_differs_only_by_its_instance() -> None:
    one, many = (set((FOLDER / unit).read_text().splitlines()) for unit in UNITS)
    assert [line for line in many - one if "%i" not in line and not line.startswith("#")] == []
    without = {line.replace("/%i", "").replace("-%i", "").replace(" (%i)", "") for line in many}
    assert [line for line in one - without if not line.startswith("#")] == []


def test_the_collector_is_confined_as_the_daemon_is() -> None:
    own = {
        "Description", "ExecStart", "Environment", "LoadCredential", "SyslogIdentifier", "MemoryHigh", "MemoryMax",
        "User", "StateDirectory", "WorkingDirectory",
    }  # fmt: skip
    daemon, collector = directives("ingestd.service"), directives(COLLECT)
    assert {name for name in daemon.keys() | collector.keys() if daemon.get(name) != collector.get(name)} == own
    assert collector["User"] != daemon["User"], "neither reads the other's state"


def test_the_collector_has_time_memory_and_a_place_for_its_journal() -> None:
    config, said = collector_config(), {name: values[-1] for name, values in directives(COLLECT).items()}
    assert float(said["TimeoutStopSec"]) > config.grace + 10
    assert config.collect.body_memory + (256 << 20) < _size(said["MemoryHigh"]) < _size(said["MemoryMax"])
    assert config.collect.journal == f"/var/lib/{said['StateDirectory']}/journal.sqlite"
    keys = [source.key_file for source in config.collect.sources.values() if source.key_file]
    assert keys
    assert all(key.startswith(f"{COLLECT_CREDENTIALS}/collect_") for key in keys)


def collector_text() -> str:
    """What the README's command makes of the example."""
    found = re.search(r"sed '(s#.*#)' config/collect.toml", (FOLDER / "README.md").read_text())
    assert found is not None
    _, pattern, replacement, _ = found[1].split("#")
    return (REPOSITORY / "config" / "collect.toml").read_text().replace(pattern, replacement)


def collector_config() -> Config:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(collector_text())
        file.flush()
        environ = {
            name: value.replace("%d", COLLECT_CREDENTIALS).replace("%S", "/var/lib")
            for name, _, value in (pair.partition("=") for pair in directives(COLLECT)["Environment"])
            if name.startswith("INGESTD__")
        }
        return load(path=file.name, environ={**environ, "INGESTD__KAFKA__SASL_USERNAME": "ingestd"}).config


@pytest.mark.parametrize("unit", UNITS)
def test_a_supervisor_waits_restarts_and_bounds_as_the_daemon_expects(unit: str) -> None:
    production = load(path=str(PRODUCTION), environ=dict(SASL)).config
    said = {name: values[-1] for name, values in directives(unit).items()}
    assert said["Type"] == "notify"
    assert float(said["TimeoutStopSec"]) > production.grace + 10, "what is held lands, and the group is left"
    assert said["Restart"] == "on-failure", "also when the watchdog barks or memory is out"
    assert said["RestartPreventExitStatus"] == str(USAGE)
    assert said["StartLimitIntervalSec"] == "0", "an outage may take longer than any number of starts"
    # Measured: 288 to 429 MiB with a budget of 256 MiB.
    assert _size(said["MemoryMax"]) > production.batch.memory + (256 << 20)
    assert production.batch.memory + (256 << 20) < _size(said["MemoryHigh"]) < _size(said["MemoryMax"])


def _size(text: str) -> int:
    return int(text[:-1]) << {"M": 20, "G": 30}[text[-1]]


# -- the daemon, shut in as the unit says

SASL = {
    "INGESTD__KAFKA__SASL_USERNAME": "ingestd",
    "INGESTD__KAFKA__SASL_PASSWORD_FILE": f"{CREDENTIALS}/kafka-password",
}


@dataclass
class Service:
    """A unit's process, without a systemd to start it: the same settings, from the same directives."""

    process: Confined
    manager: Manager


@contextmanager
def service(unit: str, host: Path, environment: Mapping[str, str], log: Path) -> Iterator[Service]:
    """Run it. `host` has what an administrator put below /etc/ingestd; `environment` is the unit's EnvironmentFile."""
    said = directives(unit)
    assert said["EnvironmentFile"] == ["-/etc/ingestd/environment"]
    credentials = COLLECT_CREDENTIALS if unit == COLLECT else CREDENTIALS
    specifiers = {"%d": credentials, "%H": "host", "%i": "0", "%S": "/var/lib"}
    own = [re.sub("%.", lambda it: specifiers[it[0]], value) for value in said["Environment"]]
    configuration = Path(said["ExecStart"][0].split()[-1])
    loaded = host / "loaded"
    loaded.mkdir()
    for credential in said["LoadCredential"]:
        name, _, path = credential.partition(":")
        source = host / Path(path).relative_to("/etc/ingestd")
        for file in sorted(source.iterdir()) if source.is_dir() else [source]:
            copy = loaded / (f"{name}_{file.name}" if source.is_dir() else name)
            shutil.copy(file, copy)
            shutil.chown(copy, DYNAMIC)
    state = host / "state"
    state.mkdir()
    shutil.chown(state, DYNAMIC)
    allowed, *refused = said["SystemCallFilter"]
    calls = system_calls([allowed]) - system_calls(refused[0].removeprefix("~").split())
    assert said["ProtectProc"] == ["invisible"]
    assert said["ProtectSystem"] == ["strict"]
    with tempfile.TemporaryDirectory() as notify, closing(Manager(f"{notify}/socket")) as manager:
        Path(notify).chmod(0o755)
        Path(notify, "socket").chmod(0o777)
        given = {"NOTIFY_SOCKET": "/run/systemd/notify/socket", "WATCHDOG_USEC": "1000000", "HOME": "/"}
        command = Root(host / "root").command(
            said["ExecStart"][0].split(),
            {**given, **dict(pair.split("=", 1) for pair in own), **environment},
            binds=[
                (image.build().installed, "/opt/ingestd", False),
                (host / configuration.name, str(configuration), False),
                (host / "ca.pem", "/etc/ingestd/ca.pem", False),
                (loaded, credentials, False),
                (state, said["WorkingDirectory"][0].replace("%i", "0"), True),
                (Path(notify), "/run/systemd/notify", True),
            ],
            user=DYNAMIC,
            read_only=True,
            directory=said["WorkingDirectory"][0].replace("%i", "0"),
            calls=sorted(calls),
            no_exec_gain=said["MemoryDenyWriteExecute"] == ["yes"],
            proc="hidepid=invisible",
        )
        process = Confined(unit, command, log)
        process.start(lambda: True)
        try:
            yield Service(process, manager)
        finally:
            process.kill()


async def test_does_its_work_shut_in_as_the_unit_says(
    kafka_tls: SecuredKafka, s3: S3Store, bucket: str, make_topic: MakeTopic, tmp_path: Path
) -> None:
    topic = await make_topic(2)
    written_at = time.time()
    written = await fill(kafka_tls.bootstrap, topic, 2, 5_000)
    host = tmp_path / "host"
    (host / "credentials").mkdir(parents=True)
    (host / "credentials" / "kafka-password").write_text(kafka_tls.password)
    shutil.copy(PRODUCTION, host / "ingestd.toml")
    shutil.copy(kafka_tls.ca_file, host)
    environment = {
        "INGESTD__KAFKA__BOOTSTRAP_SERVERS": kafka_tls.sasl_bootstrap,
        "INGESTD__KAFKA__SASL_USERNAME": kafka_tls.username,
        "INGESTD__KAFKA__SSL_CA_FILE": "/etc/ingestd/ca.pem",
        "INGESTD__KAFKA__TOPICS": topic,
        "INGESTD__KAFKA__GROUP_ID": topic,
        "INGESTD__SINK__URL": f"s3://{bucket}",
        "INGESTD__S3__ENDPOINT_URL": s3.endpoint,
        "INGESTD__BATCH__INTERVAL": "1s",
        "INGESTD__HEALTH__PORT": str(port := free_port()),
        "INGESTD__HEALTH__HOST": "127.0.0.1",
        **of_store(s3),
    }

    with service("ingestd@.service", host, environment, tmp_path / "log") as it:
        assert await it.manager.hear() == "READY=1"
        await caught_up(kafka_tls.bootstrap, topic, topic, ends(written.records))
        assert await it.manager.hear() == "WATCHDOG=1"
        started = await asyncio.to_thread(_process_start, port)
        it.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(it.process.ended) == 0
        assert "STOPPING=1" in it.manager.rest()

    read(s3, bucket, topic).check(written.records, written.ids)
    assert kafka_tls.password not in (tmp_path / "log").read_text()
    # The kernel tells when it booted in whole seconds, and the start is reckoned from there.
    assert started > written_at - 1, "Prometheus' process metrics still tell when it started"


async def test_the_collector_does_its_work_confined_as_the_unit_says(
    kafka_tls: SecuredKafka, make_topic: MakeTopic, tmp_path: Path
) -> None:
    topic = await make_topic(1)
    host = tmp_path / "host"
    (host / "credentials" / "collect").mkdir(parents=True)
    (host / "credentials" / "kafka-password").write_text(kafka_tls.password)
    for source in collector_config().collect.sources.values():
        if source.key_file is not None:
            name = Path(source.key_file).name.removeprefix("collect_")
            key = SENDGRID_KEY if source.kind == "sendgrid" else b"the-key"
            (host / "credentials" / "collect" / name).write_bytes(key)
    (host / "collect.toml").write_text(collector_text())
    shutil.copy(kafka_tls.ca_file, host)
    environment = {
        "INGESTD__KAFKA__BOOTSTRAP_SERVERS": kafka_tls.sasl_bootstrap,
        "INGESTD__KAFKA__SASL_USERNAME": kafka_tls.username,
        "INGESTD__KAFKA__SSL_CA_FILE": "/etc/ingestd/ca.pem",
        "INGESTD__COLLECT__TOPIC": topic,
        "INGESTD__COLLECT__PORT": str(port := free_port()),
        "INGESTD__HEALTH__PORT": str(free_port()),
    }

    with service(COLLECT, host, environment, tmp_path / "log") as it:
        assert await it.manager.hear() == "READY=1"
        assert await it.manager.hear() == "WATCHDOG=1"
        assert await asyncio.to_thread(_sent, port, "website") == (200, "kafka")
        it.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(it.process.ended) == 0
        assert "STOPPING=1" in it.manager.rest()

    assert (host / "state" / "journal.sqlite").exists()
    assert kafka_tls.password not in (tmp_path / "log").read_text()


def _sent(port: int, key: str) -> tuple[int, str | None]:
    request = Request(f"http://127.0.0.1:{port}/v1/events?key={key}", data=b'{"event_type": "web_visit"}')
    with urlopen(request, timeout=30) as answer:  # noqa: S310
        return answer.status, answer.headers["Ingestd-Ack"]


def _process_start(port: int) -> float:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        found = re.search(r"^process_start_time_seconds (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])
