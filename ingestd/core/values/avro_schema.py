"""Avro schemas as graphs of types, and what bounds the JSON of their values. Pure.

Only what a reader of values needs is checked: defaults, aliases and orders are those of other readers.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ingestd.core.values.base import EXPANDED_MAX, SchemaError

DIGITS_MAX = 1000  # of a decimal's scale
TYPES_MAX = 10_000  # in a schema and its references, each field's counted
TEXT_MAX = 1 << 20  # characters of names in the part of a value that is always there

_PRIMITIVES = frozenset(("null", "boolean", "int", "long", "float", "double", "bytes", "string"))
_MIN_BYTES = {"null": 0, "float": 4, "double": 8}
_EXPANSION = 16  # characters of JSON that a byte of a primitive type can become
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_IN_NAMES = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')


@dataclass(eq=False, slots=True)
class Scalar:
    """A primitive type, or `kind` "fixed" of `size` bytes. `scale` is a decimal's."""

    kind: str
    logical: str = ""
    scale: int = 0
    size: int = 0


@dataclass(eq=False, slots=True)
class Enum:
    symbols: tuple[str, ...]


@dataclass(eq=False, slots=True)
class Array:
    items: "AvroType"


@dataclass(eq=False, slots=True)
class Map:
    values: "AvroType"


@dataclass(eq=False, slots=True)
class Union:
    branches: tuple["AvroType", ...]


@dataclass(eq=False, slots=True)
class RecordType:
    """Its fields are known after those types that may refer to it."""

    fields: list[tuple[str, "AvroType"]] = field(default_factory=list)


Named = TypeVar("Named", Scalar, Enum, RecordType)
AvroType = Scalar | Enum | Array | Map | Union | RecordType


def parse_avro(text: str, references: Iterable[str]) -> AvroType:
    """The type that `text` describes. `references` are in the order of their needs. Raises ``SchemaError``."""
    parser = _Parser()
    try:
        for reference in references:
            parser.parse(json.loads(reference))
        return parser.parse(json.loads(text))
    except SchemaError:
        raise
    except RecursionError:
        raise SchemaError("its types are nested too deeply") from None
    except (KeyError, TypeError, ValueError) as error:
        raise SchemaError(f"not an Avro schema: {type(error).__name__}: {error}") from error


class _Parser:
    def __init__(self) -> None:
        self._named: dict[str, AvroType] = {}
        self._defined: set[str] = set()  # in this text: another may define the same names
        self._types = 0

    def parse(self, schema: Any) -> AvroType:
        self._defined.clear()
        return self._type(schema, "")

    def _type(self, schema: Any, namespace: str) -> AvroType:  # noqa: PLR0911  one for each kind of type
        self._types += 1
        if self._types > TYPES_MAX:
            raise SchemaError(f"it has more than {TYPES_MAX:,} types and fields")
        if isinstance(schema, list):
            if not schema:
                raise ValueError("a union has no branch")
            return Union(tuple([self._type(branch, namespace) for branch in schema]))
        if isinstance(schema, str):
            return Scalar(schema) if schema in _PRIMITIVES else self._known(schema, namespace)
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return self._type(kind, namespace)
        match kind:
            case "array":
                return Array(self._type(schema["items"], namespace))
            case "map":
                return Map(self._type(schema["values"], namespace))
            case "record" | "error":
                return self._record(schema, namespace)
            case "enum":
                return self._define(schema, namespace, Enum(_symbols(schema["symbols"])))[0]
            case "fixed":
                size = _whole(schema["size"], "size of a fixed type")
                return self._define(schema, namespace, Scalar("fixed", *_logical(schema), size))[0]
        return Scalar(kind, *_logical(schema)) if kind in _PRIMITIVES else self._known(kind, namespace)

    def _record(self, schema: dict[str, Any], namespace: str) -> RecordType:
        record, inner = self._define(schema, namespace, RecordType())
        seen = set()
        for one in schema["fields"]:
            name = _name(one["name"])
            if name in seen:
                raise ValueError(f"two fields of a record have the name {name}")
            seen.add(name)
            record.fields.append((name, self._type(one["type"], inner)))
        return record

    def _known(self, name: str, namespace: str) -> AvroType:
        full = f"{namespace}.{name}" if namespace and "." not in name else name
        if full not in self._named:
            raise ValueError(f"it has no type {full}")
        return self._named[full]

    def _define(self, schema: dict[str, Any], namespace: str, found: Named) -> tuple[Named, str]:
        """The type and the namespace of what is in it."""
        name = _name(schema["name"])
        inner = name.rpartition(".")[0] or schema.get("namespace", namespace) or ""
        full = f"{inner}.{name}" if inner and "." not in name else name
        if full in self._defined:
            raise ValueError(f"the type {full} is defined twice")
        self._defined.add(full)
        self._named[full] = found
        return found, inner


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name or _NOT_IN_NAMES.search(name):
        raise ValueError(f"{name!r} is no name")
    return name


