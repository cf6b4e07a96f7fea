"""`ingestd requeue` where the source is Kinesis or SQS, which have no transactions."""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import NamedTuple, cast

import msgspec

from ingestd import inspection, wiring
from ingestd.config.model import Config
from ingestd.core import quarantine
from ingestd.core.errors import ConfigError
from ingestd.core.events import load_model
from ingestd.core.json_validation import make_validator
from ingestd.core.quarantine import Quarantined, QuarantinedMessage
from ingestd.core.queue_keys import QueueKeys
from ingestd.requeue.attempts import Attempts, attempts_folder
from ingestd.requeue.batches import Selection, to_validate
from ingestd.requeue.documents import Documents
from ingestd.requeue.quarantine_reader import ObjectStatus, QuarantineReader
from ingestd.requeue.queue_quarantine import QueueQuarantine
from ingestd.requeue.requeuer import RequeueCounts
from ingestd.requeue.unfenced import LandedObject, Line, LineFormat, UnfencedRequeuer
from ingestd.sinks.listing import Listing
from ingestd.sinks.retry import SinkRetrier

log = logging.getLogger(__name__)

_PROGRESS_S = 5.0  # between two log lines about progress


class UnfencedRequeue:
    """One run of the command."""

    def __init__(
        self, config: Config, selection: Selection, *, to: str | None, dry_run: bool, repeat_unclear: bool
    ) -> None:
        """`to` is another stream than that of the configuration. ``ConfigError`` for a queue."""
        if to is not None and config.source == "sqs":
            raise ConfigError(
                f"--to {to} is for Kafka and Kinesis: messages go back into the queue of sqs.queue_url",
                hint="leave it out",
            )
        self.counts = RequeueCounts()
        self._config = config
        self._selection = selection
        self._to = to
        self._dry_run = dry_run
        self._repeat_unclear = repeat_unclear
        self._last_progress = 0.0

    @property
    def targets(self) -> list[str]:
        """The stream or the queue that records are put into."""
        return [self._to or inspection.stream_name(self._config)]

    async def run(self) -> None:
        """Requeue everything that is selected."""
        config, [target] = self._config, self.targets
        if (task := asyncio.current_task()) is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with AsyncExitStack() as stack:
            sink = wiring.make_sink(config)
            stack.push_async_callback(sink.close)
            retrier = SinkRetrier(config.sink, effect="retrying")
            if not self._dry_run:
                await retrier.call_briefly(sink.start)
            self._last_progress = asyncio.get_running_loop().time()
            documents = Documents(sink, retrier)
            place = self._quarantine(documents.listing)
            sender = inspection.open_sender(config, self._to)
            requeuer = UnfencedRequeuer(
                documents.listing.get,
                lambda key: Attempts(documents, attempts_folder(place.root, target, key)),
                place.lines,
                validator=make_validator(config.events, load_model(config.events.model), config.row_origin),
                selection=self._selection,
                counts=self.counts,
                target=None if self._dry_run else await stack.enter_async_context(sender),
                repeat_unclear=self._repeat_unclear,
                progress=self._log_progress,
            )
            async with aclosing(place.objects):
                await requeuer.run(place.objects)

    def _quarantine(self, listing: Listing) -> "_Quarantine":
        config, selection = self._config, self._selection
        if config.source == "sqs":
            keys = QueueKeys(config.sink.lineage)
            queue = QueueQuarantine(listing, keys, inspection.stream_name(config), self.counts)
            return _Quarantine(keys.quarantine, queue.objects(selection.since), _MESSAGES)
        layout = wiring.make_keys(config)
        return _Quarantine(layout.quarantine, self._of_stream(QuarantineReader(listing, layout)), _RECORDS)

    async def _of_stream(self, reader: QuarantineReader) -> AsyncGenerator[LandedObject]:
        """The objects of a stream's shards, which are a chain's as Kafka's."""
        counts, selection = self.counts, self._selection
        found_objects = reader.objects(inspection.stream_name(self._config), selection.since, selection.until)
        async with aclosing(found_objects) as objects:
            async for found in objects:
                match found.status:
                    case ObjectStatus.LANDED:
                        yield LandedObject(found.name.key, found.name.partition)
                    case ObjectStatus.SUPERSEDED:
                        counts.superseded_objects += 1
                        counts.superseded_records += found.metadata.rejected if found.metadata is not None else 0
                    case ObjectStatus.UNLANDED:
                        counts.unlanded_objects += 1
                        counts.unlanded_records += found.metadata.rejected if found.metadata is not None else 0
                    case ObjectStatus.UNREADABLE:
                        counts.unreadable_objects += 1
                        log.error("skipped quarantine object %s: it has no valid metadata of ingestd", found.name.key)

    def _log_progress(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._last_progress >= _PROGRESS_S:
            self._last_progress = now
            log.info("%d records read, %d produced", self.counts.read, self.counts.produced)


class _Quarantine(NamedTuple):
    """Where the objects of the quarantine are, those that landed, and how their lines are read."""

    root: str
    objects: AsyncGenerator[LandedObject]
    lines: LineFormat


class _Message(msgspec.Struct, frozen=True):
    """A quarantined message, for validation."""

    message_id: str
    timestamp: int
    value: bytes | None
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    offset: int = 0


def _message(line: Line) -> _Message:
    found = cast("QuarantinedMessage", line)
    return _Message(found.message_id, found.timestamp, found.value, found.key)


_MESSAGES = LineFormat(quarantine.decode_message, _message)
_RECORDS = LineFormat(quarantine.decode, lambda line: to_validate(cast("Quarantined", line)))
