"""The keys of the configuration by their dotted names: their types, ranges and values in words. Pure."""

import re
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

from msgspec import inspect

from ingestd.config.model import CollectSource, Config
from ingestd.config.types import Rate, Seconds, Secret, Size


class Key(NamedTuple):
    """One key: its type without wrappers, its range and its description."""

    type: inspect.Type
    optional: bool
    low: str = ""
    high: str = ""
    words: str = ""

    @property
    def is_secret(self) -> bool:
        return isinstance(self.type, inspect.CustomType) and self.type.cls is Secret

    @property
    def is_list(self) -> bool:
        return isinstance(self.type, inspect.VarTupleType)

    @property
    def is_table(self) -> bool:
        """Whether the value is a table, whose names are not keys."""
        return isinstance(self.type, inspect.DictType)

    @property
    def choices(self) -> tuple[str, ...]:
        """The accepted words; empty if the values are not listed."""
        return tuple(map(str, self.type.values)) if isinstance(self.type, inspect.LiteralType) else ()

    def accepted(self) -> str:
        """The accepted values; follows "give"."""
        words = self.words or _words(self.type)
        if self.low:
            words += f" from {self.low} to {self.high}"
        return f"{words}, or nothing" if self.optional else words


def _key(kind: inspect.Type) -> Key:
    optional = False
    if isinstance(kind, inspect.UnionType):
        kind = next(option for option in kind.types if not isinstance(option, inspect.NoneType))
        optional = True
    if not isinstance(kind, inspect.Metadata):
        return Key(kind, optional)
    extra = kind.extra or {}
    words = (kind.extra_json_schema or {}).get("description", "")
    return Key(kind.type, optional, extra.get("low", ""), extra.get("high", ""), words)


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            words = "true or false"
        case inspect.IntType():
            words = f"a whole number from {kind.ge} to {kind.le}"
        case inspect.FloatType():
            words = f"a number from {kind.ge:g} to {kind.le:g}"
        case inspect.LiteralType():
            words = "one of " + ", ".join(str(value) for value in kind.values)
        case inspect.CustomType(cls):
            words = _CUSTOM_WORDS[cls]
        case inspect.VarTupleType():
            words = f"a list of {kind.min_length} to {kind.max_length}, each {_key(kind.item_type).accepted()}"
        case inspect.StrType():
            words = f"text of {kind.min_length} to {kind.max_length} characters"
        case _:
            raise TypeError(kind)
    return words


_CUSTOM_WORDS = {
    Seconds: "a duration such as 250ms, 30s, 5m, 2h or 90d",
    Rate: "a rate such as 600/min, 10/s or 36000/h",
    Size: "a size such as 512KiB, 32MiB or 1GiB",
    Secret: "text",
}


def _walk(kind: inspect.Type, name: str = "") -> Iterator[tuple[str, Key]]:
    if not isinstance(kind, inspect.StructType):
        yield name, _key(kind)
        return
    for field in kind.fields:
        if not isinstance(field.type, inspect.DictType):
            yield from _walk(field.type, f"{name}.{field.name}" if name else field.name)


KEYS: Mapping[str, Key] = dict(_walk(inspect.type_info(Config)))
"""Every key by its dotted name, in the order of `model.py`. The keys of the collector's sources follow `SOURCES`."""

_VALUE_TABLES = [name for name, key in KEYS.items() if key.is_table]

SOURCES = "collect.sources"
"""The table that has a table for each source of the collector: `collect.sources.NAME.KEY`."""

SOURCE_KEYS: Mapping[str, Key] = dict(_walk(inspect.type_info(CollectSource)))
"""The keys of one source of the collector."""

SOURCE_NAME = re.compile(r"(?=.{1,64}\Z)[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")
SOURCE_NAME_WORDS = "at most 64 lower-case letters, digits and single '_', of which the first is a letter"

_VARIABLES = "INGESTD__COLLECT__SOURCES__"


class SourceKey(NamedTuple):
    """A key of a source of the collector; `key` may be one that does not exist, "" for the table itself."""

    name: str
    key: str


def source_key(key: str) -> SourceKey | None:
    """The parts of ``collect.sources.NAME.KEY``; None for any other key."""
    head, dot, rest = key.partition(f"{SOURCES}.")
    if head or not dot:
        return None
    name, _, inner = rest.partition(".")
    return SourceKey(name, inner)


def table_entry(key: str) -> tuple[str, str] | None:
    """The key of a table and a name in it, of ``events.rename.NAME``; None for any other key."""
    return next(((it, key.removeprefix(f"{it}.")) for it in _VALUE_TABLES if key.startswith(f"{it}.")), None)


def names_of_source(name: str) -> list[str]:
    """The dotted keys of the source `name`."""
    return [f"{SOURCES}.{name}.{key}" for key in SOURCE_KEYS]


def find_key(name: str) -> Key | None:
    """The key of a dotted name; None where there is no such key."""
    if (place := source_key(name)) is not None:
        return SOURCE_KEYS.get(place.key) if SOURCE_NAME.match(place.name) else None
    return KEYS.get(name)


def key_of(name: str) -> Key:
    """The key of a dotted name that exists, or of the table of all sources."""
    return find_key(name) or Key(inspect.StrType(), optional=True, words=f"tables [{SOURCES}.NAME]")


def keys_of(config: Config) -> dict[str, Key]:
    """The keys that `config` has, in the order of `model.py`: also those of its sources."""
    found: dict[str, Key] = {}
    last = [name for name in KEYS if name.startswith("collect.")][-1]
    for name, key in KEYS.items():
        found[name] = key
        if name == last:
            for source in config.collect.sources:
                found |= zip(names_of_source(source), SOURCE_KEYS.values(), strict=True)
    return found


MOVED_KEYS: Mapping[str, str] = {"kafka.progress_timeout": "health.progress_timeout"}
"""Keys of earlier versions, and the key that has replaced each."""


def value_of(config: Config, key: str) -> object:
    """The value at a dotted key; None for a source that `config` does not have."""
    if (place := source_key(key)) is not None:
        return getattr(config.collect.sources.get(place.name), place.key, None)
    return attrgetter(key)(config)


def shown(value: object) -> str:
    """A value for people: without secrets, a URL's user and query; at most 200 characters."""
    match value:
        case Rate() | Seconds() | Size() | Secret():
            return str(value)
        case bool():
            return str(value).lower()
        case tuple() | list():
            text = ",".join(map(str, value))
        case dict():
            text = ",".join(f"{name}={inner}" for name, inner in value.items())
        case _:
            text = str(value)
    # To the last "@": a password may have one, or a "/".
    text = re.sub(r"//\S*@", "//<redacted>@", text)
    text = re.sub(r"[^\s/:]*:(?!//)\S*@", "<redacted>@", text)
    text = re.sub(r"(://[^\s?]*)\?\S*", r"\1?<redacted>", text)
    quoted = repr(text) if not text or not text.isprintable() or " " in text else text
    return quoted if len(quoted) <= 200 else quoted[:200] + "…"


def variable(key: str) -> str:
    """The environment variable that sets `key`."""
    return "INGESTD__" + key.replace(".", "__").upper()


def source_variable(name: str) -> str | None:
    """The key, which may not exist, that an environment variable of a source of the collector sets."""
    source, _, inner = name.removeprefix(_VARIABLES).partition("__")
    is_one = name.startswith(_VARIABLES) and inner and name == name.upper()
    return f"{SOURCES}.{source}.{inner.replace('__', '.')}".lower() if is_one else None
