"""Runs a verification: asks Kafka or the journal, scans the sink, compares the two and makes the report."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

import msgspec

from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.config.types import Seconds, Size
from ingestd.core.errors import JournalInUseError, SinkForbidden, SourceError
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.queue_keys import QueueKeys
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import Listing
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.body_verifier import BodyVerifier
from ingestd.verify.chains import ChainVerifier, Scope
from ingestd.verify.findings import VerifyReport
from ingestd.verify.kafka_comparison import ComparisonRules, LogState, compare, needs_second_state
from ingestd.verify.log_reader import FETCH_BYTES, LogInspector, ask_log
from ingestd.verify.queue_report import make_queue_report
from ingestd.verify.queue_verifier import QueueScope, QueueVerifier
from ingestd.verify.report import ReportHeader, make_report
from ingestd.verify.scanner import MAX_HEADS, MAX_LISTINGS, Scanner, ScanProgress
from ingestd.verify.shard_comparison import compare_shards
from ingestd.verify.truncation import LogEvidence, find_truncations

PATIENCE_S = 60.0  # for one call to the sink, retries included
RETRY_MAX_S = 5.0  # between two tries: a verification gives up after a minute


class VerifyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to verify. Times are Kafka timestamps in milliseconds."""

    since: int | None = None
    until: int | None = None
    read: bool = False
    objects_only: bool = False


OpenInspector = Callable[[Config], AbstractAsyncContextManager[LogInspector]]
"""Connects to Kafka."""


class HasProgress(Protocol):
    """A scan."""

    @property
    def progress(self) -> ScanProgress: ...


ShowProgress = Callable[[HasProgress], AbstractAsyncContextManager[None]]
"""Shows how far a scan is while the context is open."""


async def verify(
    settings: Settings,
    options: VerifyOptions,
    sink: Sink,
    open_inspector: OpenInspector,
    show_progress: ShowProgress = lambda _: nullcontext(),
) -> VerifyReport:
    """Verify the chains in `sink`. The sink need not be started: starting one prepares it for writing."""
    config = settings.config
    if config.source == "sqs":
        return await _verify_queue(settings, options, sink, show_progress)
    exactly_once = config.sink.delivery == "exactly-once"
    layout = ObjectKeys(config.sink.lineage, exactly_once=exactly_once, wide=config.wide)
    compared = config.source in {"kafka", "kinesis", "collector"} and not options.objects_only and options.until is None
    scope = Scope(topics=_topics(settings, options), since=options.since, until=options.until)
    retrier = SinkRetrier(many_calls(config).sink, effect="retrying")
    await _require_access(sink, retrier, layout.events)
    # Before the first listing: every object whose offset is committed by now is there to be listed.
    state, why_not = await _ask_log(config, open_inspector) if compared else (None, "")
    chains = ChainVerifier(layout, scope, state.commits if state else {}, state.logs if state else {})
    if why_not:
        chains.notes.add("journal_in_use", why_not)
    bodies = BodyVerifier(sink, retrier, chains, PATIENCE_S + config.s3.put_timeout) if options.read else None
    scanner = Scanner(Listing(sink, retrier, PATIENCE_S), chains, bodies)
    async with show_progress(scanner):
        await scanner.run()
    if state is not None and config.source == "kinesis":
        await _compare_shards(config, open_inspector, chains, state)
    elif state is not None:
        rules = ComparisonRules(
            commit_tag=layout.commit_tag(sink.url),
            earliest=config.source == "collector" or config.kafka.start == "earliest",
            exactly_once=layout.exactly_once,
            all_times=scope.all_times,
        )
        later, evidence = await _ask_again(config, open_inspector, chains, state)
        if evidence is not None:
            for chain in [chains.partitions[partition] for partition in evidence.logs]:
                if any(find_truncations(chain, evidence)):
                    await scanner.find_epochs(chain)
        compare(chains, state, later, evidence, rules)
    header = ReportHeader(
        sink=sink.url,
        lineage=config.sink.lineage,
        delivery=config.sink.delivery,
        cluster=state.cluster if state is not None else None,
        group=None if state is None else config.kafka.group_id if config.source == "kafka" else "",
        since=options.since,
        until=options.until,
        read=options.read,
        source=config.source,
        days=scanner.progress.all_days,
    )
    return make_report(chains, state, header)


