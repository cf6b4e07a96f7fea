"""Loads the configuration: defaults < TOML file < environment < flags, with the origin of each value.

Values are merged as plain data and converted once, so that a key is read alike wherever it is set.
"""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ingestd.config.model import Config
from ingestd.config.types import Seconds, Secret, Size
from ingestd.config.validate import KEYS, MOVED_KEYS, Problem, check, refusal, shown, value_of, variable
from ingestd.core.aws_region import region_variable
from ingestd.core.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
_FILE_HINT = "correct it; `ingestd config --example` prints a valid file"
_TABLES = {key.rpartition(".")[0] for key in KEYS} - {""}


class Settings(NamedTuple):
    """A checked configuration, and the origin of every dotted key.

    An origin is "default", a file's path, "environment", the name of an AWS variable, or a flag.
    """

    config: Config
    origins: Mapping[str, str]


class Flag(NamedTuple):
    """A key set on the command line; `option` is the flag: "--set", "--duration"."""

    option: str
    key: str
    text: str


class _Given(NamedTuple):
    value: object
    origin: str


def load(*, path: str | None = None, environ: Mapping[str, str], flags: Sequence[Flag] = ()) -> Settings:
    """The effective settings. The file is `path`, else INGESTD_CONFIG, else none. Raises ConfigError."""
    given: dict[str, _Given] = {}
    if name := region_variable(environ):
        given["s3.region"] = _Given(_utf8(name, environ[name]), name)
    if file := path or environ.get("INGESTD_CONFIG"):
        given.update(_from_file(file))
    given.update(_from_environment(environ))
    given.update(_from_flags(flags))
    config = _convert(given)
    origins = {key: given[key].origin if key in given else "default" for key in KEYS}
    check(config, origins)
    return Settings(config, origins)


def _from_file(path: str) -> Iterator[tuple[str, _Given]]:
    try:
        with Path(path).open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(
                f"the configuration file {path} is larger than {Size(MAX_FILE_BYTES)}", hint="give a smaller file"
            )
        table = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}",
            hint="give a readable file in --config or INGESTD_CONFIG",
        ) from None
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not TOML in UTF-8"
        raise ConfigError(f"the configuration file {path} is not valid: {why}", hint=_FILE_HINT) from None
    for key, value in _flatten(table, "", path):
        yield key, _Given(value, path)


def _flatten(table: Mapping[str, object], prefix: str, path: str) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = prefix + name
        if key in _TABLES and isinstance(value, dict):
            yield from _flatten(value, f"{key}.", path)
        elif key in KEYS and "." not in name:
            yield key, value.isoformat() if isinstance(value, datetime | date | time) else value
        else:
            raise _unknown(key, path)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    known, moved = {variable(key): key for key in KEYS}, {variable(key): key for key in MOVED_KEYS}
    for name, text in environ.items():
        if name in known:
            yield known[name], _Given(_utf8(name, text), "environment")
        elif name.startswith("INGESTD__"):
            if name in moved:
                raise _moved(moved[name], f"environment variable {name}", variable(MOVED_KEYS[moved[name]]))
            raise ConfigError(f"environment variable {name} matches no key", hint=_nearest(name.upper(), known))


def _from_flags(flags: Iterable[Flag]) -> Iterator[tuple[str, _Given]]:
    for option, key, text in flags:
        if key not in KEYS:
            raise _unknown(key, option)
        if KEYS[key].is_secret:
            raise ConfigError(
                f"{key} cannot be given by {option}: every user of the machine can read a command line",
                hint=f"use {variable(key)}" + (f" or {key}_file" if f"{key}_file" in KEYS else ""),
            )
        yield key, _Given(_utf8(option, text), option)


def _utf8(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"the value of {name} is not UTF-8 text", hint="give UTF-8 text") from None
    return text


def _unknown(key: str, origin: str) -> ConfigError:
    if key in _TABLES:
        names = ", ".join(name for name in KEYS if name.startswith(f"{key}."))
        return ConfigError(f"{key} from {origin} is a table, not a key", hint=f"its keys are {names}")
    if key in MOVED_KEYS:
        return _moved(key, origin, MOVED_KEYS[key])
    return ConfigError(f"unknown key {key} from {origin}", hint=_nearest(key, KEYS))


def _moved(key: str, origin: str, new: str) -> ConfigError:
    return ConfigError(f"{key} from {origin} is now {MOVED_KEYS[key]}", hint=f"set {new} instead")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else "`ingestd config` lists every key"


def _convert(given: Mapping[str, _Given]) -> Config:
    """Convert the merged values. Raises ConfigError with key, value, origin and the accepted values."""
    tree: dict[str, Any] = {}
    for key, (value, _) in given.items():
        *tables, name = key.split(".")
        table = tree
        for step in tables:
            table = table.setdefault(step, {})
        table[name] = _plain(key, value)
    try:
        return msgspec.convert(tree, Config, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        key = _key_of(str(error))
        problem = Problem(key, "is not accepted", f"give {KEYS[key].accepted()}")
        # Not chained: the cause would quote a secret.
        raise refusal(problem, *given[key]) from None


def _plain(key: str, value: object) -> object:
    """`value` with text read by its key's type: "" is None, commas separate a list, words match in any case."""
    if not isinstance(value, str):
        return value
    if KEYS[key].is_list:
        return [item.strip() for item in value.split(",") if item.strip()]
    words = {word.casefold(): word for word in KEYS[key].choices}
    return words.get(value.casefold(), value) if value or not KEYS[key].optional else None


def _key_of(message: str) -> str:
    """The dotted key in msgspec's ``… - at `$.batch.interval` ``; an index in a list is dropped."""
    path = message.rpartition(" - at `$.")[2].rstrip("`")
    return path.partition("[")[0]


def _decode(kind: type, value: object) -> object:
    if kind is not Secret:
        return {Seconds: Seconds.parse, Size: Size.parse}[kind](str(value))
    if not isinstance(value, str):
        raise TypeError("not text")
    return Secret(value)


def as_toml(settings: Settings) -> str:
    """The effective configuration as a TOML file: each value with its origin as a comment, secrets redacted."""
    lines: list[str] = []
    current = ""
    for key, origin in settings.origins.items():
        table, _, name = key.rpartition(".")
        if table != current:
            lines += ["", f"[{table}]"]
            current = table
        value = _text_form(value_of(settings.config, key))
        text = f"# {name} is not set" if value is None else f"{name} = {_toml(value)}"
        lines.append(f"{text}  # {shown(origin)}")
    return "\n".join(lines) + "\n"


def as_json(settings: Settings) -> str:
    """``{"config": the effective tree, "origins": {dotted key: who set it}}``, indented, secrets redacted."""
    document = msgspec.json.encode({"config": _text_form(settings.config), "origins": settings.origins})
    return msgspec.json.format(document, indent=2).decode() + "\n"


def _text_form(value: object) -> object:
    """Plain values; durations, sizes and secrets in their text form."""
    return msgspec.to_builtins(value, enc_hook=str)


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        # JSON's string is TOML's, except for one control character that JSON does not escape.
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    return msgspec.json.encode(value).decode()
