"""The port of a Kinesis client, what it answers and its errors. Pure.

`KinesisSource` knows nothing else of AWS, so the tests give it a stream in memory.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from ingestd.core.errors import SourceError
from ingestd.core.records import SourceRefusal


class KinesisError(SourceError):
    """A call failed; `code` is AWS's error code, or names what came instead of an answer."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class KinesisUnavailable(KinesisError):
    """Throttled, time-outs, 5xx, lost connections: try again."""


class KinesisRefused(KinesisError):
    """Credentials, rights, KMS, no such stream: an operator must act. The call is repeated meanwhile."""


class IteratorExpired(KinesisError):
    """A shard iterator was not used for five minutes: get another one."""


class NumberUnknown(KinesisError):
    """A sequence number is not of this stream, or of no stream at all."""


class KinesisRecord(msgspec.Struct, gc=False):
    """A record as the pipeline reads it, decoded straight from the answer. `offset` is its position."""

    offset: int = msgspec.field(name="SequenceNumber")
    value: bytes = msgspec.field(name="Data")
    arrival: float = msgspec.field(name="ApproximateArrivalTimestamp", default=0.0)  # seconds since the epoch
    partition_key: str | None = msgspec.field(name="PartitionKey", default=None)
    refused: SourceRefusal | None = msgspec.field(name="-", default=None)

    @property
    def timestamp(self) -> int:
        return round(self.arrival * 1000)

    @property
    def key(self) -> bytes | None:
        return None if self.partition_key is None else self.partition_key.encode()

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        return ()


class Page(NamedTuple):
    """The answer to one read of a shard."""

    records: Sequence[KinesisRecord]  # as they were put: an aggregate is one record
    next_iterator: str | None  # None at the end of a closed shard
    behind_ms: int  # how far the end of the page is behind the tip of the shard
    size: int  # bytes of the records' values


class Stream(NamedTuple):
    """A data stream, as it is now."""

    arn: str
    created_ms: int  # changes when the stream is deleted and created again
    retention_ms: int
    now_ms: int  # AWS's clock


class Shard(NamedTuple):
    """A shard of a stream, as it is listed."""

    id: str
    parents: tuple[str, ...]  # one after a split, two after a merge; they need not be listed any more
    hash_start: int
    hash_end: int
    closed: bool  # it takes no more records
    ending: int | None = None  # a closed shard's last sequence number: no record has a greater one


class PutEntry(NamedTuple):
    """A record to be put."""

    partition_key: str
    value: bytes


class KinesisClient(Protocol):
    """Every method may raise each of the errors above. None is repeated inside."""

    async def describe(self) -> Stream:
        """The stream. Raises ``KinesisRefused`` where there is none."""
        ...

    async def list_shards(self) -> Sequence[Shard]:
        """All shards that are listed: open ones, and closed ones that may hold records."""
        ...

    async def iterator(self, shard: str, *, number: int | None = None, at_ms: int | None = None) -> str:
        """An iterator at a sequence number, or at the first record that arrived at a time or later.

        Without both it is at the first record that retention has left, as it is where that is behind the place.
        """
        ...

    async def get_records(self, iterator: str, limit: int) -> Page:
        """At most `limit` records. An empty page does not mean that there are no more."""
        ...

    async def put_records(self, entries: Sequence[PutEntry]) -> Sequence[str | None]:
        """Put at most 500 records. Of each, in order, None or the code of the error that kept it out."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
