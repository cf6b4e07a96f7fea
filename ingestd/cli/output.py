"""What commands print: text for a person or JSON lines, without secrets and without what a terminal would obey."""

import os
import shutil
import sys
import textwrap
from pathlib import Path

import msgspec

from ingestd.config.secrets import REDACTION
from ingestd.core.formatting import clean

_INDENT = 7  # columns of the first word of a line


def say(text: str) -> None:
    """Write to standard output. A reader that stops reading (``| head``) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """Discard standard output from now on: the interpreter flushes it at exit, and would fail with code 120."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def say_line(head: str, text: str) -> None:
    """A line of a report; broken where a person looks on, whole for whoever searches in it."""
    line = f"{head:{_INDENT}}{clean(REDACTION.clean(text))}"
    if sys.stdout.isatty():
        width = max(40, shutil.get_terminal_size().columns)
        line = textwrap.fill(
            line, width, subsequent_indent=" " * _INDENT, break_long_words=False, break_on_hyphens=False
        )
    say(f"{line}\n")


def say_json(kind: str, value: object) -> None:
    """A line of JSON; `kind` tells what it is about."""
    fields = {"kind": kind, **msgspec.to_builtins(value)}
    say(msgspec.json.encode(_redacted(fields)).decode() + "\n")


def say_document(value: object) -> None:
    """One JSON document."""
    document = msgspec.json.encode(_redacted(msgspec.to_builtins(value)))
    say(msgspec.json.format(document, indent=2).decode() + "\n")


def _redacted(value: object) -> object:
    """Before it is encoded: a secret with quotes in it reads otherwise in JSON."""
    match value:
        case str():
            return REDACTION.clean(value)
        case dict():
            return {name: _redacted(inner) for name, inner in value.items()}
        case list():
            return [_redacted(inner) for inner in value]
    return value
