"""Compiles an Avro type into Python functions that read its values. Pure.

A closure for each type takes half as long again, because each field costs calls. The source that is made here has
nothing of a schema in it but sizes and scales, which are integers: names and symbols are in objects that it refers to.
A function takes the payload `d` and a position `p`, and returns a value and the position behind it; see avro_scalars.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ingestd.core.values import avro_scalars as scalars
from ingestd.core.values.avro_schema import Array, AvroType, Enum, Map, RecordType, Scalar, Union

Read = Callable[[bytes, int], tuple[Any, int]]

INLINE_FIELDS, INLINE_BRANCHES = 200, 8  # of more, each is a function: no source is long or nested

_NAMES: dict[str, Any] = {
    "small": scalars.SMALL,
    "spans": scalars.SPANS,
    "float_at": struct.Struct("<f").unpack_from,
    "double_at": struct.Struct("<d").unpack_from,
    **{
        function.__name__: function
        for function in (
            scalars.read_long, scalars.read_span, scalars.read_branch, scalars.bad_text, scalars.bad_index,
            scalars.bad_number, scalars.truncated, scalars.decimal_of, scalars.uuid_text, scalars.date_of,
            scalars.time_of_millis, scalars.time_of_micros, scalars.micros, scalars.local_micros, scalars.local_millis,
            scalars.nanos, scalars.local_nanos,
        )
    },
}  # fmt: skip
#: Of a primitive type and a logical one, the function that makes the latter's value of the former's.
_LOGICAL = {
    ("int", "date"): "date_of",
    ("int", "time-millis"): "time_of_millis",
    ("long", "time-micros"): "time_of_micros",
    ("long", "timestamp-micros"): "micros",
    ("long", "timestamp-nanos"): "nanos",
    ("long", "local-timestamp-millis"): "local_millis",
    ("long", "local-timestamp-micros"): "local_micros",
    ("long", "local-timestamp-nanos"): "local_nanos",
    ("string", "uuid"): "uuid_text",
}


def compile_reader(root: AvroType) -> Read:
    """A function that reads a value of this type from a payload and a position.

    It raises ``RejectedRecord``; IndexError and struct.error at the payload's end, ValueError and OverflowError where a
    logical type does not have the value, RecursionError.
    """
    return _Compiler().compile(root)


class _Compiler:
    def __init__(self) -> None:
        self._scope = dict(_NAMES)
        self._functions: dict[AvroType | str, str] = {}
        self._waiting: list[tuple[str, AvroType]] = []
        self._tables: list[tuple[list[Read], list[str]]] = []  # filled when all functions are there

    def compile(self, root: AvroType) -> Read:
        name = self._function(root)
        while self._waiting:
            self._define(*self._waiting.pop())
        for table, names in self._tables:
            table += [self._scope[one] for one in names]
        found: Read = self._scope[name]
        return found

    def _function(self, one: AvroType) -> str:
        """The name of the function that reads this type."""
        key = f"{one.kind} {one.logical} {one.scale} {one.size}" if isinstance(one, Scalar) else one
        if key not in self._functions:
            self._functions[key] = name = f"read{len(self._functions)}"
            self._waiting.append((name, one))
        return self._functions[key]

    def _put(self, found: object) -> str:
        """The name of an object that the source refers to."""
        name = f"object{len(self._scope)}"
        self._scope[name] = found
        return name

    def _table(self, types: Sequence[AvroType]) -> list[Read]:
        table: list[Read] = []
        self._tables.append((table, [self._function(one) for one in types]))
        return table

    def _define(self, name: str, one: AvroType) -> None:
        match one:
            case Union() if len(one.branches) > INLINE_BRANCHES:
                self._scope[name] = _union_reader(self._table(one.branches))
                return
            case RecordType() if len(one.fields) > INLINE_FIELDS:
                self._scope[name] = _record_reader(_row(one), self._table([inner for _, inner in one.fields]))
                return
            case RecordType():
                body = self._record(one)
            case Array():
                body = _repeat("[]", [*self._value(one.items, "v"), "found.append(v)"])
            case Map():
                body = _repeat("{}", [*_text("k"), *self._value(one.values, "v"), "found[k] = v"])
            case _:
                body = [*self._inline(one, "v"), "return v, p"]
        if any(".decode()" in line for line in body):
            body = ["try:", *_indented(body), "except UnicodeDecodeError as error:", "    raise bad_text(error, d, e)"]
        source = "\n".join([f"def {name}(d, p):", *_indented(body)])
        exec(compile(source, "<reader of an Avro type>", "exec"), self._scope)  # noqa: S102  see the file's docstring

    def _record(self, record: RecordType) -> list[str]:
        values = [f"v{number}" for number in range(len(record.fields))]
        lines: list[str] = []
        for value, (_, inner) in zip(values, record.fields, strict=True):
            lines += self._value(inner, value)
        return [*lines, f"return {self._put(_row(record))}({', '.join(values)}), p"]

    def _value(self, one: AvroType, to: str) -> list[str]:
        """Lines that read a value into the variable `to`."""
        if isinstance(one, Scalar | Enum) or (isinstance(one, Union) and len(one.branches) <= INLINE_BRANCHES):
            return self._inline(one, to)
        return [f"{to}, p = {self._function(one)}(d, p)"]

    def _inline(self, one: Scalar | Enum | Union, to: str) -> list[str]:
        if isinstance(one, Scalar):
            return self._scalar(one, to)
        if isinstance(one, Enum):
            bad = f"if not 0 <= n < {len(one.symbols)}: raise bad_index('enum', n)"
            return [*_long("n"), bad, f"{to} = {self._put(one.symbols)}[n]"]
        lines = ["n = d[p]", "if n < 128: p += 1", "else: n, p = read_branch(d, p)"]
        for number, branch in enumerate(one.branches):
            lines.append(f"{'elif' if number else 'if'} n == {2 * number}:")
            union = isinstance(branch, Union)
            lines += _indented([f"{to}, p = {self._function(branch)}(d, p)"] if union else self._value(branch, to))
        return [*lines, "else: raise bad_index('union', (n >> 1) ^ -(n & 1))"]

    def _scalar(self, one: Scalar, to: str) -> list[str]:
        kind, logical = one.kind, one.logical
        if kind == "long" and logical == "timestamp-millis":
            if "read_millis" not in self._scope:  # one for all fields: they are mostly in the same window
                self._scope["read_millis"] = scalars.millis_reader()
            return [f"{to}, p = read_millis(d, p)"]
        if logical == "decimal" and kind in {"bytes", "fixed"}:
            made = f"{to} = decimal_of({to}, {one.scale})"
        elif (function := _LOGICAL.get((kind, logical))) is not None:
            made = f"{to} = {function}({to})"
        else:
            return _plain(kind, one.size, to)
        return [*_plain(kind, one.size, to), "if p > len(d): raise truncated()", made]


def _plain(kind: str, size: int, to: str) -> list[str]:  # noqa: PLR0911  one for each kind of type
    match kind:
        case "null":
            return [f"{to} = None"]
        case "boolean":
            return [f"{to} = d[p] != 0", "p += 1"]
        case "float" | "double":
            # Only what is no number in JSON is not 0 times 0.
            bad = f"if {to} * 0.0 != 0.0: raise bad_number({to})"
            return [f"({to},) = {kind}_at(d, p)", bad, f"p += {4 if kind == 'float' else 8}"]
        case "fixed":
            return [f"e = p + {size}", "if e > len(d): raise truncated()", f"{to} = d[p:e]", "p = e"]
        case "string":
            return _text(to)
        case "bytes":
            return [*_SPAN, f"{to} = d[p + 1 : e]", "p = e"]
    return _long(to)


_SPAN = ["e = p + spans[d[p]]", "if e == p: p, e = read_span(d, p)"]


def _text(to: str) -> list[str]:
    return [*_SPAN, f"{to} = d[p + 1 : e].decode()", "p = e"]


def _long(to: str) -> list[str]:
    return [
        f"{to} = d[p]",
        f"if {to} < 128:",
        f"    {to} = small[{to}]",
        "    p += 1",
        f"else: {to}, p = read_long(d, p)",
    ]


def _repeat(empty: str, item: Sequence[str]) -> list[str]:
    """Lines that read blocks of items. What a count says is not believed: each item has bytes, which must be there."""
    return [
        f"found = {empty}",
        "while True:",
        *_indented(_long("n")),
        "    if n == 0: return found, p",
        "    if n < 0:",
        "        n = -n",
        "        _, p = read_long(d, p)",
        "    for _ in range(n):",
        *_indented(_indented(item)),
    ]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _row(record: RecordType) -> type[msgspec.Struct]:
    """What takes a record's values in their order: made and encoded faster than a dict, with any names."""
    names = {f"f{number}": name for number, (name, _) in enumerate(record.fields)}
    return msgspec.defstruct("AvroRecord", list(names), rename=names, gc=False)


def _record_reader(row: type[msgspec.Struct], fields: Sequence[Read]) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        values = []
        for field in fields:
            value, at = field(data, at)
            values.append(value)
        return row(*values), at

    return read


def _union_reader(branches: Sequence[Read]) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        index, at = scalars.read_long(data, at)
        if not 0 <= index < len(branches):
            raise scalars.bad_index("union", index)
        return branches[index](data, at)

    return read
