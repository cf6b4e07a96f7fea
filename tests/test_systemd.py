"""systemd's notification protocol, over a real datagram socket."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.ops.systemd import Notifier


class Manager:
    """What systemd does: hears datagrams on the socket that NOTIFY_SOCKET names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(5)

    def heard(self) -> bytes:
        return self.socket.recv(4096)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    it = Manager(str(tmp_path / "notify") if request.param == "path" else f"@ingestd-{uuid.uuid4().hex}")
    yield it
    it.socket.close()


def test_says_what_systemd_understands(manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.name})
    notifier.ready()
    assert manager.heard() == b"READY=1"
    notifier.status("landed 1,000 records")
    assert manager.heard() == b"STATUS=landed 1,000 records"
    notifier.watchdog()
    assert manager.heard() == b"WATCHDOG=1"
    notifier.stopping()
    assert manager.heard() == b"STOPPING=1"


def test_a_status_is_one_line_and_cannot_carry_another_assignment(manager: Manager) -> None:
    Notifier.from_environment({"NOTIFY_SOCKET": manager.name}).status("failed\nREADY=1\n\udc80")
    assert manager.heard() == b"STATUS=failed READY=1 ?"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_silent_without_a_manager(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment({**environ, "WATCHDOG_USEC": "1000000"})
    notifier.ready()
    notifier.watchdog()
    assert notifier.watchdog_interval is None
    assert caplog.records == []


@pytest.mark.parametrize("name", ["/nowhere/notify", "@" + "x" * 200, "/with\0zero"])
def test_a_manager_that_does_not_listen_is_warned_of_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.watchdog()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_full_socket_does_not_block(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.name})
    for _ in range(2000):
        notifier.watchdog()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval_is_half_of_what_systemd_allows(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "@x", **environ}).watchdog_interval == interval
