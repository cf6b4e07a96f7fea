"""`ingestd check`: tries everything that a run needs, with the settings of the run, and reports each finding."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec
from msgspec.structs import replace

from ingestd import collector_wiring, inspection, wiring
from ingestd.capacity import estimate
from ingestd.cli.flags import INSPECTION, JSON, SETTINGS, CommandFlag, SettingFlag
from ingestd.cli.output import say, say_json, say_line
from ingestd.cli.prepare import one_shot
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.core.errors import EXIT_PROBLEMS, ConfigError, JournalInUseError, SourceError
from ingestd.core.events import load_model
from ingestd.core.records import GroupState, Record
from ingestd.core.renaming import check_targets
from ingestd.core.validation import Validator
from ingestd.ops import logs
from ingestd.preflight import (
    CheckFinding,
    Verdict,
    cluster,
    failed,
    not_tried,
    ok,
    records,
    renames,
    sink_probe,
    store,
    value_formats,
    values,
    volume,
    wrong,
)
from ingestd.preflight.dry_run import DryRun, findings, would
from ingestd.sinks.base import Sink

if TYPE_CHECKING:
    from ingestd.preflight.queue import QueueFacts

T = TypeVar("T")

_LABELS = {Verdict.OK: "ok", Verdict.NOTE: "note", Verdict.WRONG: "WRONG", Verdict.NOT_TRIED: "-"}
_COUNT_LABELS = {Verdict.OK: "ok", Verdict.NOTE: "to note", Verdict.WRONG: "WRONG", Verdict.NOT_TRIED: "not tried"}


EXAMPLES = """\
examples:
  ingestd check --config config/production.toml
  ingestd check --config config/production.toml --dry-run --duration 1m
"""

FLAGS: list[click.Parameter] = [
    *INSPECTION,
    CommandFlag("--dry-run", is_flag=True, section="Dry run", help="then consume, and print what would be written"),
    SettingFlag("--duration", "1m", "duration", "end the dry run after this long", section="Dry run"),
    JSON,
    *SETTINGS,
]


class Options(msgspec.Struct, frozen=True):
    """What the flags say."""

    dry_run: bool = False
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Check, and print each finding at once. Returns 0, or EXIT_PROBLEMS where something is wrong."""
    config = settings.config
    if config.log.level != "DEBUG":
        logs.setup(replace(one_shot(config.log), level="ERROR"))  # the report says what warnings would say
    report = CheckReport(json=options.json)
    report.add(values.region(config, settings.origins["s3.region"], os.environ))
    wiring.run(_check(config, report, dry_run=options.dry_run))
    return report.end()


