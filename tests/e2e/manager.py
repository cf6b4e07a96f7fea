"""A service manager to be told how a daemon is."""

import asyncio
import socket
from contextlib import suppress

from tests.e2e.daemon import DEADLINE


class Manager:
    """systemd, as far as a service can tell."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    async def hear(self) -> str:
        """The next thing it is told."""
        async with asyncio.timeout(DEADLINE):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()

    def rest(self) -> list[str]:
        """All that it was told since."""
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(self._socket.recv(4096).decode())
        return heard

    def close(self) -> None:
        self._socket.close()
