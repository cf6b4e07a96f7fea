"""The objects that landed and are not known to be in the table, each with what the history says of it. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from ingestd.snowflake.copy_history import CopiedFile

MAX_FOLLOWED = 100_000


class TrackedObject(msgspec.Struct):
    """One object. `rows` and `last_timestamp` (ms) are None until its metadata was read."""

    landed_at: datetime
    rows: int | None = None
    last_timestamp: int | None = None
    loads: dict[tuple[datetime, str | None], int] = msgspec.field(default_factory=dict)  # rows, by line of the history
    failed: CopiedFile | None = None

    @property
    def loaded(self) -> int:
        return sum(self.loads.values())

    @property
    def unloaded(self) -> int:
        """Rows; 0 where it is not known how many there are."""
        return max(0, (self.rows or 0) - self.loaded)


class Loaded(msgspec.Struct, frozen=True):
    """An object whose rows are all in the table: how many, and how long after its last record (s; None: not known)."""

    rows: int
    delay: float | None


class ObjectTracker:
    """At most MAX_FOLLOWED objects by key; of those beyond it is only known that there are some."""

    def __init__(self) -> None:
        self.objects: dict[str, TrackedObject] = {}
        self.overflowed = False

    def add(self, key: str, landed_at: datetime) -> bool:
        """Follow an object; false where it is followed already, or there is no room."""
        if key in self.objects:
            return False
        if len(self.objects) >= MAX_FOLLOWED:
            self.overflowed = True
            return False
        self.objects[key] = TrackedObject(landed_at)
        return True

    def has_room_again(self) -> bool:
        """Whether there was no room for some, and is now: true once, as they have to be looked for."""
        if not self.overflowed or len(self.objects) > MAX_FOLLOWED // 2:
            return False
        self.overflowed = False
        return True

    def unread(self) -> list[str]:
        """Keys whose metadata is not known."""
        return [key for key, it in self.objects.items() if it.rows is None]

    def describe(self, key: str, landed_at: datetime, rows: int, last_timestamp: int) -> None:
        """What an object's metadata says."""
        if followed := self.objects.get(key):
            followed.landed_at, followed.rows, followed.last_timestamp = landed_at, rows, last_timestamp

    def forget(self, key: str) -> None:
        """It is no object of ours, or gone."""
        self.objects.pop(key, None)

    def see(self, key: str, load: CopiedFile) -> bool:
        """One line of the history, which may come again; true where it tells of a failure that is new."""
        followed = self.objects.get(key)
        if followed is None or load.skipped or load.in_progress:
            return False
        followed.loads[load.at, load.pipe] = load.rows
        is_new = (load.failed or load.partial) and (followed.failed is None or followed.failed.at < load.at)
        if is_new:
            followed.failed = load
        return is_new

    def done(self) -> Iterator[Loaded]:
        """Let go of those whose rows are all there; an object without rows is, once the history names it."""
        for key, followed in list(self.objects.items()):
            if followed.rows is None or not followed.loads or followed.unloaded:
                continue
            if followed.failed is not None and not followed.rows:
                continue
            del self.objects[key]
            at, last = max(at for at, _ in followed.loads), followed.last_timestamp
            yield Loaded(followed.rows, max(0.0, at.timestamp() - last / 1000) if last is not None else None)

    def drop_empty(self, before: datetime) -> None:
        """Let go of objects without rows that landed before: a history that does not name them is no news."""
        for key, followed in list(self.objects.items()):
            if followed.rows == 0 and not followed.loads and followed.landed_at < before:
                del self.objects[key]


def oldest(objects: Iterable[TrackedObject]) -> datetime | None:
    """When the oldest of those with rows landed."""
    return min((it.landed_at for it in objects if it.rows != 0), default=None)
