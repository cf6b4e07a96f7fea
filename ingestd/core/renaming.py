"""Renames fields of events as ``events.rename`` says, before the event model sees them. Pure.

A path names a field of the producer's JSON: ``type``, or ``user.id`` for the field ``id`` of the object ``user``. A
backslash before a dot or a backslash makes it a part of the name.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from ingestd.core.errors import ConfigError
from ingestd.core.events import ORIGIN_FIELDS, Event, GenericEvent, Model

Path = tuple[str, ...]

PARTS_MAX = 20  # names in a path
NAME_MAX = 200  # characters

_NAME = re.compile(r"(?:[^.\\]|\\[.\\])+")
_PATH_WORDS = (
    f"names with dots between them, such as user.id: at most {PARTS_MAX}, of at most {NAME_MAX} characters, with "
    r"\. for a dot and \\ for a backslash within a name"
)
_ABSENT: Any = object()


class Renaming:
    """Moves values to the fields that ``events.rename`` names. The order of its lines does not matter."""

    def __init__(self, rename: Mapping[str, str]) -> None:
        self._moves = sorted((parse_path(text), field) for text, field in rename.items())

    def apply(self, data: dict[str, Any]) -> None:
        """Change a decoded event. A field that the event has already keeps its value, and the other stays in place."""
        for path, field in self._moves:
            if field not in data and (value := _pop(data, path)) is not _ABSENT:
                data[field] = value


def parse_path(text: str) -> Path:
    """The names in a path. Raises ``ValueError``."""
    if not re.fullmatch(rf"{_NAME.pattern}(?:\.{_NAME.pattern})*", text, re.DOTALL):
        raise ValueError(text)
    path = tuple(re.sub(r"\\(.)", r"\1", name) for name in _NAME.findall(text))
    if len(path) > PARTS_MAX or max(map(len, path)) > NAME_MAX:
        raise ValueError(text)
    return path


def path_text(path: Path) -> str:
    """The text of a path."""
    return ".".join(re.sub(r"([.\\])", r"\\\1", name) for name in path)


def faults(rename: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the renames whatever the model is: why, and what to do."""
    paths: dict[Path, str] = {}
    sources: dict[str, str] = {}  # of each field
    for text, field in rename.items():
        try:
            paths[parse_path(text)] = field
        except ValueError:
            yield f'has "{text[:NAME_MAX]}", which is not a path', f"give {_PATH_WORDS}"
        if field in sources:
            yield f'renames "{sources[field]}" and "{text}" to {field}', "remove one of them"
        sources.setdefault(field, text)
    for path, field in paths.items():
        if path == (field,):
            yield f"renames {field} to itself", "remove it"
        elif path[0] in sources:
            why = f'renames "{path_text(path)}" to {field}, and "{sources[path[0]]}" to {path[0]}'
            yield why, f"remove one of them: what is renamed to {path[0]} is not renamed again"
    for first, second in pairwise(sorted(paths)):
        if second[: len(first)] == first:
            why = f'has "{path_text(first)}", which contains "{path_text(second)}"'
            yield why, "remove one of them: a value moves to one field only"


def check_targets(model: Model, rename: Mapping[str, str]) -> None:
    """Raises ``ConfigError`` where no type of the model has a field of that name."""
    known = set(target_fields(model))
    for path, field in rename.items():
        if field not in known:
            near = difflib.get_close_matches(field, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(sorted(known))}"
            raise ConfigError(f'events.rename: "{path}" = "{field}": the model has no field {field}', hint=hint)


def target_fields(model: Model) -> list[str]:
    """The fields that a producer can give to events of the model."""
    kinds: list[type[Event]] = [*model.types.values(), GenericEvent]
    fields = dict.fromkeys(["event_type", *(name for kind in kinds for name in kind.__struct_encode_fields__)])
    return [name for name in fields if name not in ORIGIN_FIELDS]


def _pop(data: dict[str, Any], path: Path) -> Any:
    """Take the value at a path out of `data`, with the objects that become empty; `_ABSENT` where there is none."""
    name, rest = path[0], path[1:]
    if not rest:
        return data.pop(name, _ABSENT)
    inner = data.get(name)
    if type(inner) is not dict:
        return _ABSENT
    value = _pop(inner, rest)
    if value is not _ABSENT and not inner:
        del data[name]
    return value
