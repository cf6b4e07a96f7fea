"""Counts rows by the ids of their events, as the store has them, and as a loader sees them. Pure."""

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Written before or behind a space, alone in its line or wrapped by the system that wrote it.
_ID = re.compile(rb'"event_id":\s*"([^"]+)"')

Files = Mapping[str, bytes]  # whole objects by key


class Count(NamedTuple):
    """Events that have no row, and rows that are there beside an event's first."""

    lost: int
    doubled: int


def lines(body: bytes) -> list[bytes]:
    """The lines of a file, compressed or not; what follows the last line's end is no line."""
    text = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    found = text.split(b"\n")
    return found if found[-1] else found[:-1]


def ids(body: bytes) -> list[bytes]:
    """Of every line that has one."""
    return [found[1] for line in lines(body) if (found := _ID.search(line))]


def count(expected: Iterable[bytes], rows: Iterable[bytes]) -> Count:
    """`rows` are the ids of all rows; those that nobody expects do not count."""
    seen = Counter(rows)
    wanted = set(expected)
    return Count(
        lost=sum(it not in seen for it in wanted),
        doubled=sum(number - 1 for it, number in seen.items() if it in wanted),
    )


class Loader:
    """Sees what is in the store from time to time, also files that are replaced by others later."""

    def __init__(self) -> None:
        self._versions: dict[str, list[bytes]] = {}

    def look(self, files: Files) -> None:
        for key, body in files.items():
            versions = self._versions.setdefault(key, [])
            if body not in versions:
                versions.append(body)

    @property
    def rewritten(self) -> int:
        """How many files had another body later."""
        return sum(len(versions) > 1 for versions in self._versions.values())

    @property
    def by_name(self) -> list[bytes]:
        """The rows where each file is loaded once, by its name, as Snowpipe does: what replaces it is not seen."""
        return [it for first, *_ in self._versions.values() for it in ids(first)]

    @property
    def by_version(self) -> list[bytes]:
        """The rows where whatever is written is loaded, which is so, too, where every file gets a name of its own."""
        return [it for versions in self._versions.values() for body in versions for it in ids(body)]
