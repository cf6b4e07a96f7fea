"""SQL statements as data, and rendered as scripts: commands print and run the same statements. Pure."""

import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from ingestd.snowflake.table import object_name

_WIDTH = 110  # columns of a comment


class Statement(NamedTuple):
    """One SQL statement without its semicolon. It can be run repeatedly."""

    name: str  # the object: "role INGESTD_LOADER"
    text: str
    role: str  # that runs it
    comment: str = ""
    check: str = ""  # run instead: whether it was run by hand, because the text needs a secret
    describes: Literal["", "storage", "errors", "table", "pipe"] = ""  # the object that its result describes


class Document(NamedTuple):
    """One JSON document for AWS."""

    file: str
    comment: str
    body: Any


class SetupPart(NamedTuple):
    """A step of the set-up: its statements, then its documents for AWS."""

    file: str  # "1-roles.sql"
    title: str
    comment: str
    statements: Sequence[Statement]
    documents: Sequence[Document] = ()


def script(part: SetupPart) -> str:
    """The part's statements as a script, with a USE ROLE at each change of the role."""
    lines = _comment(f"{part.title}\n{part.comment}")
    role = ""
    for statement in part.statements:
        lines.append("")
        if statement.role != role:
            role = statement.role
            lines += [f"USE ROLE {object_name(role)};", ""]
        if statement.comment:
            lines += _comment(statement.comment)
        lines.append(f"{statement.text};")
    return "\n".join(lines) + "\n"


def text(document: Document) -> str:
    """The content of the document's file."""
    return json.dumps(document.body, indent=2) + "\n"


def single_script(parts: Iterable[SetupPart]) -> str:
    """All parts in one script; the documents are in comments."""
    pieces = []
    for part in parts:
        pieces.append(script(part))
        for document in part.documents:
            body = [f"-- {line}" for line in text(document).splitlines()]
            pieces.append("\n".join([*_comment(f"AWS, {document.file}: {document.comment}"), "--", *body]) + "\n")
    return "\n".join(pieces)


def _comment(paragraphs: str) -> list[str]:
    lines = []
    for paragraph in paragraphs.strip().splitlines():
        lines += textwrap.wrap(
            paragraph,
            _WIDTH,
            initial_indent="-- ",
            subsequent_indent="-- ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
