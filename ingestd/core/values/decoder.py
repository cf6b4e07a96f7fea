"""Decodes values by schemas that are known: those of a registry, or one for all. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ingestd.core.records import Record
from ingestd.core.rejections import Reason, RejectedRecord
from ingestd.core.values.avro import compile_avro
from ingestd.core.values.base import Decode, Schema, SchemaError, SchemaRef
from ingestd.core.values.protobuf import compile_message, compile_protobuf
from ingestd.core.values.wire_format import ID_BYTES, header_of, parse_prefix, prefix_of


class Unusable(NamedTuple):
    """Why no value of a schema can be decoded."""

    reason: Reason
    message: str


def as_it_is(payload: bytes) -> bytes:
    """Of JSON Schema: the payload is JSON, which the event model validates."""
    return payload


_COMPILERS: dict[str, Callable[[str, Mapping[str, str]], Decode]] = {"AVRO": compile_avro, "PROTOBUF": compile_protobuf}


def compile_schema(schema: Schema) -> Decode | Unusable:
    """How values of `schema` are decoded. Takes its time: never on the event loop."""
    if schema.kind == "JSON":
        return as_it_is
    compiler = _COMPILERS.get(schema.kind)
    if compiler is None:
        return Unusable(Reason.UNDECODABLE, f"its type is {schema.kind[:50]!r}, not AVRO, PROTOBUF or JSON")
    try:
        return compiler(schema.text, schema.references)
    except SchemaError as error:
        return Unusable(Reason.UNDECODABLE, f"it cannot be used: {error}")


def compile_file(value_format: str, text: str, message: str | None) -> Decode:
    """How values without a registry are decoded. Raises ``SchemaError``."""
    return compile_avro(text, {}) if value_format == "avro" else compile_message(text, message)


class RegistryDecoder:
    """Decodes values that name their schema. Keeps about `most` schemas, the latest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[SchemaRef, Decode | Unusable] = {}
        self._kinds: dict[SchemaRef, str] = {}
        self._by_prefix: dict[bytes, Decode] = {}  # of values: most records need no more than this

    def __len__(self) -> int:
        return len(self._known)

    def put(self, ref: SchemaRef, found: Decode | Unusable, kind: str = "") -> None:
        """Keep what is known of a schema."""
        self._known[ref] = found
        self._kinds[ref] = kind

    def is_usable(self, ref: SchemaRef) -> bool:
        """Whether values of this schema can be decoded."""
        return not isinstance(self._known.get(ref), Unusable | None)

    def kind_of(self, ref: SchemaRef) -> str:
        """AVRO, PROTOBUF or JSON of a schema that can be used, else why it cannot."""
        found = self._known.get(ref)
        return found.message if isinstance(found, Unusable) else self._kinds.get(ref, "")

    def forget(self, ref: SchemaRef) -> None:
        """Ask for this schema again."""
        self._known.pop(ref, None)
        self._kinds.pop(ref, None)

    def trim(self) -> None:
        """Forget the oldest half when there are too many. Call it before `missing`, never between it and `decode`."""
        if len(self._known) > self._most:
            for ref in [*self._known][: len(self._known) - self._most // 2]:
                self.forget(ref)
            self._by_prefix.clear()

    def missing(self, records: Iterable[Record]) -> frozenset[SchemaRef]:
        """The schemas that these records need and that are not known."""
        needed: set[SchemaRef] = set()
        known = self._by_prefix
        for record in records:
            value = record.value
            if not value or (not record.headers and value[:ID_BYTES] in known):
                continue
            try:
                ref, _, _ = _split(record, value)
            except RejectedRecord:
                continue
            needed.add(ref)
        return frozenset(ref for ref in needed if ref not in self._known)

    def decode(self, record: Record) -> bytes | None:
        """The value as JSON text. Raises ``RejectedRecord``."""
        value = record.value
        if not value:
            return value
        if not record.headers and (quick := self._by_prefix.get(value[:ID_BYTES])) is not None:
            return quick(value[ID_BYTES:])
        ref, prefix, payload = _split(record, value)
        found = self._known.get(ref)
        if found is None:
            found = Unusable(Reason.UNKNOWN_SCHEMA, "it was not fetched")
        if isinstance(found, Unusable):
            raise RejectedRecord(found.reason, "$", f"{ref}: {found.message}")
        if len(prefix) == ID_BYTES:
            self._by_prefix[prefix] = found
        return found(payload)


def _split(record: Record, value: bytes) -> tuple[SchemaRef, bytes, bytes]:
    """The schema, the bytes of the value that name it, and the payload. Raises ``RejectedRecord``."""
    if record.headers and (header := header_of(record.headers)) is not None:
        ref, rest = parse_prefix(header)
        return ref, b"", rest + value  # Protobuf's message indexes may be in the header
    prefix = prefix_of(value)
    return parse_prefix(prefix)[0], prefix, value[len(prefix) :]


class FileDecoder:
    """Decodes values of one schema, which they do not name. It needs nothing from outside."""

    error = None
    error_since = None

    def __init__(self, decode: Decode) -> None:
        self._decode = decode

    def missing(self, _: Iterable[Record]) -> frozenset[SchemaRef]:
        """None: the schema is there."""
        return frozenset()

    def decode(self, record: Record) -> bytes | None:
        """The value as JSON text. Raises ``RejectedRecord``."""
        return self._decode(record.value) if record.value else record.value

    async def try_prepare(self, _: Iterable[Record]) -> None:
        """Nothing to fetch."""

    async def prepare(self, _: Iterable[Record], __: Callable[[], bool]) -> bool:
        """Nothing to wait for."""
        return True

    def registry_status(self) -> None:
        """None: there is no registry."""

    def finish(self) -> None:
        """Nothing to end."""
