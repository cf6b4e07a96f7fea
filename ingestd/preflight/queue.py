"""What `ingestd check` says of an SQS queue. Pure."""

from collections.abc import Iterator

import msgspec

from ingestd.config.model import Config
from ingestd.config.types import Seconds, Size
from ingestd.core.errors import SourceError
from ingestd.core.formatting import number
from ingestd.preflight import CheckFinding, not_tried, note, ok, wrong
from ingestd.sources.sqs.client import PER_BATCH, QueueAttributes
from ingestd.sources.sqs.port import MAX_IN_FLIGHT, MAX_VISIBILITY_S

OUTAGE_S = Seconds(3 * 86400)  # a weekend without staff: a queue should bridge it
FEW_RECEIVES = 5  # AWS advises no fewer before a message is a dead letter
SPARE_RECEIPTS = 2  # that a dry run leaves to a message


class QueueFacts(msgspec.Struct):
    """The answers to what was asked. None: it could not be asked, or, of a right, that it is given."""

    attributes: QueueAttributes | SourceError | None = None
    extend: SourceError | None = None
    delete: SourceError | None = None

    @property
    def max_receive_count(self) -> int | None:
        """How often a message is received before it is a dead letter; None: it never is one."""
        return max_receive_count(self.attributes) if isinstance(self.attributes, QueueAttributes) else None

    @property
    def why_no_dry_run(self) -> str:
        """Why messages must not be received for a dry run; empty where they may be."""
        if not isinstance(self.attributes, QueueAttributes):
            return "the queue cannot be used"
        if self.extend is not None:
            return "messages could not be given back: this process may not change their visibility"
        most = self.max_receive_count
        if most is not None and most <= SPARE_RECEIPTS:
            return f"maxReceiveCount is {most}: a dry run's receipts would bring messages to the dead letters; raise it"
        return ""


def findings(facts: QueueFacts, config: Config) -> Iterator[CheckFinding]:
    """The report on the queue."""
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
    return ok("sqs.rights", f"{seen}; whether it may receive, --dry-run tries")


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
