"""Finds lines in a TOML file, for error messages: that of each key, and where the syntax is wrong. Pure."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ingestd.config.keys import KEYS, SOURCE_KEYS
from ingestd.core.formatting import clean

_MAX_STATEMENT_LINES = 200  # each line of a statement parses it again; the keys after a longer one get no line
DEEPEST = 100  # dots in a name: TOML's tables can be deeper than the stack
_MAX_WIDTH = 100  # characters of a line that are shown

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)\Z")
_HEADER = re.compile(r"\s*\[{1,2}[\w.-]*\]{0,2}\s*")
_NAME = re.compile(r"\s*(?:[\w-]+\s*\.\s*)*([\w-]+)")
_VALUE = re.compile(r"=\s*")
_SECRET_WORDS = re.compile(r"pass|secret|token|credential|@", re.IGNORECASE)  # @: behind a user and a password
_KEYS = [(name.rpartition(".")[2], key) for name, key in (*KEYS.items(), *SOURCE_KEYS.items())]
_PUBLIC_NAMES = {name for name, _ in _KEYS} - {name for name, key in _KEYS if key.is_secret}


class SyntaxProblem(NamedTuple):
    """What is wrong in a TOML file, and where, counted from 1.

    `excerpt` is the line with a caret below it. It is empty where the line may hold a secret.
    """

    why: str
    line: int
    column: int
    excerpt: tuple[str, ...]


class _Statement(NamedTuple):
    """A key with its value, a header, a comment or an empty line."""

    first: int  # line
    lines: list[str]
    table: Mapping[str, object] | None  # None where it is not valid; all later lines are in it then


def key_lines(text: str) -> Mapping[str, int]:
    """The line where each dotted key and table of a valid TOML file is given, counted from 1."""
    found: dict[str, int] = {}
    prefix = ""
    for first, lines, table in _statements(text):
        if table is None:
            break
        is_header = lines[0].lstrip().startswith("[")
        names = list(_names(table, "" if is_header else prefix))
        if is_header:
            prefix = f"{names[-1]}."
        for name in names:
            found.setdefault(name, first)
    return found


def syntax_problem(text: str, message: str) -> SyntaxProblem:
    """What the parser's `message` says about `text`. A value that is not closed at the end is shown where it begins."""
    place, lines = _PLACE.search(message), _lines(text)
    why = message[: place.start()] if place is not None else message
    line = int(place["line"]) if place is not None and place["line"] else len(lines)
    column = int(place["column"]) if place is not None and place["column"] else None
    statement = next(it for it in _statements(text) if it.table is None or line < it.first + len(it.lines))
    if column is None and len(statement.lines) < _MAX_STATEMENT_LINES:
        line = statement.first
    shown = lines[line - 1]
    if column is None:
        value = _VALUE.search(shown)
        column = value.end() + 1 if value is not None else 1
    return SyntaxProblem(why, line, column, _excerpt(shown, column) if _is_public(statement, line) else ())


def _is_public(statement: _Statement, line: int) -> bool:
    """Whether a line is known to hold no secret: a header, or the value of a key that has none."""
    if line >= statement.first + len(statement.lines):
        return False
    shown, name = statement.lines[line - statement.first], _NAME.match(statement.lines[0])
    is_known = _HEADER.fullmatch(shown) is not None or (name is not None and name[1] in _PUBLIC_NAMES)
    return is_known and _SECRET_WORDS.search(shown) is None


def _excerpt(line: str, column: int) -> tuple[str, str]:
    """The part of a line around a column, and a caret below that."""
    begin = max(0, column - 1 - _MAX_WIDTH // 2)
    return clean(line[begin : begin + _MAX_WIDTH]), " " * (column - 1 - begin) + "^"


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n")  # as the parser counts them


def _statements(text: str) -> Iterator[_Statement]:
    first, statement = 1, list[str]()
    for number, line in enumerate(_lines(text), 1):
        if not statement:
            first = number
        statement.append(line)
        try:
            table = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            if len(statement) == _MAX_STATEMENT_LINES:
                break
            continue
        yield _Statement(first, statement, table)
        statement = []
    if statement:
        yield _Statement(first, statement, None)


def _names(table: Mapping[str, object], prefix: str) -> Iterator[str]:
    for name, value in table.items():
        yield prefix + name
        if prefix.count(".") >= DEEPEST:
            continue
        match value:
            case dict():
                yield from _names(value, f"{prefix}{name}.")
            case [dict() as last]:
                yield from _names(last, f"{prefix}{name}.")
