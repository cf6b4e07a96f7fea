"""The image and what is around it on a laptop: linted, built step by step in a clean root, and run there."""

import json
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingestd import __version__
from ingestd.config.load import load
from ingestd.config.validate_collect import running_collector_problems
from tests.deploy import image
from tests.deploy.image import COMMIT, CONTEXT, DOCKERFILE, Image
from tests.deploy.root import Confined
from tests.e2e.loader import in_directory
from tests.services.prometheus import promtool

FOLDER = DOCKERFILE.parent
COMPOSE = FOLDER / "compose.yaml"
SCRIPTS = Path(sysconfig.get_path("scripts"))
ROOMY = 200 << 20  # bytes that we add to the base image, at most
DEADLINE = 60.0


@pytest.fixture(scope="module")
def built() -> Image:
    return image.build()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


# -- the image


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([SCRIPTS / "hadolint", "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    """Last match wins, as in a .dockerignore: everything is out but what is named."""
    first, *rest = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert first == "*"
    let_in = {line[1:].removesuffix("/*") for line in rest if line.startswith("!")}
    copied = {file.relative_to(CONTEXT) for stage in image.stages().values() for file in image.sources(stage)}
    assert [file for file in copied if not any(file.is_relative_to(name) for name in let_in)] == []
    assert let_in == {"config", "ingestd", "deploy/release", "pyproject.toml", "README.md", "LICENSE"}


def test_the_base_image_is_pinned_and_of_the_oldest_python_that_is_tested() -> None:
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", image.stages()["base"].base)


def test_says_from_which_commit_it_was_built(built: Image) -> None:
    told = built.root.run([*built.stage.entrypoint, "--version"], built.stage.environment, user=built.stage.user)
    assert told == f"ingestd {__version__} (commit {COMMIT}, 2026-11-23T00:00:00Z; Python {_python()})\n"


def _python() -> str:
    return sys.version.split()[0]


def test_its_user_is_not_root_and_owns_nothing(built: Image) -> None:
    assert built.stage.user == 10001
    assert not [file for file in built.installed.rglob("*") if file.lstat().st_uid or file.lstat().st_mode & 0o6000]
    loose = [file for file in built.installed.rglob("*") if not file.is_symlink() and file.stat().st_mode & 0o022]
    assert loose == [], "nobody but root may write"


def test_it_is_small_and_has_nothing_to_install_or_build_with(built: Image) -> None:
    assert sum(file.lstat().st_size for file in built.installed.rglob("*")) < ROOMY
    installed = {file.name.partition("-")[0] for file in built.installed.glob("lib/*/site-packages/*.dist-info")}
    assert not installed & {"pip", "setuptools", "wheel", "hatchling", "pytest", "duckdb"}
    assert {"ingestd", "aiokafka", "uvloop", "snowflake_connector_python", "cryptography", "defusedxml"} <= installed


def test_a_signal_drains_it_as_the_first_process_of_a_read_only_root(built: Image, tmp_path: Path) -> None:
    with running(built, tmp_path) as (process, data):
        process.signal(signal.SIGTERM)
        assert process.ended() == 0
    stopped = json.loads(process.log.read_text().splitlines()[-1])
    assert stopped["consumed"] == stopped["landed"] > 0
    assert sum(len(it.rows) for it in in_directory(data)) == stopped["landed"]


def test_its_health_check_passes_while_it_lives_and_fails_where_nothing_listens(built: Image, tmp_path: Path) -> None:
    with running(built, tmp_path) as (process, _):
        assert inside(process, built, *built.stage.health).returncode == 0
        elsewhere = [part.replace(":9464", ":9") for part in built.stage.health]
        assert inside(process, built, *elsewhere).returncode == 1


@contextmanager
def running(built: Image, directory: Path) -> Iterator[tuple[Confined, Path]]:
    """The image's process with simulated events, which holds what it has until it ends; it has a network of its own."""
    data = directory / "data"
    data.mkdir()
    data.chmod(0o777)
    flags = ["--source", "simulator", "--rate", "60000", "--sink", "/data", "--set", "batch.interval=1h"]
    command = built.root.command(
        [*built.stage.entrypoint, *flags],
        built.stage.environment,
        binds=[(data, "/data", True)],
        user=built.stage.user,
        directory=built.stage.directory,
        read_only=True,
        network=False,
    )
    process = Confined("container", command, directory / "container.log")
    try:
        process.start(lambda: consumes(process, built))
        yield process, data
    finally:
        process.kill()


_CONSUMING = """
import json, urllib.request
status = json.load(urllib.request.urlopen("http://127.0.0.1:9464/status", timeout=5))
assert status["totals"]["consumed"] > 0
"""


def consumes(process: Confined, built: Image) -> bool:
    try:
        return inside(process, built, "python", "-c", _CONSUMING).returncode == 0
    except ProcessLookupError:
        return False


def inside(process: Confined, built: Image, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run one more program where `process` runs, as an engine's ``exec`` does."""
    enter = ["nsenter", f"--target={process.inner}", "--mount", "--net", "--pid", "--root", "--wd"]
    ids = [f"--setuid={built.stage.user}", f"--setgid={built.stage.user}"]
    environment = {"LD_LIBRARY_PATH": "/usr/local/lib", **built.stage.environment}
    program = ["/usr/bin/env", "-i", *(f"{key}={value}" for key, value in environment.items()), *command]
    return subprocess.run([*enter, *ids, "--", *program], capture_output=True, check=False, timeout=DEADLINE)


# -- compose.yaml


def test_compose_follows_its_published_schema() -> None:
    checker: list[str | Path] = [SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(checker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_whole_picture_is_in_it(compose: dict[str, Any]) -> None:
    wanted = {"ingestd", "collect", "producer", "kafka", "topic", "s3", "bucket", "prometheus", "grafana"}
    assert set(compose["services"]) == wanted


def test_images_are_pinned_and_ports_are_on_this_machine_only(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert re.search(r":v?\d+\.\d+(\.\d+)?$|^ingestd:local$", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_ours_are_as_confined_as_the_image_allows(compose: dict[str, Any]) -> None:
    for name in ("ingestd", "collect", "producer"):
        service = compose["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).samefile(DOCKERFILE)


def test_the_daemon_takes_its_configuration_and_has_time_to_drain(compose: dict[str, Any], tmp_path: Path) -> None:
    service = compose["services"]["ingestd"]
    (mounted,) = service["configs"]
    assert mounted["target"] == service["command"][-1]
    file = tmp_path / "ingestd.toml"
    file.write_text(compose["configs"][mounted["source"]]["content"])
    config = load(path=str(file), environ=service["environment"]).config
    assert config.kafka.bootstrap_servers == ("kafka:9092",)
    assert f"--topic={config.kafka.topics[0]}" in compose["services"]["topic"]["command"]
    assert config.kafka.topics[0] in compose["services"]["producer"]["command"]
    assert config.sink.url.removeprefix("s3://") in compose["services"]["bucket"]["command"][0]
    assert int(service["stop_grace_period"].removesuffix("s")) > config.grace + 10
    assert int(service["mem_limit"].removesuffix("m")) << 20 > config.batch.memory + (256 << 20)
    (identity,) = json.loads(compose["configs"]["s3"]["content"])["identities"]
    keys = [service["environment"][f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    assert [*identity["credentials"][0].values()] == keys


def test_the_collector_takes_its_configuration_and_its_journal_is_on_a_volume(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    service = compose["services"]["collect"]
    (mounted,) = service["configs"]
    assert service["command"] == ["collect", "--config", mounted["target"]]
    file = tmp_path / "collect.toml"
    file.write_text(compose["configs"][mounted["source"]]["content"])
    config = load(path=str(file), environ={}).config
    assert list(running_collector_problems(config.collect, "compose.yaml")) == []
    assert config.collect.journal is not None
    (volume,) = service["volumes"]
    name, _, place = volume.partition(":")
    assert name in compose["volumes"]
    assert (config.collect.host, str(Path(config.collect.journal).parent)) == ("0.0.0.0", place)
    assert config.kafka.bootstrap_servers == ("kafka:9092",)
    assert f"--topic={config.collect.topic}" in compose["services"]["topic"]["command"]
    assert service["ports"] == [f"127.0.0.1:{config.collect.port}:{config.collect.port}"]
    assert int(service["stop_grace_period"].removesuffix("s")) > config.grace + 10
    assert int(service["mem_limit"].removesuffix("m")) << 20 >= config.collect.body_memory + (256 << 20)


def test_the_place_of_the_journal_belongs_to_the_image_s_user(built: Image) -> None:
    folder = (built.root.folder / "var/lib/ingestd").stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (built.stage.user, built.stage.user, 0o700)


def test_what_it_mounts_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (FOLDER / source).exists(), source
        for config in service.get("configs", ()):
            assert config["source"] in compose["configs"]


def test_prometheus_takes_its_configuration(compose: dict[str, Any]) -> None:
    file = FOLDER / "prometheus.yml"
    done = promtool("check", "config", "--syntax-only", file)
    assert done.returncode == 0, done.stderr
    (rules,) = yaml.safe_load(file.read_text())["rule_files"]
    mounts = dict(reversed(volume.split(":")[:2]) for volume in compose["services"]["prometheus"]["volumes"])
    assert (FOLDER / mounts[str(Path(rules).parent)] / Path(rules).name).exists()
    (job,) = yaml.safe_load(file.read_text())["scrape_configs"]
    assert job["dns_sd_configs"][0]["names"] == ["ingestd", "collect"]
