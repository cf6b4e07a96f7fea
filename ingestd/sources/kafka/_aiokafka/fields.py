"""Types of Kafka's protocol that aiokafka does not have: topic ids, and structures of the flexible versions."""

import base64
from io import BytesIO
from typing import Any

from aiokafka.protocol.types import CompactArray, Schema, TaggedFields

_NO_ID = bytes(16)
_NO_TAGS = b"\0"


class TopicId:
    """16 bytes, as text the way Kafka prints them; "" for no id."""

    @staticmethod
    def encode(value: str) -> bytes:
        return base64.urlsafe_b64decode(f"{value}==") if value else _NO_ID

    @staticmethod
    def decode(data: BytesIO) -> str:
        value = data.read(len(_NO_ID))
        return "" if value == _NO_ID else base64.urlsafe_b64encode(value).decode().rstrip("=")

    repr = repr


class Fields(Schema):  # type: ignore[misc]  # aiokafka has no types
    """A structure of a flexible version; its tags are skipped."""

    def encode(self, item: Any) -> bytes:
        encoded: bytes = super().encode(item)
        return encoded + _NO_TAGS

    def decode(self, data: BytesIO) -> tuple[Any, ...]:
        decoded: tuple[Any, ...] = super().decode(data)
        TaggedFields.decode(data)
        return decoded


def array(*fields: tuple[str, Any]) -> CompactArray:
    """An array of such structures."""
    return CompactArray(Fields(*fields))
