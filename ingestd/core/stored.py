"""What a sink answers: the outcome of a create-only write, and an object without its body."""

from collections.abc import Mapping
from enum import Enum

import msgspec


class Stored(Enum):
    """The outcome of a create-only write."""

    CREATED = "created"
    EXISTS = "exists"  # the name is taken and nothing was changed; by whom is not known


class ObjectInfo(msgspec.Struct, frozen=True):
    """An object without its body. `metadata` keys are lower case ASCII, values printable ASCII and not empty."""

    key: str
    size: int
    metadata: Mapping[str, str]
    landed_at: float | None = None  # by the store's clock, in seconds since the epoch; None if it does not tell
