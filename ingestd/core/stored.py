"""What a sink says of an object: the outcome of a create-only write, and an object without its body."""

from collections.abc import Mapping
from enum import Enum

import msgspec


class Stored(Enum):
    """What became of a create-only write."""

    CREATED = "created"
    EXISTS = "exists"  # the name is taken; nothing was changed, and whose bytes they are is not said


class ObjectInfo(msgspec.Struct, frozen=True):
    """An object without its body. `metadata` keys are lower case ASCII, values printable ASCII and not empty."""

    key: str
    size: int
    metadata: Mapping[str, str]
    landed_at: float | None = None  # by the store's clock, in seconds since the epoch; None where it does not say
