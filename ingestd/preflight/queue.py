"""What `ingestd check` says of an SQS queue and of a sample of its messages. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from ingestd.capacity.estimate import Sample
from ingestd.config.model import Config
from ingestd.config.types import Seconds, Size
from ingestd.core.errors import SourceError
from ingestd.core.formatting import number, size
from ingestd.core.records import TopicPartition
from ingestd.core.validation import Rejected, Validator
from ingestd.preflight import CheckFinding, not_tried, note, ok, wrong
from ingestd.sources.sqs.client import PER_BATCH, QueueAttributes
from ingestd.sources.sqs.port import MAX_IN_FLIGHT, MAX_VISIBILITY_S, Message

OUTAGE_S = Seconds(3 * 86400)  # a weekend without staff: a queue should bridge it
FEW_RECEIVES = 5  # AWS advises no fewer before a message is a dead letter


class QueueFacts(msgspec.Struct):
    """The answers to what was asked. None: it could not be asked, or, of a right, that it is given."""

    attributes: QueueAttributes | SourceError | None = None
    extend: SourceError | None = None
    delete: SourceError | None = None
    sample: Sequence[Message] | SourceError | None = None
    shown: bool = True  # whether all messages of the sample can be received again


def findings(facts: QueueFacts, config: Config) -> Iterator[CheckFinding]:
    """The report on the queue, without the sample."""
    found = facts.attributes
    if not isinstance(found, QueueAttributes):
        yield failure("sqs.queue", found) if found is not None else not_tried("sqs.queue", "nothing was asked")
        return
    fifo = found.arn.endswith(".fifo")
    kind = "FIFO" if fifo else "standard"
    waiting = f"{found.visible:,} visible, {found.in_flight:,} in flight, {found.delayed:,} delayed"
    yield ok("sqs.queue", f"{found.arn}, {kind}: {waiting}")
    yield _rights(facts)
    yield _retention(found)
    yield _in_flight(config)
    yield from _redrive(found)
    yield from _encryption(found)
    yield from _size(found, config)
    if fifo:
        yield _groups(config)


def failure(check: str, error: SourceError) -> CheckFinding:
    """The finding for a question that failed."""
    return wrong(check, error.args[0], error.hint or "check the network, sqs.queue_url and sqs.endpoint_url")


def max_receive_count(attributes: QueueAttributes) -> int | None:
    """How often a message is received before it is a dead letter; None: it never is one."""
    try:
        return int(msgspec.json.decode(attributes.redrive_policy, type=_RedrivePolicy).maxReceiveCount)
    except (msgspec.DecodeError, ValueError):
        return None


class _RedrivePolicy(msgspec.Struct):
    maxReceiveCount: int | str  # noqa: N815 - SQS's name


def _rights(facts: QueueFacts) -> CheckFinding:
    for error in (facts.delete, facts.extend):
        if error is not None:
            return failure("sqs.rights", error)
    seen = "this process may get attributes, change the visibility and delete"
    if facts.sample is None:
        return ok("sqs.rights", f"{seen}; whether it may receive, --dry-run tries")
    return ok("sqs.rights", seen)


def _retention(found: QueueAttributes) -> CheckFinding:
    if found.retention_s is None:
        return note("sqs.retention", "the service does not say for how long it keeps messages")
    kept = Seconds(found.retention_s)
    if kept >= OUTAGE_S:
        return ok("sqs.retention", f"messages are kept for {kept}")
    todo = f"an outage that is longer loses messages: set MessageRetentionPeriod to {int(OUTAGE_S)} or more"
    return note("sqs.retention", f"messages are kept for {kept}", todo)


def _in_flight(config: Config) -> CheckFinding:
    """Messages are in flight until their batch has landed."""
    rate = MAX_IN_FLIGHT / config.batch.interval
    seen = f"SQS hands out {MAX_IN_FLIGHT:,} messages before one is deleted: with batch.interval = "
    return ok("sqs.in_flight", f"{seen}{config.batch.interval} that is {rate:,.0f} a second of all daemons together")


def _redrive(found: QueueAttributes) -> Iterator[CheckFinding]:
    most = max_receive_count(found)
    if most is None:
        yield ok("sqs.dead_letters", "no dead-letter queue; none is needed: what is rejected goes to the quarantine")
        return
    longest = Seconds(MAX_VISIBILITY_S)
    seen = (
        f"maxReceiveCount = {most}: a message is a dead letter, and is not ingested, after {number(most, 'receipt')} "
        f"without a deletion. A kill of the daemon is one, and an outage of the sink is one for each {longest}, which "
        f"is {Seconds(most * MAX_VISIBILITY_S)} in all"
    )
    if most == 1:
        todo = f"a single kill makes dead letters of good messages: set maxReceiveCount to {FEW_RECEIVES} or more"
        yield wrong("sqs.dead_letters", seen, todo)
    elif most < FEW_RECEIVES:
        yield note("sqs.dead_letters", seen, f"set maxReceiveCount to {FEW_RECEIVES} or more")
    else:
        yield ok("sqs.dead_letters", seen)


def _encryption(found: QueueAttributes) -> Iterator[CheckFinding]:
    if found.kms_key_id:
        seen = f"messages are encrypted with the KMS key {found.kms_key_id}"
        yield note("sqs.encryption", seen, "receiving needs kms:Decrypt on the key; --dry-run tries it")


def _size(found: QueueAttributes, config: Config) -> Iterator[CheckFinding]:
    largest = found.max_message_bytes
    if largest is not None and largest > config.events.max_bytes:
        seen = f"the queue takes messages of {Size(largest)}, and events.max_bytes is {config.events.max_bytes}"
        yield note(
            "sqs.message_size", seen, "larger ones go to the quarantine: raise events.max_bytes if that is wrong"
        )


def _groups(config: Config) -> CheckFinding:
    """A group has nothing to receive while messages of it are in flight."""
    seen = (
        f"a message group waits until its messages have landed: {PER_BATCH} messages of each group for each batch, "
        f"with batch.interval = {config.batch.interval}"
    )
    return note("sqs.groups", seen, "where groups are few, give a shorter batch.interval")


def take(queue: str, messages: Sequence[Message], validator: Validator) -> Sample:
    """Validate a sample as a run does."""
    place = TopicPartition(queue, 0)
    events = [message for message in messages if message.refused is None]
    validated = validator.chunk(place, events)
    rejected = [
        *validated.rejected,
        *(
            Rejected(0, message, message.refused.reason, "$", message.refused.message)
            for message in messages
            if message.refused is not None
        ),
    ]
    return Sample(
        records=len(messages),
        rows=validated.rows.splitlines(keepends=True),
        reasons=Counter(str(it.reason) for it in rejected),
        last=(place, max(messages, key=lambda it: it.timestamp)) if messages else None,
        rejected=(place, rejected[-1]) if rejected else None,
    )


def sample_findings(sample: Sample, max_share: float, *, shown: bool) -> Iterator[CheckFinding]:
    """What the report says of a sample."""
    if not sample.records:
        yield note("sqs.read", "there is no message to receive")
        return
    seen = f"{number(sample.records, 'message')} received; their receive counts are one higher now"
    if shown:
        yield ok("sqs.read", f"{seen}, and others can receive them again")
    else:
        yield note("sqs.read", f"{seen}; some are hidden until their visibility ends", "")
    if sample.rejected is None:
        yield ok("events.sample", f"all of them make rows, of {size(sample.row_bytes)} on average")
        return
    one = sample.rejected[1]
    count = sum(sample.reasons.values())
    reasons = ", ".join(f"{reason} {times}" for reason, times in sorted(sample.reasons.items()))
    seen = f"{count} of {number(sample.records, 'message')} would be rejected ({reasons}), such as "
    seen += f"{getattr(one.record, 'message_id', '')}: {one.reason} at {one.path}: {one.message}"
    if count / sample.records > max_share:
        todo = f"more than breaker.max_share = {max_share:g}, which stops the daemon: correct sender or model"
        yield wrong("events.sample", seen, todo)
    else:
        todo = "they go to the quarantine; correct the sender or events.model if that is not intended"
        yield note("events.sample", seen, todo)
