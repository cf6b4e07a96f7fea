"""Reads the mapping file of a webhook: how its sender proves itself, and where its events' fields are."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ingestd.collect.hooks.json_paths import Path as JsonPath
from ingestd.collect.hooks.json_paths import parse_path
from ingestd.collect.hooks.signatures import HmacScheme, signed_parts
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError

MAX_FILE_BYTES = 256 << 10
#: The columns that a mapping may fill.
COLUMNS = (
    "event_type", "event_id", "client_id", "timestamp", "page_url", "session_id", "channel", "device_type",
    "campaign_id", "duration_s", "consent", "event_category",
)  # fmt: skip
#: Parts of an event that are no columns: what the collector makes of them is in docs/collect/webhooks.md.
PARTS = ("email", "ip", "user_agent")
_NAMED_TIMES = ("iso", "seconds", "milliseconds", "dotnet")
_HEADER = re.compile(r"[a-z0-9-]{1,64}")
_WEBHOOK_ONLY = ("verify", "events")

Name = Annotated[str, Meta(min_length=1, max_length=256)]
_WORD_MAX = 256  # characters


class Verify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the sender proves itself."""

    scheme: Literal["standard", "hmac", "basic", "key"]
    header: str = ""  # hmac, key
    parameter: str = ""  # key: of the query, instead of a header
    prefix: str = ""
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    signed: Name = "{body}"
    timestamp_header: str = ""
    timestamp_unit: Literal["seconds", "milliseconds"] = "seconds"
    id_header: str = ""
    window: Name = "5m"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    verify: Verify | None = None
    events: str | None = None
    # Values of any type: msgspec's errors do not name the key of a dict. They are checked below.
    fields: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    event_types: dict[str, Any] = {}
    timestamp: Name = "iso"
    duration: Literal["s", "ms", "min"] = "s"


class HookMapping(msgspec.Struct, frozen=True):
    """A checked mapping. Of several paths the first that leads to a value counts; those of event_id are joined."""

    verify: Verify | None = None
    events: JsonPath | None = None  # where the events are in the body; None: it is one event, or an array of them
    fields: Mapping[str, tuple[JsonPath, ...]] = {}
    constants: Mapping[str, str | int | bool] = {}
    event_types: Mapping[str, str] = {}
    timestamp: str = "iso"
    duration: str = "s"


def hmac_scheme(verify: Verify) -> HmacScheme:
    """The scheme of ``[verify]`` with ``scheme = "hmac"``."""
    return HmacScheme(
        header=verify.header.lower(),
        algorithm=verify.algorithm,
        encoding=verify.encoding,
        prefix=verify.prefix,
        signed=verify.signed,
        timestamp_header=verify.timestamp_header.lower(),
        timestamp_ms=verify.timestamp_unit == "milliseconds",
        id_header=verify.id_header.lower(),
        window_ms=round(Seconds.parse(verify.window) * 1000),
    )


def load_mapping(file: str, kind: str) -> HookMapping:
    """The mapping in `file` for a source of this kind. ConfigError names the file, the key and the value."""
    try:
        with Path(file).open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"the mapping file {file} cannot be read: {reason}", hint="give a readable file") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"the mapping file {file} has more than {MAX_FILE_BYTES >> 10}KiB", hint="shorten it")
    try:
        content = tomllib.loads(data.decode())
    except ValueError as error:
        raise ConfigError(f"the mapping file {file} is not TOML: {error}", hint="correct it") from None
    try:
        return _checked(msgspec.convert(content, _File), kind)
    except msgspec.ValidationError as error:
        raise _refused(file, content, str(error)) from None
    except _BadValueError as error:
        raise ConfigError(
            f"{error.key} = {error.value!r} in the mapping file {file} {error}", hint=error.hint
        ) from None


class _BadValueError(Exception):
    def __init__(self, key: str, value: object, why: str, hint: str) -> None:
        super().__init__(why)
        self.key, self.value, self.hint = key, value, hint


