"""The clients of the simulated firm: how active each is, and a hidden interest in investing. Pure.

No event shows the interest. It is the ground truth for what is learned from the events.
"""

from collections.abc import Iterator
from math import gcd, log
from typing import NamedTuple
from zlib import crc32


class SimulatedClient(NamedTuple):
    """One client with its hidden interest."""

    client_id: str
    share: float  # of all visits, opened mails and calls
    interest: float


class Clients:
    """A number of clients, by rank: 0 is the most active."""

    def __init__(self, count: int) -> None:
        self._count = count
        # The most active hundredth of the clients does a sixth of everything, a tenth does one half.
        self._scale = count / 100
        # Coprime, so that ranks map to numbers one to one, and active clients do not have neighbouring ids.
        self._stride = next(n for n in range(611_953, 10**9) if gcd(n, count) == 1)

    def draw(self, chance: float) -> str:
        """The id of a client, drawn by activity. `chance` is from [0, 1)."""
        return self._client_id(min(int(self._scale * 101.0**chance - self._scale), self._count - 1))

    def truth(self) -> Iterator[SimulatedClient]:
        """All clients, the most active first."""
        for rank in range(self._count):
            client_id = self._client_id(rank)
            share = log(1 + 1 / (self._scale + rank)) / log(101.0)
            yield SimulatedClient(client_id, share, interest(crc32(client_id.encode())))

    def _client_id(self, rank: int) -> str:
        return f"CLIENT_{rank * self._stride % self._count:06d}"


def interest(digest: int) -> float:
    """A client's interest from [0, 1), uniform over all clients. `digest` is the CRC-32 of the client's id."""
    return (digest * 0xC2B2AE35 & 0xFFFFFFFF) / 2**32


def pages(interest: float) -> float:
    """The mean number of pages of a visit; 4 over all clients."""
    return 1.0 + 6.0 * interest


def clicks(interest: float) -> float:
    """The share of opened mails with a click on the link; 0.3 over all clients."""
    return 0.02 + 0.56 * interest


def calls(interest: float) -> float:
    """The number of calls, as a multiple of the mean."""
    return 0.3 + 1.4 * interest


def invests(interest: float) -> float:
    """The share of calls that end with an investment; 0.2 over all calls."""
    return 0.02 + 0.4 * interest * interest
