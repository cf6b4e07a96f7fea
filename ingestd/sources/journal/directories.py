"""Directories of a journal, which are on the disk once they are made."""

import os
from pathlib import Path


def make_directory(folder: Path) -> None:
    """Only for us: events have personal data."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_directory(each.parent)


def sync_directory(folder: Path) -> None:
    """Put the names in it on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
