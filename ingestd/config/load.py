"""Loads the configuration: defaults < TOML file < environment < flags, with the origin of each value.

Values are merged as plain data and converted once, so that a key is read alike wherever it is set.
"""

import difflib
import tomllib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from ingestd.config.keys import (
    KEYS,
    MOVED_KEYS,
    SOURCE_NAME,
    SOURCE_NAME_WORDS,
    SOURCES,
    Key,
    find_key,
    key_of,
    keys_of,
    names_of_source,
    source_key,
    source_variable,
    table_entry,
    value_of,
    variable,
)
from ingestd.config.model import CollectSource, Config
from ingestd.config.problem import Problem, refusal
from ingestd.config.toml_lines import DEEPEST, key_lines, syntax_problem
from ingestd.config.types import Rate, Seconds, Secret, Size
from ingestd.config.validate import problems, ranges
from ingestd.core.aws_region import region_variable
from ingestd.core.errors import ConfigError, ConfigErrors

T = TypeVar("T")

MAX_FILE_BYTES = 1 << 20
_FILE_HINT = "correct it; `ingestd config --example` prints a valid file"
_OTHER_VARIABLES = {"INGESTD_CONFIG", "INGESTD_TEST_KAFKA", "INGESTD_TEST_S3"}
_TABLES = {key.rpartition(".")[0] for key in KEYS} - {""} | {SOURCES}


class Settings(NamedTuple):
    """A checked configuration, and the origin of every dotted key.

    An origin is "default", a file's path, "environment", the name of an AWS variable, or a flag. `warnings`: what was
    given and has no effect.
    """

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()


class Flag(NamedTuple):
    """A key set on the command line; `option` is the flag: "--set", "--duration"."""

    option: str
    key: str
    text: str


class _Given(NamedTuple):
    value: object
    origin: str


def load(*, path: str | None = None, environ: Mapping[str, str], flags: Sequence[Flag] = ()) -> Settings:
    """The effective settings. The file is `path`, else INGESTD_CONFIG, else none.

    Raises ConfigError; ConfigErrors where there are several.
    """
    reader = _Reader()
    if name := region_variable(environ):
        reader.take("s3.region", _utf8(name, environ[name]), name)
    if file := path or environ.get("INGESTD_CONFIG"):
        reader.read_file(file)
    reader.read_environment(environ)
    reader.read_flags(flags)
    config = reader.convert()
    origins = {key: reader.given[key].origin if key in reader.given else "default" for key in keys_of(config)}
    reader.check(config)
    return Settings(config, origins, tuple(_ineffective(environ)))