async def _verify_queue(
    settings: Settings, options: VerifyOptions, sink: Sink, show_progress: ShowProgress
) -> VerifyReport:
    """Verify a queue's objects; the queue itself has no memory to compare them with."""
    config = settings.config
    retrier = SinkRetrier(many_calls(config).sink, effect="retrying")
    keys = QueueKeys(config.sink.lineage)
    await _require_access(sink, retrier, keys.events)
    scope = QueueScope(
        queue=config.sqs.queue_name,
        since=options.since,
        until=options.until,
        read=options.read,
        fenced=config.fenced,
        now_ms=int(time.time() * 1000),
    )
    verifier = QueueVerifier(Listing(sink, retrier, PATIENCE_S), keys, scope)
    async with show_progress(verifier):
        await verifier.run()
    header = ReportHeader(
        sink=sink.url,
        lineage=config.sink.lineage,
        delivery=config.sqs.delivery,
        cluster=None,
        group=None,
        since=options.since,
        until=options.until,
        read=options.read,
        source=config.source,
        days=verifier.progress.all_days,
    )
    return make_queue_report(verifier, header)


def many_calls(config: Config) -> Config:
    """The same configuration with as many calls to the sink at once as a scan makes."""
    replace = msgspec.structs.replace
    retry_max = Seconds(min(config.sink.retry_max, RETRY_MAX_S))
    return replace(config, sink=replace(config.sink, concurrency=MAX_HEADS + MAX_LISTINGS, retry_max=retry_max))


async def _require_access(sink: Sink, retrier: SinkRetrier, root: str) -> None:
    """Raise ``SinkForbidden`` at once where the sink denies access; during the scan, it may be temporary."""

    async def folders() -> SinkForbidden | None:
        try:
            await sink.folders(root)
        except SinkForbidden as error:
            return error
        return None

    if (denied := await retrier.call_briefly(folders, patience_s=PATIENCE_S)) is not None:
        raise denied


def _topics(settings: Settings, options: VerifyOptions) -> frozenset[str] | None:
    """The topics to verify; None for all in the sink, where Kafka is not used and the user named no topic."""
    config, origins = settings.config, settings.origins
    if config.source == "kinesis":
        left_open = options.objects_only and origins["kinesis.stream"] == "default"
        return None if left_open else frozenset([config.kinesis.stream])
    if (options.objects_only or config.source != "kafka") and origins["kafka.topics"] == "default":
        return frozenset([config.collect.topic]) if config.source == "collector" else None
    return frozenset(config.kafka.topics)


async def _ask_log(config: Config, open_inspector: OpenInspector) -> tuple[LogState | None, str]:
    """The state of the log; None, and why, where a collector that runs has it."""
    try:
        async with open_inspector(config) as inspector:
            return await _state(inspector), ""
    except JournalInUseError as error:
        return None, error.message


async def _state(inspector: LogInspector) -> LogState:
    commits = await inspector.committed(inspector.partitions)
    logs = await inspector.log_ranges(inspector.partitions)
    pins = await inspector.pins(inspector.partitions)
    return LogState(cluster=inspector.cluster_id, commits=dict(commits), logs=dict(logs), pins=dict(pins))


async def _compare_shards(
    config: Config, open_inspector: OpenInspector, chains: ChainVerifier, state: LogState
) -> None:
    evidence = None
    try:
        async with open_inspector(config) as inspector:
            evidence = await ask_log(inspector, chains)
    except SourceError as error:
        chains.notes.add("not_asked_again", str(error))
    compare_shards(chains, state, evidence)


async def _ask_again(
    config: Config, open_inspector: OpenInspector, chains: ChainVerifier, state: LogState
) -> tuple[LogState | None, LogEvidence | None]:
    """Kafka's state after the scan, and whether its log has what is in objects; None where Kafka does not answer.

    The state is None where it is not needed, too.
    """
    if not any(chain.extent for chain in chains.partitions.values()) and not needs_second_state(chains, state):
        return None, None
    fetch = Size(min(config.kafka.partition_fetch_bytes, FETCH_BYTES))
    reading = msgspec.structs.replace(config, kafka=msgspec.structs.replace(config.kafka, partition_fetch_bytes=fetch))
    try:
        async with open_inspector(reading) as inspector:
            later = await _state(inspector) if needs_second_state(chains, state) else None
            return later, await ask_log(inspector, chains)
    except SourceError as error:
        chains.notes.add("not_asked_again", str(error))
        return None, None
