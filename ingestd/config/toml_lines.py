"""Finds the line of each key in a TOML file, for error messages: the standard parser does not tell. Pure."""

import tomllib
from collections.abc import Iterator, Mapping

_MAX_STATEMENT_LINES = 200  # each line of a statement parses it again; the keys after a longer one get no line


def key_lines(text: str) -> Mapping[str, int]:
    """The line where each dotted key and table of a valid TOML file is given, counted from 1."""
    found: dict[str, int] = {}
    prefix, first, statement = "", 1, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not statement:
            first = number
        statement.append(line)
        try:
            table = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            if len(statement) == _MAX_STATEMENT_LINES:
                break
            continue
        is_header = statement[0].lstrip().startswith("[")
        names = list(_names(table, "" if is_header else prefix))
        if is_header:
            prefix = f"{names[-1]}."
        for name in names:
            found.setdefault(name, first)
        statement = []
    return found


def _names(table: Mapping[str, object], prefix: str) -> Iterator[str]:
    for name, value in table.items():
        yield prefix + name
        match value:
            case dict():
                yield from _names(value, f"{prefix}{name}.")
            case [dict() as last]:
                yield from _names(last, f"{prefix}{name}.")
