"""The key and the headers of a record as the last fields of its row, by ``events.include``. Pure."""

from base64 import b64encode
from collections.abc import Collection

import msgspec

from ingestd.core.decoding import ENCODER
from ingestd.core.errors import ConfigError
from ingestd.core.events import Event, GenericEvent, Model
from ingestd.core.records import Record

INCLUDED = {"key": ("source_key", "source_key_base64"), "headers": ("source_headers",)}


class _Header(msgspec.Struct, gc=False, omit_defaults=True):
    name: str
    value: str | None = None
    value_base64: str | None = None


class _Fields(msgspec.Struct, gc=False, omit_defaults=True):
    source_key: str | None = None
    source_key_base64: str | None = None
    source_headers: list[_Header] | None = None


class RecordFields:
    """Makes the end of a row's line from the key and the headers of its record."""

    def __init__(self, include: Collection[str]) -> None:
        self._key, self._headers = "key" in include, "headers" in include

    def joined(self, line: bytes, record: Record) -> bytes:
        """The row's line, an object with at least one field, with the fields of its record."""
        fields = _Fields()
        if self._key and record.key is not None:
            fields.source_key, fields.source_key_base64 = _text_or_base64(record.key)
        if self._headers and record.headers:
            fields.source_headers = [_Header(_name(name), *_text_or_base64(value)) for name, value in record.headers]
        end = ENCODER.encode(fields)
        return line if end == b"{}" else line[:-1] + b"," + end[1:]


def check_fields(model: Model, include: Collection[str]) -> None:
    """Raises ``ConfigError`` where a type of the model has a field of the name of an included one."""
    taken = {name: part for part in include for name in INCLUDED[part]}
    kinds: list[type[Event]] = [*model.types.values(), GenericEvent]
    for kind in kinds:
        for name in kind.__struct_encode_fields__:
            if part := taken.get(name):
                raise ConfigError(
                    f'events.model: {kind.__name__}.{name} is also a column of events.include = "{part}"',
                    hint=f'rename the field, also in rows: field(name=...); or remove "{part}" from events.include',
                )


def _text_or_base64(value: bytes | None) -> tuple[str | None, str | None]:
    """As text if it is UTF-8 without NUL, else as base64. A header of Kafka may have no value at all."""
    if value is None:
        return None, None
    if b"\0" not in value:
        try:
            return value.decode(), None
        except UnicodeDecodeError:
            pass
    return None, b64encode(value).decode()


def _name(name: str) -> str:
    """What text of UTF-8 cannot hold is escaped; so is NUL, which Snowflake's text does not hold."""
    return name.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
