"""What `ingestd check` says of brokers, topics and the group. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from ingestd.capacity.estimate import Traffic
from ingestd.config.model import Config, KafkaConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError, IngestdError, SourceError
from ingestd.core.formatting import number
from ingestd.core.records import EpochEnd, GroupState, LogRange, Position, Record, TopicPartition
from ingestd.preflight import CheckFinding, failed, not_tried, note, ok, some, wrong

OUTAGE_S = Seconds(3 * 86400)  # a weekend without staff: a log should bridge it
#: The topic settings that matter to ingestd.
SETTINGS = ("cleanup.policy", "max.message.bytes", "min.compaction.lag.ms", "retention.bytes", "retention.ms")

_RECORD_OVERHEAD = 70  # bytes that a batch of one record takes besides its value, at least
_GONE = "Dead"  # Kafka's word for a group that does not exist


T = TypeVar("T")


class Facts(msgspec.Struct):
    """The answers to what was asked. None: it could not be asked."""

    servers: Mapping[str, str | SourceError] | ConfigError | None = None  # of each its cluster's id
    topics: Mapping[str, int | SourceError] | SourceError | None = None  # of each how many partitions it has
    trouble: SourceError | None = None  # why nothing more was asked
    brokers: Mapping[str, SourceError | None] | SourceError | None = None
    group: GroupState | SourceError | None = None
    may_join: bool | SourceError | None = None
    logs: Mapping[TopicPartition, LogRange] | SourceError | None = None
    committed: Mapping[TopicPartition, Position | None] | SourceError | None = None
    epoch_ends: Mapping[tuple[TopicPartition, int], EpochEnd | None] | SourceError | None = None  # of committed epochs
    starts: Mapping[TopicPartition, int] | SourceError | None = None  # where no position is committed
    settings: Mapping[str, Mapping[str, str]] | SourceError | None = None
    traffic: Mapping[TopicPartition, Traffic] | SourceError | None = None
    records: Mapping[TopicPartition, Sequence[Record]] | SourceError | None = None


def findings(facts: Facts, config: Config, commit_tag: str, *, in_sink: bool | None) -> Iterator[CheckFinding]:
    """The report on Kafka, without the records."""
    kafka = config.kafka
    yield security(kafka)
    unreached = "no broker answers" if facts.trouble is None else "Kafka cannot be used"

    def judged(
        check: str, fact: T | IngestdError | None, judge: Callable[[T], Iterable[CheckFinding]]
    ) -> Iterator[CheckFinding]:
        if fact is None:
            yield not_tried(check, unreached)
        elif isinstance(fact, IngestdError):
            yield failed(check, fact)
        else:
            yield from judge(fact)

    yield from judged("kafka.servers", facts.servers, servers)
    yield from judged("kafka.topics", facts.topics, topics)
    if facts.trouble is not None:
        yield failed("kafka.brokers", facts.trouble)
    else:
        yield from judged("kafka.brokers", facts.brokers, lambda it: [brokers(it)])
    yield from judged("kafka.group", facts.group, lambda it: [group(kafka.group_id, it)])
    yield from judged("kafka.rights", facts.may_join, lambda it: [right_to_join(kafka.group_id, given=it)])
    logs = facts.logs
    existing = (
        [topic for topic, it in facts.topics.items() if isinstance(it, int)]
        if isinstance(facts.topics, Mapping)
        else []
    )
    if not isinstance(logs, Mapping):
        yield from judged("kafka.offsets", logs, lambda _: [])
    else:
        yield from judged(
            "kafka.offsets", facts.committed, lambda it: offsets(logs, it, commit_tag, skip_lost=kafka.skip_lost)
        )
        committed = facts.committed if isinstance(facts.committed, Mapping) else {}
        yield from judged(
            "kafka.epochs",
            facts.epoch_ends,
            lambda it: truncations(committed, it, commit_tag, fork=kafka.on_truncation == "fork"),
        )
        if not isinstance(facts.starts, Mapping) or facts.starts:
            yield from judged("kafka.start", facts.starts, lambda it: [start(kafka.start, logs, it, in_sink=in_sink)])
    yield from judged("topic.settings", facts.settings, lambda it: settings(it, existing, config))


def readable(facts: Facts) -> bool:
    """Whether a run could begin to read."""
    counts = facts.topics.values() if isinstance(facts.topics, Mapping) else [None]
    return all(isinstance(count, int) for count in counts) and isinstance(facts.logs, Mapping)


def security(kafka: KafkaConfig) -> CheckFinding:
    """How connections are protected."""
    protocol = kafka.security_protocol
    seen = f"{protocol} with {kafka.sasl_mechanism}" if protocol.startswith("SASL_") else protocol
    if protocol.endswith("SSL"):
        return ok("kafka.security", seen)
    todo = (
        ""
        if all(is_local(server) for server in kafka.bootstrap_servers)
        else "use SASL_SSL beyond a network of your own"
    )
    return note("kafka.security", f"{seen}: events, and any password, travel unencrypted", todo)


def is_local(server: str) -> bool:
    """Whether host:port, or a host alone, is on this machine."""
    return urlsplit(f"//{server}").hostname in {"127.0.0.1", "localhost", "::1"}


def servers(found: Mapping[str, str | SourceError]) -> Iterator[CheckFinding]:
    """Whether the bootstrap servers answer: each with its cluster's id, or an error."""
    ids = sorted({it for it in found.values() if isinstance(it, str)})
    silent = {server: it for server, it in found.items() if isinstance(it, SourceError)}
    answered = f"{len(found) - len(silent)} of {len(found)} in kafka.bootstrap_servers answered"
    if not ids:
        for error in {str(it): it for it in silent.values()}.values():
            yield failed("kafka.servers", error)
    elif len(ids) > 1:
        yield wrong("kafka.servers", f"{answered}, of clusters {', '.join(ids)}", "name the servers of one cluster")
    elif silent:
        server, error = next(iter(silent.items()))
        todo = error.hint or "remove it where it is gone for good"
        yield note("kafka.servers", f"{answered}, cluster {ids[0]}; {server} does not: {error.args[0]}", todo)
    else:
        yield ok("kafka.servers", f"{answered}, cluster {ids[0]}")


