"""Free ports on the loopback address, by blocks that no other process is given."""

import errno
import random
import socket
from collections import deque

HOST = "127.0.0.1"

# With and without GRPC_OFFSET below what Linux and macOS hand to outgoing connections (from 32768 and 49152 upwards).
_RANGE = range(12_000, 22_000)
_BLOCK = 50
GRPC_OFFSET = 10_000

_left: deque[int] = deque()
#: Of the blocks that this process has. Each is bound until the process ends, and not inherited.
_reservations: list[socket.socket] = []


def free_port() -> int:
    """A port that is free, together with the one GRPC_OFFSET above it, and that no other call gets in any process.

    So a service that was killed finds its ports free again, beside the other workers of a run and beside other runs.
    """
    while True:
        if not _left:
            _left.extend(_reserve_block())
        port = _left.popleft()
        if is_free(port) and is_free(port + GRPC_OFFSET):
            return port


def _reserve_block() -> range:
    """A UDP socket on a block's first number is the reservation: the kernel lets go of it when the process ends."""
    for first in random.sample(_RANGE[::_BLOCK], len(_RANGE) // _BLOCK):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((HOST, first))
        except OSError:
            sock.close()
        else:
            _reservations.append(sock)
            return range(first, first + _BLOCK)
    raise OSError(errno.EADDRNOTAVAIL, f"no free block of ports in {_RANGE}")


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