class CheckReport:
    """Prints findings and counts them."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._counts: Counter[Verdict] = Counter()

    def add(self, findings: Iterable[CheckFinding]) -> None:
        for finding in findings:
            self._counts[finding.verdict] += 1
            if self.json:
                say_json("check", finding)
            else:
                todo = f" -> {finding.todo}" if finding.todo else ""
                say_line(_LABELS[finding.verdict], f"{finding.check}: {finding.seen}{todo}")

    def end(self) -> int:
        """Print the number of findings of each kind; returns the exit code."""
        counts = {verdict: self._counts[verdict] for verdict in Verdict}
        if self.json:
            say_json("result", counts)
        else:
            parts = [f"{count} {_COUNT_LABELS[verdict]}" for verdict, count in counts.items() if count]
            say(f"\n{', '.join(parts)}\n")
        return EXIT_PROBLEMS if counts[Verdict.WRONG] else 0


async def _check(config: Config, report: CheckReport, *, dry_run: bool) -> None:
    layout = wiring.make_keys(config)
    sink = wiring.make_sink(config)
    validator = _validator(config, report)
    report.add(values.findings(config))
    place = sink_probe.SinkProbe(config, sink, layout)
    try:
        facts, _ = await asyncio.gather(_kafka(config), place.look())
        queue_facts: QueueFacts | None = None
        if facts is not None:
            report.add(cluster.findings(facts, config, layout.commit_tag(sink.url), in_sink=place.holds_objects))
        elif config.source == "kinesis":
            await _stream(config, report, validator)
        elif config.source == "sqs":
            queue_facts = await _queue(config, report)
        else:
            report.add([not_tried("kafka", f"source = {config.source}")])
        if config.collect.sources:
            from ingestd.preflight import collector_probe  # noqa: PLC0415  slow to import

            report.add(await collector_probe.look(config))
        found = await _records(config, report, facts, validator)
        report.add(place.findings)
        if (free := await asyncio.to_thread(sink_probe.free_space, config)) is not None:
            report.add([store.space(free, config, found)])
        if dry_run:
            why_not = _why_not(config, facts, place, validator)
            if queue_facts is not None:
                why_not = why_not or queue_facts.why_no_dry_run
            if validator is None or why_not:
                report.add([not_tried("dry_run", why_not)])
            elif queue_facts is not None:
                await _queue_dry_run(config, report, sink, validator, queue_facts.max_receive_count)
            else:
                await _dry_run(config, report, sink, validator)
    finally:
        await sink.close()


def _validator(config: Config, report: CheckReport) -> Validator | None:
    try:
        model = load_model(config.events.model)
    except ConfigError as error:
        report.add([wrong("events.model", error.args[0], error.hint)])
        return None
    try:
        check_targets(model, config.events.rename)
    except ConfigError as error:
        report.add([wrong("events.rename", error.args[0], error.hint)])
        return None
    types = "any JSON object is a row" if model.any_json else ", ".join(sorted(model.types))
    report.add([ok("events.model", f"{config.events.model or 'marketing events'}: {types}")])
    try:
        return wiring.make_validator(config, model)
    except ConfigError as error:
        report.add([wrong("kafka.value_format", error.args[0], error.hint)])
        return None


async def _kafka(config: Config) -> cluster.Facts | None:
    if config.source != "kafka":
        return None
    from ingestd.preflight import kafka_probe  # noqa: PLC0415  slow to import

    return await kafka_probe.look(config)


async def _stream(config: Config, report: CheckReport, validator: Validator | None) -> None:
    """Asks Kinesis, and validates a sample of its records."""
    from ingestd.preflight import kinesis_probe, stream  # noqa: PLC0415  slow to import

    async with inspection.open_kinesis(config) as client:
        facts = await kinesis_probe.look(config.kinesis, client)
    report.add(stream.findings(facts, config.kinesis))
    if isinstance(facts.records, SourceError):
        report.add([failed("kinesis.read", facts.records)])
    elif facts.records is None or validator is None:
        report.add([not_tried("kinesis.read", "the stream or events.model cannot be used")])
    else:
        report.add(records.findings(records.take(facts.records, validator), config.breaker, "kinesis"))
        report.add(_renames(config, validator, facts.records.values()))


async def _queue(config: Config, report: CheckReport) -> "QueueFacts":
    """Asks SQS; receives nothing."""
    from ingestd.preflight import queue, sqs_probe  # noqa: PLC0415  slow to import

    facts = await sqs_probe.look(config.sqs)
    report.add(queue.findings(facts, config))
    return facts


async def _records(
    config: Config, report: CheckReport, facts: cluster.Facts | None, validator: Validator | None
) -> estimate.Estimate | None:
    """Validates a sample of records, and estimates memory and objects from their number and size."""
    if facts is None:
        return None
    sample = None
    if facts.records is None or validator is None:
        why = "events.model cannot be used" if facts.records is not None else "Kafka cannot be read"
        report.add([not_tried("kafka.read", why)])
    elif isinstance(facts.records, SourceError):
        report.add([failed("kafka.read", facts.records)])
    else:
        report.add(await value_formats.findings(config, facts.records, validator.values))
        sample = records.take(facts.records, validator)
        report.add(records.findings(sample, config.breaker))
        report.add(_renames(config, validator, facts.records.values()))
    if not isinstance(facts.traffic, Mapping):
        return None
    found = estimate.estimate(facts.traffic, sample, config.batch) if sample is not None else None
    members = len(facts.group.members) if isinstance(facts.group, GroupState) else 0
    report.add([values.memory(config, len(facts.traffic), members, found)])
    report.add(volume.findings(facts.traffic, found, config.batch))
    if found is not None and report.json:
        say_json("estimate", found)
    return found


def _renames(config: Config, validator: Validator, sample: Iterable[Sequence[Record]]) -> Iterator[CheckFinding]:
    every = [record for records_of_one in sample for record in records_of_one]
    return renames.findings(config.events, load_model(config.events.model), every, validator.values)


def _why_not(
    config: Config, facts: cluster.Facts | None, place: sink_probe.SinkProbe, validator: Validator | None
) -> str:
    """Why a dry run is impossible; empty where it is possible."""
    if config.source == "collector" and not collector_wiring.journal_path(config.collect).exists():
        return "the journal is made by the first run"
    if validator is None:
        return "events.model cannot be used"
    if not place.readable:
        return "the sink cannot be read"
    if facts is not None and not cluster.readable(facts):
        return "Kafka cannot be read"
    return ""


async def _dry_run(config: Config, report: CheckReport, sink: Sink, validator: Validator) -> None:
    if not report.json:
        say("\nDry run: reads from the committed position; writes and commits nothing.\n\n")
    try:
        async with inspection.open_read_only_source(config, sink) as source:
            summary = await DryRun(config, source, sink, validator, _teller(report, would)).run()
    except JournalInUseError as error:
        report.add([not_tried("dry_run", f"{error.args[0]}: stop it for a dry run")])
        return
    if report.json:
        say_json("summary", summary)
    report.add(findings(summary))


async def _queue_dry_run(
    config: Config, report: CheckReport, sink: Sink, validator: Validator, most: int | None
) -> None:
    from ingestd.preflight import queue_dry_run  # noqa: PLC0415  slow to import

    if not report.json:
        say("\nDry run: receives messages, and gives them back; writes and deletes nothing. Each receipt counts.\n\n")
    config = queue_dry_run.settings(config)
    source = queue_dry_run.BorrowedQueue(wiring.make_queue_source(config), most)
    tell = _teller(report, queue_dry_run.would)
    summary = await queue_dry_run.QueueDryRun(config, source, sink, validator, tell).run()
    if report.json:
        say_json("summary", summary)
    report.add(queue_dry_run.findings(summary, config.breaker.max_share, most))
    report.add(_renames(config, validator, [[it for it in source.sample if it.refused is None]]))


def _teller(report: CheckReport, words: Callable[[T], str]) -> Callable[[T], None]:
    """Prints objects that a run would write."""

    def tell(object_: T) -> None:
        if report.json:
            say_json("object", object_)
        else:
            say_line("would", words(object_))

    return tell
