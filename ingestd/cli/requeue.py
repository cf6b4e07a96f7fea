"""`ingestd requeue`: produces quarantined records again that are good by now, none of them twice."""

import asyncio
import logging
import re
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import click
import msgspec

from ingestd import wiring
from ingestd.cli.flags import INSPECTION, JSON, RANGE, SETTINGS, CommandFlag, one_of
from ingestd.cli.output import say
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.config.validate import TOPIC_MAX
from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.events import load_model
from ingestd.core.formatting import number
from ingestd.core.records import TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.sink_url import parse_sink_url
from ingestd.core.validation import Validator
from ingestd.requeue.batches import Names, Produced, Selection
from ingestd.requeue.quarantine_reader import QuarantineReader
from ingestd.requeue.receipts import Receipts
from ingestd.requeue.requeuer import Requeuer, Tally, Target, read_note
from ingestd.sinks.base import Sink
from ingestd.sinks.names import MAX_KEY_BYTES
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.kafka import find_topic, open_transactions

log = logging.getLogger(__name__)

_TELL_S = 5.0  # between two log lines that tell of progress


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
        help="produce to this topic instead of the topic that the records came from",
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
    dry_run: bool = False
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Requeue, and print what was done. Returns 0, also where records still fail; 1 where an object cannot be read."""
    _check(options)
    command = Requeue(settings.config, options)
    try:
        wiring.run(command.run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    say(command.as_json() if options.json else command.as_text())
    return 1 if command.tally.unreadable_objects else 0


def _check(options: Options) -> None:
    if options.since is not None and options.until is not None and options.since >= options.until:
        raise ConfigError("--since is not before --until", hint="give an earlier --since or a later --until")
    if options.to is not None and not re.fullmatch(rf"(?!\.\.?$)[A-Za-z0-9._-]{{1,{TOPIC_MAX}}}", options.to):
        raise ConfigError(
            f"--to {options.to!r} is not a topic name",
            hint=f"give at most {TOPIC_MAX} letters, digits, '.', '_', '-'",
        )


class Requeue:
    """One run."""

    def __init__(self, config: Config, options: Options) -> None:
        self.tally = Tally()
        self._config = config
        self._options = options
        self._layout = wiring.make_keys(config)
        self._validator = Validator(config.events, load_model(config.events.model))
        self._told = 0.0

    async def run(self) -> None:
        config, to = self._config, self._options.to
        topics = config.kafka.topics
        if (task := asyncio.current_task()) is not None:
            # As Ctrl-C does, so that a transaction ends at once: until it does, readers of the topic wait.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with AsyncExitStack() as stack:
            sink = wiring.make_sink(config)
            stack.push_async_callback(sink.close)
            guard = SinkRetrier(config.sink, lambda _: None)
            if not self._options.dry_run:
                await guard.call_briefly(sink.start)
            self._told = asyncio.get_running_loop().time()
            targets = {to: topics} if to is not None else {topic: (topic,) for topic in topics}
            for target, origins in targets.items():
                await self._into(target, origins, sink, guard)

    async def _into(self, topic: str, origins: Sequence[str], sink: Sink, guard: SinkRetrier) -> None:
        self._require_room(topic, origins, sink.url)
        receipts = Receipts(sink, guard, self._layout, topic)
        options = self._options
        try:
            cluster, counts = await find_topic(self._config.kafka, topic)
        except SourceError as error:
            if options.to is None or "kafka.topics" not in error.hint:
                raise
            raise SourceError(error.args[0], hint="create it, or correct --to") from error
        async with self._target(topic, cluster, receipts) as target:
            requeuer = Requeuer(
                QuarantineReader(sink, guard, self._layout),
                receipts,
                self._validator,
                Selection(since=options.since, until=options.until, reasons=frozenset(options.reason)),
                target=target,
                partitions=counts[topic],
                tally=self.tally,
                clock=time.time,
                progress=self._tell,
            )
            if target is not None:
                await requeuer.settle()
            for origin in origins:
                await requeuer.run(origin)

    def _require_room(self, topic: str, origins: Sequence[str], url: str) -> None:
        """Before anything is produced: a receipt that cannot be written would be missed after it."""
        for origin in origins:
            longest = Names(self._layout, topic).receipt(Produced(origin, 2**31 - 1, (2**63 - 1,)))
            if (length := len(parse_sink_url(url).prefix) + len(longest)) > MAX_KEY_BYTES:
                raise ConfigError(
                    f"names of receipts for topic {topic} in {url} would have {length} of at most {MAX_KEY_BYTES} "
                    "characters",
                    hint="with --to, give a topic with a shorter name",
                )

    @asynccontextmanager
    async def _target(self, topic: str, cluster: str, receipts: Receipts) -> AsyncIterator[Target | None]:
        """None in a dry run, which only looks what the last transaction was."""
        kafka = self._config.kafka
        if not self._options.dry_run:
            identity = await receipts.identity(kafka.group_id, cluster)
            async with open_transactions(kafka, topic, identity.id) as target:
                yield target
            return
        known = await receipts.known_identity()
        if known is not None:
            looking = msgspec.structs.replace(kafka, topics=(topic,), group_id=known.id)
            place = TopicPartition(topic, 0)
            async with wiring.open_inspector(msgspec.structs.replace(self._config, kafka=looking)) as reader:
                if (last := (await reader.committed([place]))[place]) is not None:
                    receipts.assume(read_note(last.mark))
        yield None

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told >= _TELL_S:
            self._told = now
            log.info("%d records read, %d produced", self.tally.read, self.tally.produced)

    # -- the outcome

    def as_json(self) -> str:
        """The tally, and what was asked for."""
        document = {"dry_run": self._options.dry_run, "to": self._targets(), **msgspec.structs.asdict(self.tally)}
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"

    def as_text(self) -> str:
        tally, dry = self.tally, self._options.dry_run
        failing = ", ".join(f"{reason} {count:,}" for reason, count in tally.failing.most_common())
        facts = [
            ("read", f"{number(tally.read, 'record')} in {number(tally.objects, 'quarantine object')}"),
            ("matched", number(tally.matched, "record")),
            ("before", f"{number(tally.already_requeued, 'record')} requeued already"),
            ("good now", number(tally.good, "record")),
            ("produced", "nothing: a dry run" if dry else number(tally.produced, "record")),
            ("still bad", f"{tally.failing.total():,}: {failing}" if failing else "none"),
            *self._left_alone(),
            *(("would be", example) for example in tally.examples),
        ]
        lines = [f"requeue to {', '.join(self._targets())}", ""]
        lines += [f"  {label:12}{fact}" for label, fact in facts]
        return "\n".join(lines) + "\n"

    def _left_alone(self) -> list[tuple[str, str]]:
        tally = self.tally
        objects = number(tally.superseded_objects, "object"), number(tally.unlanded_objects, "object")
        return [
            (label, fact)
            for count, label, fact in (
                (
                    tally.superseded_objects,
                    "superseded",
                    f"{number(tally.superseded_records, 'record')} in {objects[0]} of attempts that did not land: "
                    "in another object, or rows",
                ),
                (
                    tally.unlanded_objects,
                    "not landed",
                    f"{number(tally.unlanded_records, 'record')} in {objects[1]} without a data object beside it: "
                    "not landed yet, or removed",
                ),
                (tally.unreadable_objects, "unreadable", f"{tally.unreadable_objects:,}: see the log"),
            )
            if count
        ]

    def _targets(self) -> list[str]:
        return [self._options.to] if self._options.to is not None else list(self._config.kafka.topics)
