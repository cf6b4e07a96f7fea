"""Listens on a port for HTTP connections; what goes wrong is told in the words of the configuration."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from ingestd.core.errors import ConfigError
from ingestd.core.formatting import address

# Malformed requests are the sender's fault: aiohttp would log each as an error, with a traceback.
quiet_log = logging.getLogger(f"{__name__}.http")
quiet_log.setLevel(logging.CRITICAL)

log = logging.getLogger(__name__)


async def listen(
    connection: Callable[[], asyncio.BaseProtocol], host: str, port: int, section: str, *, backlog: int
) -> asyncio.Server:
    """A listening socket; "::" takes IPv4, too. `section` of the configuration has the host. Raises OSError."""
    where: dict[str, Any] = {"host": host, "port": port}
    if host == "::":
        where = {"sock": _both_families(port, section, backlog)}
    return await asyncio.get_running_loop().create_server(connection, backlog=backlog, **where)


def _both_families(port: int, section: str, backlog: int) -> socket.socket:
    """A socket that takes IPv4 and IPv6, which asyncio's own for "::" does not; IPv4 alone where there is no IPv6."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
    log.warning("this host has no IPv6: %s.host = :: listens on 0.0.0.0 only", section)
    return socket.create_server(("0.0.0.0", port), backlog=backlog)  # noqa: S104 - it was asked for


def cannot_listen(host: str, port: int, section: str, error: OSError, *, otherwise: str = "") -> ConfigError:
    """Why `listen` failed. `otherwise` is one more way out, where there is one."""
    where = f"cannot listen on {address(host, port)}"
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"{section}.port = {port}: {where}, the port is in use",
            hint=f"choose another, or any free one with --set {section}.port=0 or INGESTD__{section.upper()}__PORT=0"
            + otherwise,
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ConfigError(f"{section}.port = {port}: {where}: {error.strerror}", hint="choose a port above 1023")
    return ConfigError(
        f"{section}.host = {host!r}: {where}: {error.strerror or error}", hint="name an address of this host"
    )
