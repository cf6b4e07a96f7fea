"""The event model: the marketing event types, and how a user's own model is loaded and checked.

A model is one or more types that inherit from ``Event``, each with a tag, which is its value of ``event_type``::

    class CardPayment(Event, tag="card_payment"):
        amount: Decimal
        currency: Annotated[str, Meta(min_length=3, max_length=3)]

The only default of a field is None. A ``__post_init__`` may raise ValueError to reject an event. It must not use a
clock or randomness: the same record must always become the same row. A float keeps what a double keeps, so money is a
Decimal.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, inspect

from ingestd.core.errors import ConfigError

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=256)]
Url = Annotated[str, Meta(max_length=8192)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

if TYPE_CHECKING:
    OriginText = str | None
    OriginInt = int | None
    OriginOffset = int | str | None
    OriginTime = datetime | None
else:
    # No JSON decodes to these classes, so the decoder refuses whatever a producer sends for such a field. Validation
    # sets it afterwards: the encoder goes by a value's runtime type and never looks at the annotation.
    class OriginText: ...

    class OriginInt: ...

    class OriginOffset: ...

    class OriginTime: ...


_NO_TAG = "\0"  # prefix of a type's tag if it has none of its own: msgspec would take the class name


def _no_tag(name: str) -> str:
    return _NO_TAG + name


class Event(
    msgspec.Struct,
    gc=False,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="event_type",
    tag=_no_tag,
    kw_only=True,
):
    """The fields of every event. Strings have at most 256 characters unless stated; rows omit None."""

    default_category: ClassVar[str | None] = None  # of a type, for events without event_category
    default_channel: ClassVar[str | None] = None  # of a type, for events without channel

    event_id: Id
    client_id: Id
    event_timestamp: datetime  # UTC in rows
    event_category: Text | None = None
    page_url: Url | None = None  # at most 8192 characters
    session_id: Text | None = None
    channel: Text | None = None
    device_type: Text | None = None
    campaign_id: Text | None = None
    duration_s: Int64 | None = None  # seconds
    consent: bool | None = None
    properties: dict[str, Any] | None = None  # everything else, unknown fields too
    source_topic: OriginText = None
    source_partition: OriginInt = None
    source_offset: OriginOffset = None  # text where offsets are longer than 64 bits
    source_message_id: OriginText = None  # of a queue's message, which has neither partition nor offset
    received_at: OriginTime = None  # the source's timestamp of the record


class WebVisit(Event, tag="web_visit"):
    """A visitor saw a page."""

    default_category = "web"
    default_channel = "web"


class EmailOpen(Event, tag="email_open"):
    """A recipient opened an e-mail."""

    default_category = "email"
    default_channel = "email"


class EmailClick(Event, tag="email_click"):
    """A recipient followed a link in an e-mail."""

    default_category = "email"
    default_channel = "email"


class AdvisorCall(Event, tag="advisor_call"):
    """A client and an advisor talked on the phone."""

    default_category = "advisor"
    default_channel = "phone"


class GenericEvent(Event, tag=False):
    """An event whose type the model does not know, but whose fields satisfy ``Event``."""

    event_type: Id


class _NoEvent(Event):
    """Never decoded: its only required field is always refused."""

    never: OriginText


ORIGIN_FIELDS = ("source_topic", "source_partition", "source_offset", "source_message_id", "received_at")
_FIXED_FIELDS = (*ORIGIN_FIELDS, "event_timestamp", "properties")  # validation relies on their names and types


class Model(msgspec.Struct, frozen=True):
    """A checked event model: its types by tag, and the fields that validation must check itself."""

    types: Mapping[str, type[Event]]
    timestamps: Mapping[type[Event], tuple[str, ...]]  # times, besides event_timestamp
    unbounded: Mapping[type[Event], tuple[str, ...]]  # values of any size or depth, besides properties
    any_json: bool = False  # there are no types: every JSON object is a row

    @property
    def union(self) -> Any:
        """The type for a decoder."""
        return union_of(self.types.values())


def union_of(kinds: Iterable[type[Event]]) -> Any:
    """The type for a decoder of these types."""
    # msgspec demands a tag only in a union: with a second type `event_type` is always required.
    union: Any = _NoEvent
    for kind in kinds:
        union |= kind
    return union


ANY_JSON = Model({}, {}, {}, any_json=True)


def load_model(path: str | None) -> Model:
    """The model at `path` ("module:Name", an ``Event`` type or a union of such), ingestd's own for None, or `ANY_JSON`.

    Raises ``ConfigError``, also for whatever importing the module raises.
    """
    if path == "json":
        return ANY_JSON
    if path is None:
        return make_model(WebVisit, EmailOpen, EmailClick, AdvisorCall)
    try:
        return make_model(*_members(_import(path)))
    except ConfigError as error:
        raise ConfigError(f'events.model = "{path}": {error.args[0]}', hint=error.hint) from error


def make_model(*kinds: object) -> Model:
    """A model of these types. Raises ``ConfigError``, which names the type and the field."""
    types: dict[str, type[Event]] = {}
    for kind in kinds:
        checked = _check_type(kind)
        tag = str(checked.__struct_config__.tag)
        if tag in types:
            raise ConfigError(f'{types[tag].__name__} and {checked.__name__} have the same tag "{tag}"')
        types[tag] = checked
    timestamps: dict[type[Event], tuple[str, ...]] = {}
    unbounded: dict[type[Event], tuple[str, ...]] = {}
    every: list[type[Event]] = [*types.values(), GenericEvent]
    for event in every:
        fields = [field for field in _fields(event) if field.name not in _FIXED_FIELDS]
        timestamps[event] = tuple(field.name for field in fields if _is_time(field.type))
        unbounded[event] = tuple(field.name for field in fields if not _is_bounded(field.type))
    return Model(types, timestamps, unbounded)


def _import(path: str) -> object:
    module, separator, name = path.partition(":")
    if not (module and separator and name):
        raise ConfigError("expected module:Name", hint="for example my_events:CardPayment")
    try:
        found: object = importlib.import_module(module)
    except ModuleNotFoundError as error:
        hint = "put the folder that holds it on PYTHONPATH, or install its package"
        raise ConfigError(f"there is no module {error.name}", hint=hint) from error
    except Exception as error:
        raise ConfigError(f"importing {module} failed: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"module {module} has no {name}")
        found = getattr(found, part)
    return found


def _members(found: object) -> tuple[object, ...]:
    found = getattr(found, "__value__", found)  # type X = A | B, from Python 3.12 on
    return get_args(found) if get_origin(found) in (Union, UnionType) else (found,)


def _fields(kind: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    return cast(inspect.StructType, inspect.type_info(kind)).fields


def _check_type(kind: object) -> type[Event]:
    """`kind`, if each of its events becomes a valid row without losing a value. Raises ``ConfigError``."""
    name = getattr(kind, "__name__", str(kind))
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise ConfigError(f"{name} is not a msgspec.Struct", hint="class CardPayment(ingestd.events.Event, tag=...)")
    if not issubclass(kind, Event):
        raise ConfigError(f"{name} does not inherit from ingestd.events.Event")
    config = kind.__struct_config__
    if config.tag is None or (isinstance(config.tag, str) and config.tag.startswith(_NO_TAG)):
        raise ConfigError(f"{name} has no tag", hint=f'class {name}(Event, tag="the event_type it stands for")')
    if not isinstance(config.tag, str) or config.tag_field != "event_type":
        raise ConfigError(f"{name} is tagged {config.tag!r} in {config.tag_field}: it must be text, in event_type")
    if config.frozen or config.array_like:
        raise ConfigError(f"{name} is frozen or array_like: it must be neither")
    try:
        fields = {field.name: field for field in _fields(kind)}
    except Exception as error:
        raise ConfigError(f"{name} cannot be decoded: {error}") from error
    for base in _fields(Event):
        field = fields[base.name]
        same = field.encode_name == base.name and (field.required or not base.required)
        if base.name in _FIXED_FIELDS:
            same = same and (field.type, field.required) == (base.type, base.required)
        if not same:
            raise ConfigError(f"{name}.{base.name} differs from Event's", hint="keep its name and type")
    _check_struct(kind, {field.name: field for name, field in fields.items() if name not in ORIGIN_FIELDS}, set())
    return kind


def _check_struct(kind: type[msgspec.Struct], fields: Mapping[str, inspect.Field], seen: set[type]) -> None:
    """Refuse types that would lose a value, or let a row depend on anything but its record."""
    seen.add(kind)
    if not kind.__struct_config__.forbid_unknown_fields:
        raise ConfigError(f"{kind.__name__} would lose unknown fields", hint="give it forbid_unknown_fields=True")
    for field in fields.values():
        where = f"{kind.__name__}.{field.name}"
        # A row leaves a default out, so any other would turn a producer's value into NULL; a factory may use a clock.
        if field.default not in (None, msgspec.NODEFAULT) or field.default_factory is not msgspec.NODEFAULT:
            raise ConfigError(f"{where} has a default", hint="the only default is None")
        for part in _parts(field.type):
            if isinstance(part, inspect.StructType):
                if part.cls not in seen:
                    _check_struct(part.cls, {inner.name: inner for inner in part.fields}, seen)
            elif not isinstance(part, _SUPPORTED):
                hint = "numbers, text, times, lists, dicts, enums and msgspec Structs are"
                raise ConfigError(f"{where}: {type(part).__name__.removesuffix('Type')} is not supported", hint=hint)
            elif isinstance(part, inspect.DictType) and not _is_safe_key(part.key_type):
                hint = "give text, or int within limits: Annotated[int, Meta(ge=0, le=366)]"
                raise ConfigError(f"{where}: a dict with such keys is not supported", hint=hint)


def _is_safe_key(kind: inspect.Type) -> bool:
    """Whether keys are unique in a row (NaN is not) and cannot be chosen to share one hash."""
    return _is_bounded(kind) and not any(isinstance(part, inspect.FloatType) for part in _parts(kind))


_SCALARS = (
    inspect.NoneType, inspect.BoolType, inspect.StrType, inspect.FloatType, inspect.DateTimeType, inspect.DateType,
    inspect.TimeType, inspect.TimeDeltaType, inspect.UUIDType, inspect.BytesType, inspect.EnumType, inspect.LiteralType,
)  # fmt: skip
# Not sets, whose order differs from run to run; not dataclasses and TypedDicts, which drop unknown keys silently.
_SUPPORTED = (
    *_SCALARS, inspect.IntType, inspect.DecimalType, inspect.AnyType, inspect.ListType, inspect.VarTupleType,
    inspect.TupleType, inspect.DictType, inspect.UnionType, inspect.Metadata,
)  # fmt: skip


def _parts(kind: inspect.Type) -> Iterator[inspect.Type]:
    """`kind` and every type in it, without the fields of Structs."""
    yield kind
    match kind:
        case inspect.ListType() | inspect.VarTupleType():
            yield from _parts(kind.item_type)
        case inspect.TupleType():
            for item in kind.item_types:
                yield from _parts(item)
        case inspect.DictType():
            yield from _parts(kind.key_type)
            yield from _parts(kind.value_type)
        case inspect.UnionType():
            for member in kind.types:
                yield from _parts(member)
        case inspect.Metadata():
            yield from _parts(kind.type)


def _is_time(kind: inspect.Type) -> bool:
    wrappers = (inspect.UnionType, inspect.Metadata, inspect.NoneType)
    return all(isinstance(part, (inspect.DateTimeType, *wrappers)) for part in _parts(kind))


def _is_bounded(kind: inspect.Type) -> bool:
    """Whether no value of this type can be out of a double's range or too deep."""
    for part in _parts(kind):
        if isinstance(part, inspect.IntType):
            if (part.ge is None and part.gt is None) or (part.le is None and part.lt is None):
                return False
        elif not isinstance(part, (*_SCALARS, inspect.UnionType, inspect.Metadata)):
            return False
    return True
