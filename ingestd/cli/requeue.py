"""`ingestd requeue`: produces quarantined records that are valid now to a topic, or a journal, each of them once."""

import asyncio
import logging
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import click
import msgspec

from ingestd import collector_wiring, inspection, wiring
from ingestd.cli import requeue_journal
from ingestd.cli.flags import INSPECTION, JSON, RANGE, SETTINGS, CommandFlag, check_range, one_of
from ingestd.cli.output import say
from ingestd.cli.requeue_report import RequeueReport
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.config.validate import TOPIC_MAX
from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.events import load_model
from ingestd.core.records import TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.sink_url import parse_sink_url
from ingestd.requeue.batches import ProducedRecords, ReceiptKeys, Selection
from ingestd.requeue.quarantine_reader import QuarantineReader
from ingestd.requeue.receipts import Receipts
from ingestd.requeue.requeuer import Destination, RequeueCounts, Requeuer, read_note
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import Listing
from ingestd.sinks.names import MAX_KEY_BYTES
from ingestd.sinks.retry import PATIENCE_S, SinkRetrier
from ingestd.sources.kafka import find_topic, open_transactions

if TYPE_CHECKING:
    from ingestd.cli.requeue_unfenced import UnfencedRequeue

log = logging.getLogger(__name__)

_PROGRESS_S = 5.0  # between two log lines about progress


EXAMPLES = """\
examples:
  ingestd requeue --config config/production.toml --dry-run
  ingestd requeue --config config/production.toml --reason unknown_type --since 2026-11-01
  ingestd requeue --config config/production.toml --to marketing_events_repaired
"""