def brokers(found: Mapping[str, SourceError | None]) -> CheckFinding:
    """Whether each broker can be reached at its advertised address."""
    silent = {server: error for server, error in found.items() if error is not None}
    if not silent:
        return ok("kafka.brokers", f"{number(len(found), 'broker')} reached: {some(list(found))}")
    server, error = next(iter(silent.items()))
    return wrong(
        "kafka.brokers",
        f"{len(silent)} of {number(len(found), 'broker')} cannot be reached, such as {server}: {error.args[0]}",
        error.hint
        or "that is where brokers send their clients (advertised.listeners): start it, correct it, or open the way",
    )


def topics(found: Mapping[str, int | SourceError]) -> Iterator[CheckFinding]:
    """How many partitions each topic has, or why that is not known."""
    counts = {topic: it for topic, it in found.items() if not isinstance(it, SourceError)}
    for error in found.values():
        if isinstance(error, SourceError):
            yield failed("kafka.topics", error)
    if counts:
        words = [f"{topic} has {number(count, 'partition')}" for topic, count in counts.items()]
        yield ok("kafka.topics", some(words, most=10))


def group(name: str, state: GroupState) -> CheckFinding:
    """Whether the group has members already."""
    if state.members:
        members = f"{number(len(state.members), 'member')} ({some(state.members)})"
        seen = f"{name} is {state.state} with {members}: it is running already"
        return note("kafka.group", seen, "one more process shares its partitions; give a test another kafka.group_id")
    if state.state == _GONE:
        return ok("kafka.group", f"{name} does not exist yet: the first process creates it")
    return ok("kafka.group", f"{name} is {state.state} and has no members")


def right_to_join(name: str, *, given: bool) -> CheckFinding:
    if given:
        return ok("kafka.rights", f"this user may join group {name} and commit")
    return wrong("kafka.rights", f"this user may not join group {name}", "grant READ on the group")


def offsets(
    logs: Mapping[TopicPartition, LogRange],
    committed: Mapping[TopicPartition, Position | None],
    commit_tag: str,
    *,
    skip_lost: bool,
) -> Iterator[CheckFinding]:
    """The group's offsets by topic, and those from which a run would not resume."""
    at = {partition: position for partition, position in committed.items() if position is not None}
    for topic in sorted({partition.topic for partition in at}):
        mine = {partition: position for partition, position in at.items() if partition.topic == topic}
        lag = sum(max(0, logs[partition].end - position.offset) for partition, position in mine.items())
        total = sum(partition.topic == topic for partition in logs)
        yield ok("kafka.offsets", f"{topic}: committed in {len(mine)} of {number(total, 'partition')}, lag {lag:,}")
    if beyond := [it for it, position in at.items() if position.offset > logs[it].end]:
        seen = f"committed past the log's end in {some(beyond)}: was the topic deleted and created again?"
        yield wrong("kafka.offsets", seen, "a run halts these: set a new sink.lineage, and reset the group's offsets")
    lost = [it for it, position in at.items() if position.offset < logs[it].start]
    if lost and skip_lost:
        yield note("kafka.offsets", f"retention has overtaken {some(lost)}; kafka.skip_lost skips the gap")
    elif lost:
        todo = "a run halts these: set kafka.skip_lost = true to go on and record the gap"
        yield wrong("kafka.offsets", f"retention has overtaken {some(lost)}: records are lost", todo)
    if strange := [it for it, position in at.items() if position.commit_tag != commit_tag]:
        seen = f"committed by something else than ingestd with this sink and lineage in {some(strange)}"
        yield note("kafka.offsets", seen, "a run looks in the sink whether it can go on from there; --dry-run tells")


