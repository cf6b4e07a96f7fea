"""The names of a queue's objects: manifests, data and quarantine objects, all after the id of their batch.

    .ingestd/manifests/[lineage=L/]{queue}/YYYY-MM-DDTHH/{batch id}.json.gz
    events/[lineage/]year=YYYY/month=MM/day=DD/{queue}+{batch id}.jsonl.gz
    quarantine/[lineage/]year=YYYY/month=MM/day=DD/{queue}+{batch id}+{digest}.jsonl.gz

A batch id says when the first and the last of its messages were received for the first time by anybody, by SQS's clock,
which a message tells at each receipt; and it has random digits. A batch has messages of one hour of first receipts
only. So the manifests that can hold a redelivered message are in the folder of its hour (in two near an hour's end),
however long ago that was, and their names tell the few that are worth reading. No other clock is involved.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from ingestd.core.object_keys import EVENTS, OWN, QUARANTINE, day_folder

MANIFESTS = f"{OWN}manifests/"
HOUR_MS = 3_600_000
#: How much two receipts of a message may differ in the time of its first receipt, which SQS calls approximate.
TOLERANCE_MS = 60_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_FORMAT = "%Y-%m-%dT%H"
_ID = r"(?P<first>\d{8}T\d{9})-(?P<span>\d{7})-[0-9a-f]{24}"
_BATCH_ID = re.compile(_ID, re.ASCII)
_QUEUE = r"(?P<queue>[A-Za-z0-9_-]{1,80}(?:\.fifo)?)"
_DAY = r"(?P<day>year=\d{4}/month=\d\d/day=\d\d/)"
_DATA = re.compile(rf"{_DAY}{_QUEUE}\+(?P<id>{_ID})\.jsonl\.gz", re.ASCII)
_QUARANTINED = re.compile(rf"{_DAY}{_QUEUE}\+(?P<id>{_ID})\+(?P<digest>[0-9a-f]{{16}})\.jsonl\.gz", re.ASCII)
_MANIFEST = re.compile(rf"{_QUEUE}/(?P<hour>\d{{4}}-\d\d-\d\dT\d\d)/(?P<id>{_ID})\.json\.gz", re.ASCII)


class BatchId(msgspec.Struct, frozen=True, order=True):
    """The id of a batch, and the first and last time of its messages' first receipts (ms)."""

    text: str
    first_ms: int
    last_ms: int

    @classmethod
    def new(cls, first_ms: int, last_ms: int, digits: str) -> "BatchId":
        """`digits` are 24 random hexadecimal ones: two batches never have the same id."""
        first_ms = min(max(first_ms, 0), _LAST_MS)
        span = min(max(last_ms - first_ms, 0), HOUR_MS - 1)
        time = _EPOCH + timedelta(milliseconds=first_ms)
        text = f"{time:%Y%m%dT%H%M%S}{first_ms % 1000:03d}-{span:07d}-{digits}"
        return cls(text, first_ms, first_ms + span)

    @classmethod
    def parse(cls, text: str) -> "BatchId | None":
        """None if `text` is not the id of a batch."""
        match = _BATCH_ID.fullmatch(text)
        if match is None:
            return None
        try:
            time = datetime.strptime(match["first"][:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None
        first_ms = (time - _EPOCH) // timedelta(milliseconds=1) + int(match["first"][15:])
        return cls(text, first_ms, first_ms + int(match["span"]))

    def may_hold(self, first_received_ms: int) -> bool:
        """Whether a message that was received for the first time then may be in this batch."""
        return self.first_ms - TOLERANCE_MS <= first_received_ms <= self.last_ms + TOLERANCE_MS


class QueueObjectName(msgspec.Struct, frozen=True):
    """The parsed key of a data, quarantine or manifest object. `digest` is that of a quarantine object."""

    queue: str
    batch: BatchId
    key: str
    digest: str | None = None


class QueueKeys:
    """The keys of one lineage."""

    def __init__(self, lineage: str | None = None) -> None:
        folder = f"{lineage}/" if lineage else ""
        self.events = EVENTS + folder
        self.quarantine = QUARANTINE + folder
        self.manifests = MANIFESTS + (f"lineage={lineage}/" if lineage else "")  # no queue has such a name

    def data_key(self, queue: str, batch: BatchId) -> str:
        return f"{self.events}{day_folder(batch.first_ms)}{queue}+{batch.text}.jsonl.gz"

    def quarantine_key(self, queue: str, batch: BatchId, digest: str) -> str:
        return f"{self.quarantine}{day_folder(batch.first_ms)}{queue}+{batch.text}+{digest}.jsonl.gz"

    def manifest_key(self, queue: str, batch: BatchId) -> str:
        return f"{self.manifests}{queue}/{_hour_name(batch.first_ms)}/{batch.text}.json.gz"

    def manifest_folders(self, queue: str, first_received_ms: int) -> list[str]:
        """The folders of all manifests that may hold a message that was received for the first time then."""
        times = (first_received_ms - TOLERANCE_MS, first_received_ms, first_received_ms + TOLERANCE_MS)
        names = dict.fromkeys(_hour_name(time) for time in times)
        return [f"{self.manifests}{queue}/{name}/" for name in names]

    def parse_data(self, key: str) -> QueueObjectName | None:
        """None if `key` is not that of a queue's data object."""
        return self._parsed(key, self.events, _DATA, self.data_key)

    def parse_manifest(self, key: str) -> QueueObjectName | None:
        """None if `key` is not that of a manifest."""
        return self._parsed(key, self.manifests, _MANIFEST, self.manifest_key)

    def parse_quarantine(self, key: str) -> QueueObjectName | None:
        """None if `key` is not that of a quarantine object with a queue's messages."""
        match = _QUARANTINED.fullmatch(key.removeprefix(self.quarantine)) if key.startswith(self.quarantine) else None
        batch = BatchId.parse(match["id"]) if match is not None else None
        if match is None or batch is None or self.quarantine_key(match["queue"], batch, match["digest"]) != key:
            return None
        return QueueObjectName(match["queue"], batch, key, match["digest"])

    def _parsed(
        self, key: str, root: str, pattern: re.Pattern[str], named: "Callable[[str, BatchId], str]"
    ) -> QueueObjectName | None:
        match = pattern.fullmatch(key.removeprefix(root)) if key.startswith(root) else None
        batch = BatchId.parse(match["id"]) if match is not None else None
        if match is None or batch is None or named(match["queue"], batch) != key:
            return None
        return QueueObjectName(match["queue"], batch, key)


def is_queue_data(events: str, key: str) -> bool:
    """Whether `key` is the name of a queue's data object below `events`."""
    return key.startswith(events) and _DATA.fullmatch(key.removeprefix(events)) is not None


def is_queue_quarantine(quarantine: str, key: str) -> bool:
    """Whether `key` is the name of a quarantine object with a queue's messages below `quarantine`."""
    return key.startswith(quarantine) and _QUARANTINED.fullmatch(key.removeprefix(quarantine)) is not None


def receipt_hour(first_received_ms: int) -> int:
    """The number of the hour of a first receipt: messages of different hours are in different batches."""
    return min(max(first_received_ms, 0), _LAST_MS) // HOUR_MS


def _hour_name(time_ms: int) -> str:
    return (_EPOCH + timedelta(hours=receipt_hour(time_ms))).strftime(_FORMAT)
