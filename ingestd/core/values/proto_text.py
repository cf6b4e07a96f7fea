"""Descriptors of Protobuf from the text of a .proto file. Pure.

Only what decides how values are read: packages, imports, messages, fields, oneofs, maps, groups and enums. Options,
services and extensions are left out; fields of extensions are unknown fields, which no JSON has.
"""

from typing import TYPE_CHECKING, Any

from ingestd.core.values.base import SchemaError

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

_SCALARS = (
    "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "bytes", "uint32",
    "sfixed32", "sfixed64", "sint32", "sint64",
)  # fmt: skip
_LABELS = {"OPTIONAL": 1, "REQUIRED": 2, "REPEATED": 3}
_GROUP, _REPEATED, _OPTIONAL = 10, 3, 1


def parse_proto(name: str, text: str) -> "FileDescriptorProto":
    """The descriptor of the file `name`. Raises ``SchemaError``."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # noqa: PLC0415  of an extra
    from proto_schema_parser import ast  # noqa: PLC0415
    from proto_schema_parser.parser import Parser  # noqa: PLC0415

    try:
        parsed = Parser().parse(text)
    except RecursionError:
        raise SchemaError("its messages are nested too deeply") from None
    except Exception as error:
        raise SchemaError(f"not a .proto file: {type(error).__name__}: {error}") from error
    if parsed.edition is not None:
        raise SchemaError("editions of Protobuf are read from descriptors only, and this is the text of a .proto file")
    syntax = parsed.syntax or "proto2"
    if syntax not in {"proto2", "proto3"}:
        raise SchemaError(f"its syntax is {syntax!r}, not proto2 or proto3")
    file = FileDescriptorProto(name=name, syntax=syntax)
    for element in parsed.file_elements:
        if isinstance(element, ast.Package):
            file.package = element.name
        elif isinstance(element, ast.Import):
            if element.public:
                file.public_dependency.append(len(file.dependency))
            file.dependency.append(element.name)
        elif isinstance(element, ast.Message):
            _Builder(ast, proto3=syntax == "proto3").message(file.message_type.add(), element.name, element.elements)
        elif isinstance(element, ast.Enum):
            _enum(ast, file.enum_type.add(), element)
    return file


class _Builder:
    """Fills descriptors of messages. Names of types stay as they are written: the pool resolves them."""

    def __init__(self, ast: Any, *, proto3: bool) -> None:
        self._ast = ast
        self._proto3 = proto3

    def message(self, target: "DescriptorProto", name: str, elements: list[Any]) -> None:
        """Fill `target`."""
        ast, optional = self._ast, []
        target.name = name
        for element in elements:
            if isinstance(element, ast.Message):
                self.message(target.nested_type.add(), element.name, element.elements)
            elif isinstance(element, ast.Enum):
                _enum(ast, target.enum_type.add(), element)
            elif isinstance(element, ast.OneOf):
                index = len(target.oneof_decl)
                target.oneof_decl.add(name=element.name)
                for member in element.elements:
                    self._field(target, member, oneof=index)
            else:
                self._field(target, element, oneof=None)
                if self._proto3 and isinstance(element, ast.Field) and element.cardinality == "OPTIONAL":
                    optional.append(target.field[-1])
        for field in optional:  # each in a oneof of its own, behind all others
            field.proto3_optional = True
            field.oneof_index = len(target.oneof_decl)
            target.oneof_decl.add(name=f"_{field.name}")

    def _field(self, target: "DescriptorProto", element: Any, *, oneof: int | None) -> None:
        ast = self._ast
        if isinstance(element, ast.MapField):
            entry = "".join(part[:1].upper() + part[1:] for part in element.name.split("_")) + "Entry"
            nested = target.nested_type.add(name=entry)
            nested.options.map_entry = True
            for number, (name, kind) in enumerate((("key", element.key_type), ("value", element.value_type)), 1):
                _typed(nested.field.add(name=name, number=number, label=_OPTIONAL), kind)
            target.field.add(name=element.name, number=element.number, label=_REPEATED, type_name=entry)
        elif isinstance(element, ast.Group):
            self.message(target.nested_type.add(), element.name, element.elements)
            field: Any = target.field.add(name=element.name.lower(), number=element.number)
            field.label = _LABELS[element.cardinality or "OPTIONAL"]
            field.type, field.type_name = _GROUP, element.name
        elif isinstance(element, ast.Field):
            field = target.field.add(name=element.name, number=element.number)
            field.label = _LABELS[element.cardinality or "OPTIONAL"]
            _typed(field, element.type)
        else:
            return
        if oneof is not None:
            target.field[-1].oneof_index = oneof


def _typed(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = field.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type_name = kind


def _enum(ast: Any, target: "EnumDescriptorProto", element: Any) -> None:
    target.name = element.name
    for value in element.elements:
        if isinstance(value, ast.EnumValue):
            target.value.add(name=value.name, number=value.number)
        elif isinstance(value, ast.Option) and value.name == "allow_alias":
            target.options.allow_alias = bool(value.value)
