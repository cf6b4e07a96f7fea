"""What all value formats share: references to schemas, schemas as text, and the decoder's port. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from ingestd.core.records import Record

#: The most bytes that a value may become, whatever its schema: more than a row can have.
EXPANDED_MAX = 64 << 20


class SchemaRef(NamedTuple):
    """What a record says of its schema: the registry's id, or a GUID in the form of RFC 9562."""

    kind: str  # "id" or "guid"
    name: str

    def __str__(self) -> str:
        return f"schema {self.kind} {self.name}"


class Schema(NamedTuple):
    """A schema as the registry has it. `references` are all that it needs, by name, those without needs first."""

    kind: str  # AVRO, PROTOBUF or JSON
    text: str
    references: Mapping[str, str] = {}


class RegistryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of the schema registry since the start, and what is kept of its answers."""

    requests: int = 0  # each address that was asked counts
    failures: int = 0  # of them, those whose answer said nothing of the schema
    schemas: int = 0  # kept, with those that do not exist or cannot be used


class SchemaError(Exception):
    """A schema cannot be used. The text says why."""


#: From the bytes of one value, without its wire format, to JSON text. Raises ``RejectedRecord``.
Decode = Callable[[bytes], bytes]


class ValueSource(Protocol):
    """Makes JSON text of records' values, with what it needs from outside."""

    def missing(self, records: Iterable[Record]) -> frozenset[SchemaRef]:
        """The schemas that these records need and that are not known yet."""
        ...

    def decode(self, record: Record) -> bytes | None:
        """The value as JSON text; None and no bytes stay as they are. Raises ``RejectedRecord``."""
        ...

    @property
    def error(self) -> str | None:
        """Why schemas cannot be fetched at the moment; None while they can."""
        ...

    @property
    def error_since(self) -> float | None:
        """On the loop's clock."""
        ...

    async def try_prepare(self, records: Iterable[Record]) -> str | None:
        """Make all schemas of these records known, or known not to exist. Why one cannot be fetched now, else None."""
        ...

    async def prepare(self, records: Iterable[Record], wanted: Callable[[], bool]) -> bool:
        """Return when all schemas of these records are known, or known not to exist, however long it takes.

        False where they are not: nobody wants the records any more, or the stream is to end.
        """
        ...

    def registry_status(self) -> RegistryStatus | None:
        """None where there is no registry."""
        ...

    def finish(self) -> None:
        """End all waits."""
        ...
