"""Protobuf values as JSON text, by the protobuf runtime. Pure.

Names of fields are those of the .proto file. 64-bit integers are numbers, bytes are base64, enums are names (numbers
where the schema has no name), and well-known types are what they stand for. A field without presence is there with its
default, as in Kafka Connect: nobody could tell a zero from nothing. Other fields, lists and maps are there if set.
"""

import base64
import binascii
import importlib
import math
import re
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from ingestd.core.decoding import ENCODER
from ingestd.core.rejections import MESSAGES, Reason, RejectedRecord
from ingestd.core.values.avro_scalars import UNSCALED_MAX, decimal_of
from ingestd.core.values.base import EXPANDED_MAX, Decode, SchemaError
from ingestd.core.values.proto_text import parse_proto
from ingestd.core.values.wire_format import read_indexes

_BUILT_IN = re.compile(r"google/(protobuf|type)/[a-z_]+\.proto")
_NO_VALUES = ("confluent/meta.proto",)  # has options only
_DECIMALS = ("confluent/type/decimal.proto", "confluent/types/decimal.proto")
_DECIMAL_TEXT = """syntax = "proto3"; package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"""
_MAIN = "ingestd/value.proto"
_SCALE_MAX = 1000
_EXPANSION = 16  # characters of JSON that a byte of a scalar can become
_MESSAGE_BYTES = 2  # of an empty message within another
_ENUM, _FLOAT, _DOUBLE, _BYTES, _MESSAGE, _GROUP = 14, 2, 1, 12, 11, 10


def compile_protobuf(text: str, references: Mapping[str, str]) -> Decode:
    """How payloads that begin with the message's indexes are decoded. Raises ``SchemaError``."""
    file = _load(text, references)
    readers: dict[tuple[int, ...], Decode] = {}

    def decode(payload: bytes) -> bytes:
        indexes, length = read_indexes(payload)
        if (reader := readers.get(indexes)) is None:
            reader = readers[indexes] = _reader(_message_at(file, indexes))
        return reader(payload[length:])

    return decode


def compile_message(text: str, message: str | None) -> Decode:
    """How bare messages of a .proto file are decoded. Raises ``SchemaError``."""
    file = _load(text, {})
    if message is None:
        return _reader(_message_at(file, (0,)))
    try:
        return _reader(file.pool.FindMessageTypeByName(message))
    except KeyError:
        raise SchemaError(f"it has no message {message}") from None


def _load(text: str, references: Mapping[str, str]) -> Any:
    """The descriptor of the file. Raises ``SchemaError``."""
    from google.protobuf.descriptor_pool import DescriptorPool  # noqa: PLC0415  of an extra

    pool, added = DescriptorPool(), set[str]()

    def add(name: str, source: str, depth: int = 0) -> None:
        if depth > len(references) + 1:
            raise SchemaError("its imports are a circle")
        file = _file(name, source)
        kept = [it for it in file.dependency if it not in _NO_VALUES]
        for dependency in kept:
            if dependency in added:
                continue
            if dependency in references:
                add(dependency, references[dependency], depth + 1)
            else:
                _add_built_in(pool, dependency, added)
        if len(kept) < len(file.dependency):
            public = [kept.index(file.dependency[at]) for at in file.public_dependency if file.dependency[at] in kept]
            file.ClearField("dependency")
            file.ClearField("public_dependency")
            file.dependency.extend(kept)
            file.public_dependency.extend(public)
        pool.AddSerializedFile(file.SerializeToString())
        added.add(name)

    try:
        add(_MAIN, text)
        return pool.FindFileByName(_MAIN)
    except SchemaError:
        raise
    except Exception as error:
        raise SchemaError(f"not a Protobuf schema: {type(error).__name__}: {error}") from error


