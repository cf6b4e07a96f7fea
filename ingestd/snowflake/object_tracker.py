"""Tracks landed objects until they are known to be in the table. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from ingestd.snowflake.copy_history import CopiedFile

MAX_TRACKED = 100_000


class TrackedObject(msgspec.Struct):
    """One object. `rows` and `last_timestamp` (ms) are None until its metadata was read."""

    landed_at: datetime
    rows: int | None = None
    last_timestamp: int | None = None
    loads: dict[tuple[datetime, str | None], int] = msgspec.field(default_factory=dict)  # rows by load
    failed: CopiedFile | None = None

    @property
    def loaded(self) -> int:
        return sum(self.loads.values())

    @property
    def unloaded(self) -> int:
        """Rows that are not loaded; 0 if the number of rows is unknown."""
        return max(0, (self.rows or 0) - self.loaded)


class Loaded(msgspec.Struct, frozen=True):
    """A fully loaded object: its rows, and the seconds from its last record to the load (None if unknown)."""

    rows: int
    delay: float | None


class ObjectTracker:
    """Tracks at most MAX_TRACKED objects by key. `overflowed` is set when an object was left out."""

    def __init__(self) -> None:
        self.objects: dict[str, TrackedObject] = {}
        self.overflowed = False

    def add(self, key: str, landed_at: datetime) -> bool:
        """Track an object. False if it is tracked already, or there is no room."""
        if key in self.objects:
            return False
        if len(self.objects) >= MAX_TRACKED:
            self.overflowed = True
            return False
        self.objects[key] = TrackedObject(landed_at)
        return True

    def has_room_again(self) -> bool:
        """Whether objects were left out and there is room now. True only once: the caller then scans for them."""
        if not self.overflowed or len(self.objects) > MAX_TRACKED // 2:
            return False
        self.overflowed = False
        return True

    def unread(self) -> list[str]:
        """Keys of objects without metadata."""
        return [key for key, it in self.objects.items() if it.rows is None]

    def describe(self, key: str, landed_at: datetime, rows: int, last_timestamp: int) -> None:
        """Store the metadata of a tracked object."""
        if tracked := self.objects.get(key):
            tracked.landed_at, tracked.rows, tracked.last_timestamp = landed_at, rows, last_timestamp

    def remove(self, key: str) -> None:
        """Stop tracking an object: it was deleted, is not ours or is too old."""
        self.objects.pop(key, None)

    def apply(self, key: str, load: CopiedFile) -> bool:
        """Apply one row of the history, which may come repeatedly. True if it reports a new failure."""
        tracked = self.objects.get(key)
        if tracked is None or load.skipped or load.in_progress:
            return False
        tracked.loads[load.at, load.pipe] = load.rows
        is_new = (load.failed or load.partial) and (tracked.failed is None or tracked.failed.at < load.at)
        if is_new:
            tracked.failed = load
        return is_new

    def pop_loaded(self) -> Iterator[Loaded]:
        """Remove and return the fully loaded objects. An object without rows is loaded when the history lists it."""
        for key, tracked in list(self.objects.items()):
            if tracked.rows is None or not tracked.loads or tracked.unloaded:
                continue
            if tracked.failed is not None and not tracked.rows:
                continue
            del self.objects[key]
            at, last = max(at for at, _ in tracked.loads), tracked.last_timestamp
            yield Loaded(tracked.rows, max(0.0, at.timestamp() - last / 1000) if last is not None else None)

    def drop_empty(self, before: datetime) -> None:
        """Remove objects without rows that landed before: the history may never list them."""
        for key, tracked in list(self.objects.items()):
            if tracked.rows == 0 and not tracked.loads and tracked.landed_at < before:
                del self.objects[key]


def oldest(objects: Iterable[TrackedObject]) -> datetime | None:
    """When the oldest object with rows landed."""
    return min((it.landed_at for it in objects if it.rows != 0), default=None)
