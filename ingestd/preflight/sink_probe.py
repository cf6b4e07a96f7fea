"""Tries every call that a run makes to its sink, within bounds; ``preflight.store`` judges the answers.

No right to delete is needed, so what is written stays: one object a day and way of writing. The first check of a day
proves that a write is allowed; the others find its object, which proves that a taken key is refused. Overwriting one
object would prove both each time, but not with the calls that a run makes: a bucket's policy may refuse every write
that is not conditional. A lifecycle rule may remove ``.ingestd/``.
"""

import asyncio
import gzip
import hashlib
import shutil
import zlib
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from ingestd import __version__
from ingestd.config.model import Config
from ingestd.core.errors import SinkError, SinkForbidden, SinkUnavailable
from ingestd.core.gzip import compress
from ingestd.core.object_keys import OWN, ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.core.sink_url import parse_sink_url
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.preflight import CheckFinding, not_tried, store
from ingestd.sinks.base import Sink

WITHIN_S = 20.0  # for each call, with all of its tries
TRIES, PAUSE_S = 3, 1.0

_CONTENT = b"written by ingestd check\n"
_UNUSED = TopicPartition("ingestd-check", 0)  # no object is named after it

T = TypeVar("T")


class Store:
    """Probes one sink. `readable`: a dry run can read it; `holds_objects`: it has objects, None if that is not known."""

    def __init__(self, config: Config, sink: Sink, layout: ObjectKeys) -> None:
        self._config = config
        self._sink = sink
        self._layout = layout
        is_bucket = parse_sink_url(sink.url).kind == "s3"
        self.findings: list[CheckFinding] = [store.places(layout, sink.url)] if is_bucket else []
        self.readable = False
        self.holds_objects: bool | None = None

    async def look(self) -> None:
        """Try every call; takes at most about twice `WITHIN_S`."""
        listed = await self._listed()
        if listed is not None and not _is_missing_right(listed):
            for check in ("sink.head", "sink.write", "sink.create_only", "sink.read"):
                self.findings.append(not_tried(check, "the sink does not answer as it should"))
            return
        head, wrote = await asyncio.gather(self._missing(), self._write())
        self.findings += [*head, *wrote]

    async def _listed(self) -> SinkError | None:
        layout, url = self._layout, self._sink.url
        events = await attempt(self._events, f"cannot list {url}")
        if isinstance(events, SinkError):
            self.findings.append(store.refused("sink.list", events))
            return events
        self.holds_objects = bool(events)
        quarantine = await attempt(lambda: self._sink.folders(layout.quarantine), f"cannot list {url}")
        if isinstance(quarantine, SinkError):
            self.findings.append(store.refused("sink.list", quarantine))
            return quarantine
        self.findings.append(store.listed(layout, url, holds_objects=self.holds_objects))
        return None

    async def _events(self) -> list[str]:
        await self._sink.start()
        return await self._sink.folders(self._layout.events)

    async def _missing(self) -> Iterable[CheckFinding]:
        key = self._layout.data_key(_UNUSED, 0, 0, 0)
        found = await attempt(lambda: self._sink.head(key), f"cannot look at {key}")
        if isinstance(found, SinkError):
            return [store.refused("sink.head", found)]
        self.readable = True
        return [store.missing(found=found is not None)]

    async def _write(self) -> list[CheckFinding]:
        now = datetime.now(UTC)
        key, body = self._key(now), compress(_CONTENT).data
        metadata = {"purpose": "check", "written-at": now.isoformat(timespec="seconds"), "version": __version__}
        written = await attempt(lambda: self._sink.put_new(key, body, metadata), f"cannot write {key}")
        if isinstance(written, SinkError):
            rest = ("sink.create_only", "sink.read", *(["sink.encryption"] if self._encrypts() else []))
            return [store.refused("sink.write", written), *(not_tried(check, "nothing was written") for check in rest)]
        again, found, content = await asyncio.gather(
            attempt(lambda: self._sink.put_new(key, body, metadata), f"cannot write {key}"),
            attempt(lambda: self._sink.head(key), f"cannot look at {key}"),
            attempt(lambda: self._sink.get(key), f"cannot read {key}"),
        )
        known = found.metadata if isinstance(found, ObjectInfo) else {}
        findings = [store.written(key, known, new=written is Stored.CREATED)]
        if isinstance(again, SinkError):
            findings.append(store.refused("sink.create_only", again))
        else:
            findings.append(store.create_only(self._config, refused=again is Stored.EXISTS))
        if isinstance(found, SinkError) or isinstance(content, SinkError):
            error = found if isinstance(found, SinkError) else content
            assert isinstance(error, SinkError)
            return [*findings, store.refused("sink.read", error)]
        kept = all(known.get(name) == text for name, text in metadata.items() if name != "written-at")
        findings.append(store.read_back(body=_unpacked(content) == _CONTENT, metadata=kept and "written-at" in known))
        return [*findings, *store.encryption(self._config)]

    def _key(self, now: datetime) -> str:
        """Each way of writing has its own key, so that its rights are tested, too."""
        s3 = self._config.s3
        way = "\n".join((__version__, self._config.sink.delivery, s3.encryption, s3.kms_key_id or ""))
        return f"{OWN}check-{now:%Y-%m-%d}-{hashlib.sha256(way.encode()).hexdigest()[:8]}.gz"

    def _encrypts(self) -> bool:
        return self._config.s3.encryption != "none"


def free_space(config: Config) -> int | None:
    """Free bytes in the sink's directory; None if the sink is not a directory, or if it does not exist."""
    url = parse_sink_url(config.sink.url)
    if url.kind != "file":
        return None
    try:
        return shutil.disk_usage(url.path).free
    except OSError:
        return None


async def attempt(call: Callable[[], Awaitable[T]], failed: str) -> T | SinkError:
    """Call until it answers; the last error after `TRIES` or `WITHIN_S`, or the first that a retry would not mend."""
    error: SinkError = SinkUnavailable(f"{failed}: no answer within {WITHIN_S:g} s", code="TimeoutError")
    try:
        async with asyncio.timeout(WITHIN_S):
            for _ in range(TRIES):
                try:
                    return await call()
                except SinkForbidden as forbidden:
                    return forbidden
                except SinkUnavailable as unavailable:
                    error = unavailable
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        pass
    return error


def _is_missing_right(error: SinkError) -> bool:
    """Whether only this call is refused: others may be allowed."""
    return error.code in {"AccessDenied", "403"}


def _unpacked(body: bytes) -> bytes | None:
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return None