class _Reader:
    """Merges values from their sources. Collects every error, so that one start shows them all."""

    def __init__(self) -> None:
        self.given: dict[str, _Given] = {}
        self._sources: dict[str, str] = {}  # of the collector, and the origin of each
        self._errors: list[ConfigError] = []
        self._file = ""
        self._text = ""
        self._lines: Mapping[str, int] | None = None  # of the file, once an error needs them

    def take(self, key: str, value: object, origin: str) -> None:
        self.given[key] = _Given(value, origin)
        if (place := source_key(key)) is not None:
            self._sources.setdefault(place.name, origin)

    def read_file(self, path: str) -> None:
        self._file, self._text = path, _read(path)
        try:
            table = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            why, line, column, excerpt = syntax_problem(self._text, str(error))
            message = f"the configuration file {path}:{line}:{column} is not valid: {why}"
            raise ConfigError(message, hint=_FILE_HINT, excerpt=excerpt) from None
        except (ValueError, RecursionError) as error:
            why = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
            raise ConfigError(f"the configuration file {path} is not valid: {why}", hint=_FILE_HINT) from None
        self._take_table(table, "")

    def _take_table(self, table: Mapping[str, object], prefix: str) -> None:
        for name, value in table.items():
            key = prefix + name
            if _is_table(key) and "." not in name and isinstance(value, dict):
                if (place := source_key(key)) is not None:
                    self._sources.setdefault(place.name, self._file)
                self._take_table(value, f"{key}.")
            elif (known := find_key(key)) is not None and known.is_table and isinstance(value, dict):
                self._take_entries(key, value)
            elif known is not None and "." not in name:
                self.take(key, value.isoformat() if isinstance(value, datetime | date | time) else value, self._file)
            else:
                self._errors.append(_unknown(key, self._where(key, self._file)))

    def _take_entries(self, key: str, table: Mapping[str, object]) -> None:
        """Take a table of values. In an inner table, names follow that of the table: user.id = "client_id"."""
        entries: dict[str, object] = {}
        for name, value in _leaves(table):
            if name in entries:
                message = f"{key} from {self._where(key, self._file)} has {name} twice"
                self._errors.append(ConfigError(message, hint="remove one of them"))
            entries[name] = value
        self.take(key, entries, self._file)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        known, moved = {variable(key): key for key in KEYS}, {variable(key): key for key in MOVED_KEYS}
        for name, text in environ.items():
            with self._collecting():
                if (key := known.get(name) or source_variable(name)) is not None and find_key(key):
                    self.take(key, _utf8(name, text), "environment")
                elif name in moved:
                    raise _moved(moved[name], f"environment variable {name}", variable(MOVED_KEYS[moved[name]]))
                elif name.startswith("INGESTD__"):
                    raise ConfigError(f"environment variable {name} matches no key", hint=_near_variable(name.upper()))

    def read_flags(self, flags: Iterable[Flag]) -> None:
        for option, key, text in flags:
            with self._collecting():
                if (entry := table_entry(key)) is not None:
                    self._add_entry(*entry, _utf8(option, text), option)
                    continue
                if (known := find_key(key)) is None:
                    raise _unknown(key, option)
                if known.is_secret:
                    raise ConfigError(
                        f"{key} cannot be given by {option}: every user of the machine can read a command line",
                        hint=f"use {variable(key)}" + (f" or {key}_file" if f"{key}_file" in KEYS else ""),
                    )
                self.take(key, _utf8(option, text), option)

    def _add_entry(self, key: str, name: str, text: str, option: str) -> None:
        """Add to the table that was given before; one that is not accepted stays as it is, and is refused later."""
        table = _plain(key_of(key), self.given[key].value) if key in self.given else {}
        if isinstance(table, dict):
            self.take(key, {**table, name: text}, option)

    def convert(self) -> Config:
        """Convert the merged values. One that is not accepted is an error, and its default is used to find others."""
        config = self._convert({key: it for key, it in self.given.items() if source_key(key) is None}, Config)
        sources = {name: self._convert_source(name, origin) for name, origin in self._sources.items()}
        collect = replace(config.collect, sources={name: it for name, it in sources.items() if it is not None})
        return replace(config, collect=collect)

    def _convert_source(self, name: str, origin: str) -> CollectSource | None:
        """A source of the collector; None where its kind is not known."""
        prefix, kind = f"{SOURCES}.{name}.", f"{SOURCES}.{name}.kind"
        given = {key.removeprefix(prefix): it for key, it in self.given.items() if key.startswith(prefix)}
        remedy = f"give {key_of(kind).accepted()}"
        if "kind" not in given:
            where = self._where(prefix.rstrip("."), origin)
            self._errors.append(ConfigError(f"{kind} is not set, but the source in {where} needs it", hint=remedy))
            return None
        if _plain(key_of(kind), given["kind"].value) not in key_of(kind).choices:
            self._refuse(Problem(kind, "is not accepted", remedy), given["kind"].value)
            return None
        return self._convert(given, CollectSource, prefix)

    def _convert(self, given: dict[str, _Given], kind: type[T], prefix: str = "") -> T:
        while True:
            try:
                return msgspec.convert(_tree(given, prefix), kind, strict=False, dec_hook=_decode)
            except msgspec.ValidationError as error:
                name = _key_of(str(error))
            # Not chained: the cause would quote a secret.
            problem = Problem(prefix + name, "is not accepted", f"give {key_of(prefix + name).accepted()}")
            self._refuse(problem, given.pop(name).value)

    def check(self, config: Config) -> None:
        """Raise what was found, and what is out of range; what conflicts only where each value is accepted."""
        refused = set()
        for problem in ranges(config) if self._errors else problems(config):
            if problem.key not in refused:
                self._refuse(problem, value_of(config, problem.key))
                refused.add(problem.key)
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise ConfigErrors(self._errors)

    def _refuse(self, problem: Problem, value: object) -> None:
        origin = self.given[problem.key].origin if problem.key in self.given else "default"
        self._errors.append(refusal(problem, value, self._where(problem.key, origin)))

    def _where(self, key: str, origin: str) -> str:
        """The origin, with the line of the key where that is the file."""
        if origin != self._file:
            return origin
        if self._lines is None:
            self._lines = key_lines(self._text)
        return f"{origin}:{self._lines[key]}" if key in self._lines else origin

    @contextmanager
    def _collecting(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self._errors.append(error)


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}",
            hint="give a readable file in --config or INGESTD_CONFIG",
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(
            f"the configuration file {path} is larger than {Size(MAX_FILE_BYTES)}", hint="give a smaller file"
        )
    try:
        return data.decode("utf-8-sig")  # editors on Windows put a mark in front
    except UnicodeDecodeError:
        why = "it is UTF-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "it is not TOML in UTF-8"
        raise ConfigError(f"the configuration file {path} is not valid: {why}", hint="save it as UTF-8") from None


