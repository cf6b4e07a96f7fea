"""The errors of SQLite and of the system, in the words of the journal."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ingestd.core.errors import JournalError, JournalFullError, JournalInUseError


def corrupt(path: Path, what: str) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged: {what}",
        hint="move it and its -wal away and keep them: `sqlite3 FILE .recover` shows what can still be read; a restart "
        "begins a new journal",
    )


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the system into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(path, error) from error
    except msgspec.DecodeError as error:
        raise corrupt(path, str(error)) from error
    except OSError as error:
        raise JournalError(f"cannot use the journal {path}: {error.strerror or error}") from error


def _from_sqlite(path: Path, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where it happened
    if code == sqlite3.SQLITE_FULL:
        return JournalFullError(
            f"there is no room for the journal {path}: {error}",
            hint="free some space, or raise collect.journal_bytes: events are refused until then",
        )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return JournalInUseError(
            f"the journal {path} is in use by another process",
            hint="stop that process, or give each its own collect.journal",
        )
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return corrupt(path, str(error))
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return JournalError(f"cannot use the journal {path}: {error} ({name})")
