"""The wire format of schema registries: where a record names its schema, and where its payload begins. Pure.

A value begins with 0 and a schema id of four bytes, or with 1 and a GUID of 16 bytes; or the header `__value_schema_id`
has either of them, and the value is the payload alone. In Protobuf, the indexes of the message follow what names the
schema: zigzag varints, first their count, where a single 0 stands for the first message.
"""

from collections.abc import Sequence
from uuid import UUID

from ingestd.core.rejections import Reason, RejectedRecord
from ingestd.core.values.base import SchemaRef

HEADER = "__value_schema_id"
ID_BYTES, GUID_BYTES = 5, 17
INDEXES_MAX = 100  # messages within each other

_FIRST_MESSAGE = (0,)


def header_of(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """What the headers say of the schema; of several, the last."""
    for name, value in reversed(headers):
        if name == HEADER:
            return value
    return None


def prefix_of(value: bytes) -> bytes:
    """The bytes of `value` that name its schema. Raises ``RejectedRecord``."""
    length = ID_BYTES if value[:1] == b"\x00" else GUID_BYTES if value[:1] == b"\x01" else 0
    if not length:
        message = (
            "the value does not begin with a schema registry's magic byte 0, and no header names its schema: "
            f"it begins with {value[:4].hex(' ')}; for plain JSON, set kafka.value_format = json"
        )
        raise RejectedRecord(Reason.UNDECODABLE, "$", message)
    if len(value) < length:
        raise RejectedRecord(Reason.TRUNCATED, "$", f"{len(value)} bytes, but naming the schema takes {length}")
    return value[:length]


def parse_prefix(prefix: bytes) -> tuple[SchemaRef, bytes]:
    """The schema that `prefix` names, and what is left of it. Raises ``RejectedRecord``."""
    if prefix[:1] == b"\x00" and len(prefix) >= ID_BYTES:
        return SchemaRef("id", str(int.from_bytes(prefix[1:ID_BYTES]))), prefix[ID_BYTES:]
    if prefix[:1] == b"\x01" and len(prefix) >= GUID_BYTES:
        return SchemaRef("guid", str(UUID(bytes=prefix[1:GUID_BYTES]))), prefix[GUID_BYTES:]
    raise RejectedRecord(Reason.UNDECODABLE, "$", f"the header {HEADER} has neither a schema's id nor its GUID")


def read_indexes(data: bytes) -> tuple[tuple[int, ...], int]:
    """The message's indexes at the beginning of `data`, and how many bytes they take. Raises ``RejectedRecord``."""
    count, at = _varint(data, 0)
    if count == 0:
        return _FIRST_MESSAGE, at
    if not 0 < count <= INDEXES_MAX:
        raise RejectedRecord(Reason.UNDECODABLE, "$", f"{count} message indexes, not 0 to {INDEXES_MAX}")
    indexes = []
    for _ in range(count):
        index, at = _varint(data, at)
        indexes.append(index)
    return tuple(indexes), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            raise RejectedRecord(Reason.TRUNCATED, "$", "the value ends within its message indexes")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
    raise RejectedRecord(Reason.UNDECODABLE, "$", "a message index of more than 32 bits")