def _ineffective(environ: Mapping[str, str]) -> Iterator[str]:
    """Tells of each variable that looks like a key of ingestd and is none: INGESTD_BATCH_INTERVAL."""
    by_letters = {variable(key).replace("_", ""): variable(key) for key in KEYS}
    # Kubernetes sets variables for each Service, with names that begin with the Service's.
    services = [name.removesuffix("SERVICE_HOST") for name in environ if name.endswith("_SERVICE_HOST")]
    of_services = tuple(f"{service}{end}" for service in services for end in ("SERVICE_", "PORT_", "PORT"))
    for name in environ:
        if (
            name.upper().startswith("INGESTD_")
            and not name.startswith("INGESTD__")
            and name not in _OTHER_VARIABLES
            and not name.startswith(of_services)
        ):
            meant = by_letters.get(name.upper().replace("_", ""))
            hint = f"did you mean {meant}?" if meant else _nearest(name.upper(), by_letters.values())
            yield f"environment variable {name} has no effect: it matches no key ({hint})"


def _utf8(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"the value of {name} is not UTF-8 text", hint="give UTF-8 text") from None
    return text


def _is_table(key: str) -> bool:
    place = source_key(key)
    return key in _TABLES if place is None else not place.key and SOURCE_NAME.match(place.name) is not None


def _unknown(key: str, origin: str) -> ConfigError:
    place = source_key(key)
    if place is not None and not SOURCE_NAME.match(place.name):
        return ConfigError(
            f"{SOURCES}.{place.name} from {origin} is not accepted as the name of a source",
            hint=f"give {SOURCE_NAME_WORDS}",
        )
    known = list(KEYS) if place is None else names_of_source(place.name)
    if _is_table(key):
        names = ", ".join(name for name in known if name.startswith(f"{key}.")) or f"{SOURCES}.NAME.kind and others"
        return ConfigError(f"{key} from {origin} is a table, not a key", hint=f"its keys are {names}")
    if key in MOVED_KEYS:
        return _moved(key, origin, MOVED_KEYS[key])
    return ConfigError(f"unknown key {key} from {origin}", hint=_nearest(key, known))


def _moved(key: str, origin: str, new: str) -> ConfigError:
    return ConfigError(f"{key} from {origin} is now {MOVED_KEYS[key]}", hint=f"set {new} instead")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else "`ingestd config` lists every key"


def _near_variable(name: str) -> str:
    """Which variable may be meant by one that begins like ours."""
    key = source_key(source_variable(name) or "")
    more = names_of_source(key.name) if key is not None and SOURCE_NAME.match(key.name) else []
    return _nearest(name, map(variable, more or KEYS))


def _tree(given: Mapping[str, _Given], prefix: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, (value, _) in given.items():
        *tables, name = key.split(".")
        table = tree
        for step in tables:
            table = table.setdefault(step, {})
        table[name] = _plain(key_of(prefix + key), value)
    return tree


def _leaves(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The values of a table by their dotted names; None for a table that is too deep."""
    for name, value in table.items():
        if not isinstance(value, dict):
            yield prefix + name, value
        elif prefix.count(".") < DEEPEST:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, None


def _plain(key: Key, value: object) -> object:
    """`value` with text read by its key's type: "" is None, commas separate a list, words match in any case."""
    if not isinstance(value, str):
        return value
    if key.is_table:
        entries = [item.rpartition("=") for item in value.split(",") if item.strip()]
        table = {name.strip(): inner.strip() for name, _, inner in entries}
        return table if len(table) == len(entries) and all(equals for _, equals, _ in entries) else value
    if key.is_list:
        return [item.strip() for item in value.split(",") if item.strip()]
    words = {word.casefold(): word for word in key.choices}
    return words.get(value.casefold(), value) if value or not key.optional else None


def _key_of(message: str) -> str:
    """The dotted key in msgspec's ``… - at `$.batch.interval` ``; an index in a list is dropped."""
    path = message.rpartition(" - at `$.")[2].rstrip("`")
    return path.partition("[")[0]


def _decode(kind: type, value: object) -> object:
    if kind is not Secret:
        return {Rate: Rate.parse, Seconds: Seconds.parse, Size: Size.parse}[kind](str(value))
    if not isinstance(value, str):
        raise TypeError("not text")
    return Secret(value)
