"""Paths into JSON, for mapping files: ``data.items[0].id``, ``["a.b"]``, ``Attributes[key=subject].value``. Pure."""

import re
from typing import Any, NamedTuple

_STEP = re.compile(
    r"""\.?(?P<name>[A-Za-z0-9_:@-]+)            # .name
    | \["(?P<quoted>[^"]+)"\]                    # ["name.with.dots"]
    | \[(?P<index>-?[0-9]{1,6})\]                # [0], [-1]
    | \[(?P<key>[A-Za-z0-9_:@-]+)=(?P<value>[^\]]+)\]  # [key=value]: the first object in a list that has it
    """,
    re.VERBOSE,
)
_PATH_MAX = 512  # characters


class _Selection(NamedTuple):
    key: str
    value: str


Path = tuple[str | int | _Selection, ...]


def parse_path(text: str) -> Path:
    """The steps of a path; ``$`` at its begin stands for the whole. ValueError where it is none."""
    rest = text.removeprefix("$")
    steps: list[str | int | _Selection] = []
    while rest:
        match = _STEP.match(rest)
        if match is None or len(text) > _PATH_MAX:
            raise ValueError(f"cannot be read at {rest[:40]!r}")
        if (name := match["name"] or match["quoted"]) is not None:
            steps.append(name)
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            steps.append(_Selection(match["key"], match["value"]))
        rest = rest[match.end() :]
    if not text:
        raise ValueError("is empty")
    return tuple(steps)


def find(data: Any, path: Path) -> Any:
    """What is at `path`; None where there is nothing."""
    for step in path:
        if type(data) is dict and type(step) is str:
            data = data.get(step)
        elif type(data) is list and type(step) is int:
            data = data[step] if -len(data) <= step < len(data) else None
        elif type(data) is list and type(step) is _Selection:
            data = next((it for it in data if type(it) is dict and _is(it.get(step.key), step.value)), None)
        else:
            return None
    return data


def _is(value: Any, text: str) -> bool:
    return value == text if type(value) is str else type(value) is int and str(value) == text