def _file(name: str, source: str) -> Any:
    """The descriptor in `source`: the text of a .proto file, or base64 of a serialized descriptor."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415  of an extra
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        file = FileDescriptorProto.FromString(base64.b64decode(source, validate=True))
    except (binascii.Error, DecodeError, ValueError):
        return parse_proto(name, source)
    file.name = name
    return file


def _add_built_in(pool: Any, name: str, added: set[str]) -> None:
    if name in _DECIMALS:
        file = parse_proto(name, _DECIMAL_TEXT)
        if not added.isdisjoint(_DECIMALS):
            file.ClearField("message_type")
            other = next(iter(added.intersection(_DECIMALS)))
            file.dependency.append(other)
            file.public_dependency.append(0)
        pool.AddSerializedFile(file.SerializeToString())
        added.add(name)
        return
    if not _BUILT_IN.fullmatch(name):
        raise SchemaError(f"it imports {name}, which is not among its references")
    try:
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    except ImportError:
        raise SchemaError(f"it imports {name}, which is not installed") from None
    for dependency in module.DESCRIPTOR.dependencies:
        if dependency.name not in added:
            _add_built_in(pool, dependency.name, added)
    pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    added.add(name)


def _message_at(file: Any, indexes: tuple[int, ...]) -> Any:
    """The message that the indexes lead to. Raises ``RejectedRecord``."""
    messages = list(file.message_types_by_name.values())
    found: Any = None
    for index in indexes:
        if not 0 <= index < len(messages):
            message = f"message index {index} of {list(indexes)}, but the schema has {len(messages)} messages there"
            raise RejectedRecord(Reason.UNDECODABLE, "$", message)
        found = messages[index]
        messages = list(found.nested_types)
    return found


def _reader(descriptor: Any) -> Decode:
    from google.protobuf.message import DecodeError  # noqa: PLC0415  of an extra
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    parse = GetMessageClass(descriptor).FromString
    longest = EXPANDED_MAX // (_EXPANSION + _expansion(descriptor))
    plain = _Plain()

    def decode(payload: bytes) -> bytes:
        if len(payload) > longest:
            message = f"{len(payload)} bytes; with this schema, more than {longest} could become too much JSON"
            raise RejectedRecord(Reason.TOO_LARGE, "$", message)
        try:
            return ENCODER.encode(plain.message(parse(payload)))
        except RejectedRecord:
            raise
        except RecursionError as error:
            raise RejectedRecord(Reason.TOO_DEEP, "$", MESSAGES[Reason.TOO_DEEP]) from error
        except DecodeError as error:
            raise RejectedRecord(Reason.UNDECODABLE, "$", f"not a {descriptor.full_name}: {error}") from error
        except Exception as error:
            message = f"not a {descriptor.full_name}: {type(error).__name__}: {error}"
            raise RejectedRecord(Reason.UNDECODABLE, "$", message) from error

    return decode


def _expansion(descriptor: Any) -> int:
    """Characters of names and defaults in JSON for each byte of a value, at most."""
    most, seen, waiting = 0, set[str](), [descriptor]
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        text = 0
        for field in message.fields:
            text += len(field.name) + len('"":false,')
            if field.message_type is not None:
                waiting.append(field.message_type)
            if field.enum_type is not None:
                longest = max(map(len, field.enum_type.values_by_name), default=0)
                text += longest
                most = max(most, longest)
        most = max(most, text // _MESSAGE_BYTES)
    return most


class _Plain:
    """Makes of messages what JSON has. Converters are kept for each type of message."""

    def __init__(self) -> None:
        self._fields: dict[str, list[tuple[str, Any, Callable[[Any], Any]]]] = {}

    def message(self, message: Any) -> Any:
        """An object, or what a well-known type stands for."""
        descriptor = message.DESCRIPTOR
        name = descriptor.full_name
        if (special := _WELL_KNOWN.get(name)) is not None:
            return special(message)
        fields = self._fields.get(name)
        if fields is None:
            fields = self._fields[name] = [(it.name, it, self._converter(it)) for it in descriptor.fields]
        plain = {}
        for key, field, convert in fields:
            if field.is_repeated:
                if values := getattr(message, key):
                    plain[key] = convert(values)
            elif not field.has_presence or message.HasField(key):
                plain[key] = convert(getattr(message, key))
        return plain

    def _converter(self, field: Any) -> Callable[[Any], Any]:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            value = self._item(entry.fields_by_name["value"])
            return lambda values: {_key(key): value(values[key]) for key in values}
        item = self._item(field)
        return (lambda values: [item(value) for value in values]) if field.is_repeated else item

    def _item(self, field: Any) -> Callable[[Any], Any]:
        if field.type in {_MESSAGE, _GROUP}:
            return self.message
        if field.type == _ENUM:
            names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
            return lambda number: names.get(number, number)
        return {_FLOAT: _float, _DOUBLE: _double}.get(field.type, _same)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _same(value: Any) -> Any:
    return value


def _double(number: float) -> float:
    if not math.isfinite(number):
        raise RejectedRecord(Reason.NUMBER_OUT_OF_RANGE, "$", f"{number} is no number in JSON")
    return number


def _float(number: float) -> float:
    """With the fewest digits that tell it from other floats of 32 bits."""
    bits = struct.pack("f", _double(number))
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        if abs(short) < 3.4e38 and struct.pack("f", short) == bits:
            return short
    return number


def _decimal(message: Any) -> Decimal:
    if len(message.value) > UNSCALED_MAX or abs(message.scale) > _SCALE_MAX:
        raise RejectedRecord(Reason.NUMBER_OUT_OF_RANGE, "$", "a decimal of more than 1000 digits")
    return decimal_of(message.value, message.scale)


def _json_text(message: Any) -> str:
    text: str = message.ToJsonString()
    return text


def _wrapped(message: Any) -> Any:
    field = message.DESCRIPTOR.fields[0]
    return {_FLOAT: _float, _DOUBLE: _double}.get(field.type, _same)(message.value)


def _struct(message: Any) -> Any:
    return {key: _value(message.fields[key]) for key in message.fields}


def _list(message: Any) -> Any:
    return [_value(item) for item in message.values]


def _value(message: Any) -> Any:
    match message.WhichOneof("kind"):
        case "number_value":
            number = _double(message.number_value)
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case "struct_value":
            return _struct(message.struct_value)
        case "list_value":
            return _list(message.list_value)
    return None


_WRAPPERS = ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
_WELL_KNOWN: dict[str, Callable[[Any], Any]] = {
    **{f"google.protobuf.{name}": _json_text for name in ("Timestamp", "Duration", "FieldMask")},
    **{f"google.protobuf.{name}Value": _wrapped for name in _WRAPPERS},
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Value": _value,
    "confluent.type.Decimal": _decimal,
}
