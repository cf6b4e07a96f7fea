"""The port of a source's state in the sink: small objects that several daemons share.

A source knows no sink; `wiring` gives it this. Names are relative to the lineage's folder of the source's kind. Those
that begin with "members/" are replaced, all others are created once.
"""

from collections.abc import Mapping
from typing import Protocol


class StateStore(Protocol):
    """Errors are retried inside, as those of uploads, until the call is cancelled."""

    async def create(self, name: str, body: bytes) -> bytes:
        """Create the object unless the name is taken; returns the body that the name has from now on. Durable."""
        ...

    async def read(self, name: str) -> bytes | None:
        """The body of an object; None if there is none. Read-after-write."""
        ...

    async def replace(self, name: str, body: bytes) -> None:
        """Write the object "members/...", whether it is there or not. It may be lost: no rule of the chain needs it."""
        ...

    async def versions(self, prefix: str) -> Mapping[str, str]:
        """The names that begin with `prefix`, each with a text that changes with every write of it.

        Names of members are found by a prefix that begins with "members/" only.
        """
        ...