def _symbols(symbols: Any) -> tuple[str, ...]:
    if not isinstance(symbols, list) or not symbols or len(set(symbols)) < len(symbols):
        raise ValueError("the symbols of an enum are none, or not unique")
    for symbol in symbols:
        if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
            raise ValueError(f"{symbol!r} is no symbol of an enum")
    return tuple(symbols)


def _logical(schema: dict[str, Any]) -> tuple[str, int]:
    """The logical type and a decimal's scale."""
    logical = schema.get("logicalType")
    if not isinstance(logical, str):
        return "", 0
    scale = _whole(schema.get("scale", 0), "decimal's scale") if logical == "decimal" else 0
    if scale > DIGITS_MAX:
        raise ValueError(f"a decimal's scale is {scale}, above {DIGITS_MAX}")
    return logical, scale


def _whole(number: Any, what: str) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"the {what} is {number!r}")
    return number


def longest_payload(root: AvroType) -> int:
    """The most bytes whose JSON is within ``EXPANDED_MAX``. Raises ``SchemaError`` where nothing bounds it."""
    try:
        return _Sizes().longest_payload(root)
    except RecursionError:
        raise SchemaError("its types are nested too deeply") from None


class _Sizes:
    """The fewest bytes of each type, and the most characters that do not come from its bytes: those of names."""

    def __init__(self) -> None:
        self._known: dict[RecordType, tuple[int, int]] = {}
        self._open: set[RecordType] = set()
        self._units: dict[tuple[AvroType, int], None] = {}  # what can be repeated, and the bytes besides its own

    def longest_payload(self, root: AvroType) -> int:
        _, always = self.sizes(root)
        if always > TEXT_MAX:
            raise SchemaError("the names of its fields are too long together")
        most, seen = 0, set[tuple[AvroType, int]]()
        while self._units:
            unit, extra = one = self._units.popitem()[0]
            if one in seen:
                continue
            seen.add(one)
            least, text = self.sizes(unit)
            if least + extra == 0:
                raise SchemaError("an array of items that have no bytes has no bound")
            most = max(most, -(-text // (least + extra)))
        return (EXPANDED_MAX - always) // (_EXPANSION + most)

    def sizes(self, one: AvroType) -> tuple[int, int]:
        """The fewest bytes of a value, and the most characters of names without those of what can be repeated."""
        match one:
            case Scalar():
                return (one.size if one.kind == "fixed" else _MIN_BYTES.get(one.kind, 1)), 0
            case Enum():
                return 1, max(map(len, one.symbols)) + 2
            case Array():
                self._units[one.items, 0] = None
                return 1, 0
            case Map():
                self._units[one.values, 1] = None
                return 1, 0
            case Union():
                self._units.update(((branch, 1), None) for branch in one.branches)
                return 1, 0
        return self._record_sizes(one)

    def _record_sizes(self, record: RecordType) -> tuple[int, int]:
        if record in self._open:
            raise SchemaError("a record that is always within itself has no value")
        if record not in self._known:
            self._open.add(record)
            least = text = 0
            for name, inner in record.fields:
                size, more = self.sizes(inner)
                least += size
                text += more + len(json.dumps(name)) + len(":null,")
            self._open.discard(record)
            self._known[record] = least, text
        return self._known[record]