def truncations(
    committed: Mapping[TopicPartition, Position | None],
    ends: Mapping[tuple[TopicPartition, int], EpochEnd | None],
    commit_tag: str,
    *,
    fork: bool,
) -> Iterator[CheckFinding]:
    """The partitions whose log has lost records that were read. `ends`: where the committed epochs end in the logs."""
    lost = []
    for partition, position in committed.items():
        if position is None or position.leader_epoch is None:
            continue
        end = ends.get((partition, position.leader_epoch))
        missing = end is not None and end.epoch != position.leader_epoch and position.commit_tag == commit_tag
        if missing or (end is not None and end.end < position.offset):
            lost.append(partition)
    seen = f"Kafka has lost records of {some(lost)} that were read: its log was truncated"
    if lost and fork:
        yield note("kafka.epochs", seen, "a run ingests what was written there since, under names of its own")
    elif lost:
        yield wrong("kafka.epochs", seen, 'a run halts these: set kafka.on_truncation = "fork" to go on')


def start(
    policy: str, logs: Mapping[TopicPartition, LogRange], starts: Mapping[TopicPartition, int], *, in_sink: bool | None
) -> CheckFinding:
    """Where a run begins in partitions without a committed offset. `in_sink`: are there objects; None: not known."""
    waiting = sum(max(0, logs[partition].end - offset) for partition, offset in starts.items())
    where = f"{len(starts)} of {number(len(logs), 'partition')} have no committed offset: "
    begins = f"kafka.start = {policy} begins {number(waiting, 'record')} before the end"
    if not in_sink:
        return ok("kafka.start", where + begins)
    seen = f"{where}where the sink has objects of one, it goes on behind them; else {begins}"
    return note("kafka.start", seen, "--dry-run shows which")


def settings(found: Mapping[str, Mapping[str, str]], topics: Sequence[str], config: Config) -> Iterator[CheckFinding]:
    """What the settings of `topics` mean for a run. Topics whose settings may not be read are not in `found`."""
    hidden = [topic for topic in topics if topic not in found]
    if hidden:
        seen = f"the settings of {some(hidden)} may not be read by this user"
        todo = f"grant DESCRIBE_CONFIGS on the topic, or look at {', '.join(SETTINGS)} yourself"
        yield note("topic.settings", seen, todo)
    for topic, values in found.items():
        numbers = {name: int(value) for name, value in values.items() if value.lstrip("-").isdigit()}
        yield _retention(topic, values.get("cleanup.policy", "delete"), numbers)
        if "compact" in values.get("cleanup.policy", ""):
            yield _compaction(topic, numbers.get("min.compaction.lag.ms", 0) / 1000)
        yield _message_size(topic, numbers.get("max.message.bytes", 0), config)


def _retention(topic: str, policy: str, numbers: Mapping[str, int]) -> CheckFinding:
    check = "topic.retention"
    time, most = numbers.get("retention.ms", -1), numbers.get("retention.bytes", -1)
    if "delete" not in policy:
        return ok(check, f"{topic} deletes nothing by age")
    kept = "for ever" if time < 0 else f"for {Seconds(time / 1000)}"
    seen = f"{topic} keeps records {kept}" + (f", and at most {most:,} bytes a partition" if most >= 0 else "")
    if 0 <= time < OUTAGE_S * 1000:
        todo = f"an outage that is longer loses records: give it retention.ms = {int(OUTAGE_S * 1000)} or more"
        return note(check, seen, todo)
    if most >= 0:
        return note(check, seen, "retention.bytes must bridge an outage, too, at your busiest")
    return ok(check, seen)


def _compaction(topic: str, lag: float) -> CheckFinding:
    check = "topic.compaction"
    if lag < OUTAGE_S:
        return wrong(
            check,
            f"{topic} is compacted after {Seconds(lag)}: between two attempts at a batch its log may change",
            f"give it min.compaction.lag.ms = {int(OUTAGE_S * 1000)}, or longer than any outage of yours",
        )
    return ok(check, f"{topic} is compacted after {Seconds(lag)}")


def _message_size(topic: str, most: int, config: Config) -> CheckFinding:
    check = "topic.message_size"
    seen = f"{topic} takes messages of up to {most:,} bytes"
    if most > config.kafka.fetch_max_bytes:
        return note(check, f"{seen}, more than kafka.fetch_max_bytes", "raise it, or what is fetched ahead outgrows it")
    if most - _RECORD_OVERHEAD > config.events.max_bytes:
        todo = f"an event of more than events.max_bytes = {config.events.max_bytes} goes to the quarantine"
        return note(check, seen, todo)
    return ok(check, seen)
