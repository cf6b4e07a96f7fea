"""Sends state to systemd with its notification protocol, where NOTIFY_SOCKET is set."""

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """Sends state to the service manager. Nothing here raises or waits: a broken manager must not harm the daemon.

    `address` is the socket's path, or "@name" for an abstract socket; "" without a manager. `watchdog_interval` is the
    time between two calls of ``watchdog`` in seconds, half of the manager's time-out; None where it has no watchdog.
    """

    def __init__(self, address: str = "", watchdog_interval: float | None = None) -> None:
        self.watchdog_interval = watchdog_interval
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._failing = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Notifier":
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):  # systemd also knows vsock, for whole virtual machines
            return cls()
        return cls(address, _watchdog_interval(environ))

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """Report that the event loop runs."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            # A new socket each time: the manager may be replaced meanwhile, and these are a few messages a minute.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto(state.encode(errors="replace"), self._address)
        except (OSError, ValueError) as error:
            if not self._failing:
                log.warning("cannot notify the service manager: %s", error)
            self._failing = True
        else:
            self._failing = False


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Half of WATCHDOG_USEC; None where it is for another process of the unit, or is not a number."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None