FLAGS: list[click.Parameter] = [
    *INSPECTION,
    *RANGE,
    CommandFlag(
        "--reason", metavar="REASON", multiple=True, type=one_of(list(Reason)), section="Selection",
        help=f"only records that were rejected for this reason; can be given several times: {', '.join(Reason)}",
    ),
    CommandFlag(
        "--to", metavar="TOPIC", section="Target",
        help="produce to this topic instead of the topic that the records came from (not where source = collector)",
    ),
    CommandFlag(
        "--repeat-unclear", is_flag=True, section="Target",
        help="also those of a run that died while it put them: some may be there already (source = kinesis or sqs)",
    ),
    CommandFlag("--dry-run", is_flag=True, section="Target", help="print what would be produced, and produce nothing"),
    JSON,
    *SETTINGS,
]  # fmt: skip


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say. Times are Kafka timestamps, in milliseconds."""

    since: int | None = None
    until: int | None = None
    reason: list[Reason] = []
    to: str | None = None
    repeat_unclear: bool = False
    dry_run: bool = False
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Requeue and print the report. Returns 1 where an object cannot be read, or the topic refuses a record.

    Records that still fail are no error.
    """
    _check(options)
    if settings.config.source == "collector":
        requeue_journal.check(options.to, settings)
    command = _command(settings.config, options)
    try:
        wiring.run(command.run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    report = RequeueReport(command.counts, command.targets, dry_run=options.dry_run)
    say(report.as_json() if options.json else report.as_text())
    return 1 if command.counts.unreadable_objects or command.counts.refused else 0


def _command(config: Config, options: Options) -> "Requeue | UnfencedRequeue":
    if config.source not in {"kinesis", "sqs"}:
        if options.repeat_unclear:
            raise ConfigError(
                "--repeat-unclear is for source = kinesis or sqs: transactions leave nothing unclear",
                hint="leave it out",
            )
        return Requeue(config, options)
    from ingestd.cli.requeue_unfenced import UnfencedRequeue  # noqa: PLC0415  slow to import

    selection = _selection(options)
    return UnfencedRequeue(
        config, selection, to=options.to, dry_run=options.dry_run, repeat_unclear=options.repeat_unclear
    )


def _selection(options: Options) -> Selection:
    return Selection(since=options.since, until=options.until, reasons=frozenset(options.reason))


def _check(options: Options) -> None:
    check_range(options.since, options.until)
    if options.to is not None and not re.fullmatch(rf"(?!\.\.?$)[A-Za-z0-9._-]{{1,{TOPIC_MAX}}}", options.to):
        raise ConfigError(
            f"--to {options.to!r} is not a topic name",
            hint=f"give at most {TOPIC_MAX} letters, digits, '.', '_', '-'",
        )


class Requeue:
    """One run of the command."""

    def __init__(self, config: Config, options: Options) -> None:
        self.counts = RequeueCounts()
        self._config = config
        self._options = options
        self._layout = wiring.make_keys(config)
        self._validator = wiring.make_validator(config, load_model(config.events.model))
        self._last_progress = 0.0

    @property
    def targets(self) -> list[str]:
        """The topics, or the journal, that records are produced to."""
        if self._config.source == "collector":
            return [f"journal {collector_wiring.journal_path(self._config.collect)}"]
        return [self._options.to] if self._options.to is not None else list(self._config.kafka.topics)

    async def run(self) -> None:
        """Requeue to each target topic, or to the journal."""
        config, to = self._config, self._options.to
        topics = (config.collect.topic,) if config.source == "collector" else config.kafka.topics
        if (task := asyncio.current_task()) is not None:
            # Like Ctrl-C, so that an open transaction is aborted at once: until then, readers of the topic wait.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with AsyncExitStack() as stack:
            sink = wiring.make_sink(config)
            stack.push_async_callback(sink.close)
            retrier = SinkRetrier(config.sink, effect="retrying")
            if not self._options.dry_run:
                await retrier.call_briefly(sink.start)
            self._last_progress = asyncio.get_running_loop().time()
            targets = {to: topics} if to is not None else {topic: (topic,) for topic in topics}
            for target, origins in targets.items():
                await self._requeue_to(target, origins, sink, retrier)

    async def _requeue_to(self, topic: str, origins: Sequence[str], sink: Sink, retrier: SinkRetrier) -> None:
        self._check_key_lengths(topic, origins, sink.url)
        receipts = Receipts(sink, retrier, self._layout, topic)
        async with self._open(topic, receipts) as destination:
            requeuer = Requeuer(
                QuarantineReader(Listing(sink, retrier, PATIENCE_S), self._layout),
                receipts,
                self._validator,
                _selection(self._options),
                destination,
                counts=self.counts,
                progress=self._log_progress,
            )
            if destination.target is not None:
                await requeuer.recover()
            for origin in origins:
                await requeuer.run(origin)

    def _open(self, topic: str, receipts: Receipts) -> AbstractAsyncContextManager[Destination]:
        if self._config.source == "collector":
            return requeue_journal.open_journal(self._config.collect, receipts, dry_run=self._options.dry_run)
        return self._open_topic(topic, receipts)

    def _check_key_lengths(self, topic: str, origins: Sequence[str], url: str) -> None:
        """Raise ``ConfigError`` where the sink could not store a receipt: it would be too late after producing."""
        for origin in origins:
            record = ProducedRecords(origin, 2**31 - 1, (2**63 - 1,), 2**31 - 1)
            longest = ReceiptKeys(self._layout, topic).receipt(record, with_epoch=True)
            if (length := len(parse_sink_url(url).prefix) + len(longest)) > MAX_KEY_BYTES:
                raise ConfigError(
                    f"receipts for topic {topic} in {url} would have keys of {length} characters, "
                    f"more than {MAX_KEY_BYTES}",
                    hint="choose a topic with a shorter name with --to"
                    if self._config.source != "collector"
                    else requeue_journal.BY_HAND,
                )

    @asynccontextmanager
    async def _open_topic(self, topic: str, receipts: Receipts) -> AsyncIterator[Destination]:
        """A topic of Kafka. A dry run only reads the note of the last transaction."""
        kafka, options = self._config.kafka, self._options
        try:
            cluster, partitions = await find_topic(kafka, topic)
        except SourceError as error:
            if options.to is None or "kafka.topics" not in error.hint:
                raise
            raise SourceError(error.args[0], hint="create it, or correct --to") from error
        if not options.dry_run:
            identity = await receipts.identity(kafka.group_id, cluster)
            if identity.cluster != cluster:
                raise ConfigError(
                    f"records were requeued to topic {topic} of another Kafka cluster, {identity.cluster}; "
                    f"kafka.bootstrap_servers leads to {cluster}",
                    hint="configure the brokers of that cluster, or choose a topic of another name with --to",
                )
            async with open_transactions(kafka, topic, identity.id) as target:
                yield Destination(target, partitions[topic])
            return
        known = await receipts.known_identity()
        if known is not None:
            read_only = msgspec.structs.replace(kafka, topics=(topic,), group_id=known.id)
            place = TopicPartition(topic, 0)
            async with inspection.open_inspector(msgspec.structs.replace(self._config, kafka=read_only)) as inspector:
                if (last := (await inspector.committed([place]))[place]) is not None:
                    receipts.assume_produced(read_note(last.commit_tag))
        yield Destination(None, partitions[topic])

    def _log_progress(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._last_progress >= _PROGRESS_S:
            self._last_progress = now
            log.info("%d records read, %d produced", self.counts.read, self.counts.produced)
