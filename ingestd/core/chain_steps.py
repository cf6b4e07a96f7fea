"""What a chain asks to have done, one step at a time, and what it is answered. Pure."""

from collections.abc import Generator
from typing import Any

import msgspec

from ingestd.core.batch import Batch, EncodedBatch
from ingestd.core.object_keys import ObjectMetadata
from ingestd.core.records import Position


class Neighbours(msgspec.Struct, frozen=True):
    """Data objects around an offset: the keys of the last that starts before it, of those at it, of the next after."""

    before: str | None = None
    at: str | None = None
    after: str | None = None


class GetTopicId(msgspec.Struct, frozen=True):
    """-> str: the id of the topic, "" where none is known; records that come from now on are of no other"""


class ReadCommitted(msgspec.Struct, frozen=True):
    """-> Position | None"""


class ResolveStart(msgspec.Struct, frozen=True):
    """-> int: the offset that the start policy names"""


class ReadLog(msgspec.Struct, frozen=True):
    """-> LogRange"""


class Wait(msgspec.Struct, frozen=True):
    """-> None, after so many seconds"""

    seconds: float


class FindNeighbours(msgspec.Struct, frozen=True):
    """-> Neighbours of `offset` among the partition's data objects, whatever their dates"""

    offset: int


class HeadObject(msgspec.Struct, frozen=True):
    """-> ObjectInfo | None"""

    key: str


class Seek(msgspec.Struct, frozen=True):
    """-> None: let records come, from `offset` on"""

    offset: int


class AwaitFirst(msgspec.Struct, frozen=True):
    """-> Edge: the first record since ``Seek``"""


class AwaitBatch(msgspec.Struct, frozen=True):
    """-> Batch: the oldest sealed batch, which stays where it is"""


class Encode(msgspec.Struct, frozen=True):
    """-> Sealed: the batch as objects"""

    batch: Batch


class Upload(msgspec.Struct, frozen=True):
    """-> Stored: put the quarantine object, if any, and then the data object, as often as it takes"""

    sealed: EncodedBatch
    batch: Batch


class Landed(msgspec.Struct, frozen=True):
    """-> None: the batch is in an object and no longer held"""

    sealed: EncodedBatch
    batch: Batch


class Adopted(msgspec.Struct, frozen=True):
    """-> None: another writer's object was adopted; `released` records that were held are forgotten"""

    winner: ObjectMetadata
    released: int


class Commit(msgspec.Struct, frozen=True):
    """-> None. Where it is refused the partition is no longer ours and the run is dropped."""

    position: Position


class Halt(msgspec.Struct, frozen=True):
    """The last step: leave the partition paused. `code` is a metric label."""

    code: str
    message: str


Step = (
    GetTopicId
    | ReadCommitted
    | ResolveStart
    | ReadLog
    | Wait
    | FindNeighbours
    | HeadObject
    | Seek
    | AwaitFirst
    | AwaitBatch
    | Encode
    | Upload
    | Landed
    | Adopted
    | Commit
    | Halt
)
Steps = Generator[Step, Any, Any]