def _checked(file: _File, kind: str) -> HookMapping:
    if kind == "webhook":
        if file.verify is None:
            raise _BadValueError(
                "verify", None, "is missing", 'add a table [verify] with scheme = "standard" or another'
            )
        _check_verify(file.verify)
        _check_complete(file)
    else:
        for key in _WEBHOOK_ONLY:
            if (value := getattr(file, key)) is not None:
                shown = value if isinstance(value, str) else "{…}"
                raise _BadValueError(key, shown, f"has no effect for kind = {kind}", "remove it, or use kind = webhook")
    fields = {name: _paths(name, paths) for name, paths in file.fields.items()}
    for name, value in file.constants.items():
        if name in ("event_id", "timestamp"):
            raise _BadValueError(f"constants.{name}", value, "cannot be equal in all events", f"use fields.{name}")
        if type(value) not in (str, int, bool) or len(str(value)) > _WORD_MAX:
            raise _BadValueError(f"constants.{name}", value, "is not accepted", "give text, an integer, true or false")
    for name, value in file.event_types.items():
        if type(value) is not str or not 1 <= len(value) <= _WORD_MAX:
            raise _BadValueError(f"event_types.{name}", value, "is not an event_type", "give text")
    if file.events is not None and not all(type(step) is str for step in _path("events", file.events)):
        raise _BadValueError("events", file.events, "may have names only", "give a path such as data.items")
    if file.timestamp not in _NAMED_TIMES and "%" not in file.timestamp:
        hint = f"give one of {', '.join(_NAMED_TIMES)}, or a pattern such as %d.%m.%Y %H:%M"
        raise _BadValueError("timestamp", file.timestamp, "is not a format of times", hint)
    return HookMapping(
        verify=file.verify,
        events=None if file.events is None else _path("events", file.events),
        fields=fields,
        constants=file.constants,
        event_types=file.event_types,
        timestamp=file.timestamp,
        duration=file.duration,
    )


def _check_verify(verify: Verify) -> None:
    names = ("header", "parameter", "timestamp_header", "id_header")
    for name in names:
        value = getattr(verify, name)
        if value and name != "parameter" and not _HEADER.fullmatch(value.lower()):
            raise _BadValueError(f"verify.{name}", value, "is not the name of a header", "use letters, digits and -")
    if verify.scheme == "hmac" and not verify.header:
        raise _BadValueError("verify.header", "", "is missing", "name the header that has the signature")
    if verify.scheme == "key" and bool(verify.header) == bool(verify.parameter):
        hint = "name the header or the parameter of the query that has the key"
        raise _BadValueError("verify.header", verify.header, "and verify.parameter: one of them is needed", hint)
    if verify.scheme == "hmac":
        parts = signed_parts(verify.signed)
        for part in ("timestamp", "id"):
            if (f"{{{part}}}" in parts) != bool(getattr(verify, f"{part}_header")):
                why = f"must have {{{part}}} if, and only if, verify.{part}_header is set"
                raise _BadValueError("verify.signed", verify.signed, why, "correct one of them")
        if "{body}" not in parts:
            raise _BadValueError("verify.signed", verify.signed, "lacks {body}", "a signature must cover the body")
    try:
        Seconds.parse(verify.window)
    except ValueError:
        raise _BadValueError("verify.window", verify.window, "is not a duration", "give 5m, 30s or 1h") from None


def _check_complete(file: _File) -> None:
    given = {*file.fields, *file.constants}
    if "event_type" not in given:
        hint = "add event_type to [fields] or [constants]"
        raise _BadValueError("fields.event_type", None, "is missing", hint)
    if not given & {"client_id", "email"}:
        hint = "add client_id, or email, whose hash becomes the client_id, to [fields]"
        raise _BadValueError("fields.client_id", None, "is missing", hint)


def _paths(name: str, value: Any) -> tuple[JsonPath, ...]:
    key, known = f"fields.{name}", (*COLUMNS, *PARTS)
    if name not in known:
        raise _BadValueError(key, value, "is not a field", _nearest(name, known))
    texts = [value] if type(value) is str else value
    if type(texts) is not list or not texts or not all(type(text) is str for text in texts):
        raise _BadValueError(key, value, "is not accepted", "give a path or a list of paths, such as person.id")
    return tuple(_path(key, text) for text in texts)


def _path(key: str, text: str) -> JsonPath:
    try:
        return parse_path(text)
    except ValueError as error:
        hint = 'a path is such as person.id, items[0].id, ["a.b"] or Attributes[key=subject].value'
        raise _BadValueError(key, text, str(error), hint) from None


def _refused(file: str, content: Any, text: str) -> ConfigError:
    """msgspec's error in our words: key and value in front."""
    why, _, place = text.partition(" - at `")
    steps = place.removesuffix("`").removeprefix("$").strip(".").split(".") if place else []
    steps = [step for step in steps if step and not step.startswith("[")]
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", why, re.DOTALL):
        known = [field.name for field in msgspec.structs.fields(Verify if steps else _File)]
        key = ".".join([*steps, unknown[1]])
        return ConfigError(f"unknown key {key} in the mapping file {file}", hint=_nearest(unknown[1], known))
    value: Any = content
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    key = ".".join(steps)
    return ConfigError(f"{key} = {value!r} in the mapping file {file} is not accepted: {why}", hint="correct it")


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
