"""The simulated firm's clients: how busy each of them is, and the interest in investing that no event tells. Pure.

The interest is the simulation's ground truth: what is learned from the events can be measured against it.
"""

from collections.abc import Iterator
from math import gcd, log
from typing import NamedTuple
from zlib import crc32


class Client(NamedTuple):
    """The truth about one client."""

    client_id: str
    share: float  # of all that clients begin
    interest: float


class Clients:
    """So many clients, by their rank: 0 is the busiest."""

    def __init__(self, count: int) -> None:
        self._count = count
        # A hundredth of the clients is the scale: they do a sixth of all there is, a tenth does one half.
        self._scale = count / 100
        # Coprime, so that this maps ranks to numbers one to one: the busiest clients have no neighbouring ids.
        self._stride = next(n for n in range(611_953, 10**9) if gcd(n, count) == 1)

    def draw(self, chance: float) -> str:
        """The id of the client whose turn it is. `chance` is from [0, 1)."""
        return self._client_id(min(int(self._scale * 101.0**chance - self._scale), self._count - 1))

    def truth(self) -> Iterator[Client]:
        """All of them, the busiest first."""
        for rank in range(self._count):
            client_id = self._client_id(rank)
            share = log(1 + 1 / (self._scale + rank)) / log(101.0)
            yield Client(client_id, share, interest(crc32(client_id.encode())))

    def _client_id(self, rank: int) -> str:
        return f"CLIENT_{rank * self._stride % self._count:06d}"


def interest(digest: int) -> float:
    """From [0, 1), evenly spread over the clients. `digest` is the CRC-32 of the client's id."""
    return (digest * 0xC2B2AE35 & 0xFFFFFFFF) / 2**32


def pages(interest: float) -> float:
    """Mean number of pages of a visit: 4 over all clients."""
    return 1.0 + 6.0 * interest


def clicks(interest: float) -> float:
    """Share of the opened mails whose link is followed: 0.3 over all clients."""
    return 0.02 + 0.56 * interest


def calls(interest: float) -> float:
    """How often a client calls, as a multiple of the mean."""
    return 0.3 + 1.4 * interest


def invests(interest: float) -> float:
    """Share of the calls that end with an investment: 0.2 over all clients' calls."""
    return 0.02 + 0.4 * interest * interest
