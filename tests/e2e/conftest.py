"""Daemons for the tests of this folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e.daemon import Daemon, credentials, settings
from tests.services.kafka import KafkaAddress
from tests.services.seaweed import S3Store


class MakeDaemon(Protocol):
    """Makes a daemon that is not started yet.

    `more` adds to the keys of ``settings``, or replaces them; `environment` is for what no command line may have.
    """

    def __call__(
        self,
        name: str,
        topic: str,
        more: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Daemon: ...


@pytest.fixture
def make_daemon(kafka: KafkaAddress, s3: S3Store, bucket: str, tmp_path: Path) -> Iterator[MakeDaemon]:
    """A function that makes daemons; they are killed after the test, however it ends."""
    made: list[Daemon] = []

    def make(
        name: str,
        topic: str,
        more: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Daemon:
        keys = {**settings(kafka.bootstrap, s3, bucket, topic), **(more or {})}
        daemon = Daemon(name, tmp_path, keys, {**credentials(s3), **(environment or {})})
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.kill()
