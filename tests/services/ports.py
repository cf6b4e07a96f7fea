"""Free ports on the loopback address."""

import errno
import os
import random
import socket

HOST = "127.0.0.1"

# Of several processes of pytest-xdist, this one has each so many-th port.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
# With and without GRPC_OFFSET below what Linux and macOS hand to outgoing connections (from 32768 and 49152 upwards),
# and none that another worker takes, so that a service that was killed finds its ports free again.
_RANGE = range(12_000 + _WORKER, 22_000, _WORKERS)
GRPC_OFFSET = 10_000

_given: set[int] = set()


def free_port() -> int:
    """A port that is free, together with the one GRPC_OFFSET above it, and that no other call in this process gets."""
    for port in random.sample(_RANGE, len(_RANGE)):
        if port not in _given and is_free(port) and is_free(port + GRPC_OFFSET):
            _given.add(port)
            return port
    raise OSError(errno.EADDRNOTAVAIL, f"no free port of {_RANGE}")


def is_free(port: int) -> bool:
    """Whether nothing listens on the port."""
    with socket.socket() as sock:
        # Connections that linger after their server's end are no obstacle to the next server.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True
