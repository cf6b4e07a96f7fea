"""Compares chains with the group's committed offsets and with the log. Pure.

Kafka is asked before the first listing: an object exists before its offset is committed, so a daemon that runs
meanwhile cannot make the two disagree. Where a chain has grown past what Kafka said, Kafka is asked again.
"""

from collections.abc import Iterator

import msgspec

from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.verify.chains import ChainVerifier, PartitionChain
from ingestd.verify.ranges import Range

CodeTextOffsets = tuple[str, str, Range | None]


class KafkaState(msgspec.Struct, frozen=True, kw_only=True):
    """The committed offsets and the log of every partition, at one time."""

    cluster: str
    commits: dict[TopicPartition, Position | None]
    logs: dict[TopicPartition, LogRange]


class ComparisonRules(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration values that the comparison depends on."""

    commit_tag: str  # of commits by a daemon that writes to this place
    earliest: bool  # the group began at the beginning of the log
    exactly_once: bool
    all_times: bool  # no time range: every object was scanned


def needs_second_state(chains: ChainVerifier, state: KafkaState) -> bool:
    """Whether a chain reaches further than Kafka said, as it does when a daemon runs meanwhile."""
    for partition, chain in chains.partitions.items():
        extent, log, commit = chain.extent, state.logs.get(partition), state.commits.get(partition)
        behind = commit is not None and extent is not None and commit.offset < extent.end
        if extent is not None and log is not None and (behind or extent.end > log.end):
            return True
    return False


def compare(chains: ChainVerifier, state: KafkaState, later: KafkaState | None, rules: ComparisonRules) -> None:
    """Add problems and notes to `chains`. `later` is Kafka's state after the scan, where it was asked for."""
    for partition, chain in sorted(chains.partitions.items()):
        log = state.logs.get(partition)
        if log is None:
            text = f"{partition}: the sink has objects of a partition that the topic does not have"
            chains.problems.add("recreated_topic", text, partition)
            continue
        for code, text, offsets in _problems(chain, log, later, rules):
            chains.problems.add(code, f"{partition}: {text}", partition, offsets=offsets)
        for code, text, offsets in _notes(chain, log, later, rules):
            chains.notes.add(code, f"{partition}: {text}", partition, offsets=offsets)


def _problems(
    chain: PartitionChain, log: LogRange, later: KafkaState | None, rules: ComparisonRules
) -> Iterator[CodeTextOffsets]:
    yield from _commit_problems(chain, rules)
    extent = chain.extent
    reached = extent.end if extent else chain.commit.offset if chain.commit else None
    if reached is not None and log.start > reached:
        text = f"{log.start - reached} offsets, {reached}-{log.start}, are no longer in the log and in no object"
        yield "lost_upstream", text, Range(reached, log.start)
    if extent is None:
        return
    now = later.logs.get(chain.partition) if later is not None else None
    if now is not None and extent.end > now.end:
        text = f"objects reach to {extent.end}, the log ends at {now.end}"
        yield "recreated_topic", text, Range(now.end, extent.end)
    if rules.all_times and rules.earliest and log.start < extent.start:
        text = f"the log begins at {log.start}, the first object at {extent.start}"
        yield "before_first", text, Range(log.start, extent.start)


def _commit_problems(chain: PartitionChain, rules: ComparisonRules) -> Iterator[CodeTextOffsets]:
    """The committed offset, where no daemon could continue from it."""
    commit, extent = chain.commit, chain.extent
    if commit is None:
        return
    offset, ours = commit.offset, commit.commit_tag == rules.commit_tag
    if extent is None:
        # Before its first object a daemon commits the offset it starts at, without the commit tag.
        if ours and chain.next_start is None:
            yield "lost", f"{offset} was committed after its objects landed, and there are none", None
    elif offset > extent.end:
        by = "" if ours else "; it was not committed by a daemon that writes to this place"
        text = f"{offset} is committed, the last object ends at {extent.end}{by}"
        yield "lost", text, Range(extent.end, offset)
        return
    if not rules.exactly_once or chain.commit_at_boundary:
        return
    if chain.commit_inside is not None:
        inside, key = chain.commit_inside
        text = f"{offset} is committed, which is inside {key}; reset it to {inside.end}"
        yield "misaligned", text, inside
    elif extent is not None and offset < extent.end:
        text = f"{offset} is committed, where no object begins or ends; reset it to {extent.end}"
        yield "misaligned", text, None
    elif extent is None and chain.next_start is not None:
        text = f"{offset} is committed, before the first object, at {chain.next_start}; delete this committed offset"
        yield "misaligned", text, None


def _notes(
    chain: PartitionChain, log: LogRange, later: KafkaState | None, rules: ComparisonRules
) -> Iterator[CodeTextOffsets]:
    commit, extent = chain.commit, chain.extent
    if extent is None:
        # With a time range, objects out of it were searched only where an offset is committed.
        none = chain.next_start is None and (rules.all_times or commit is not None)
        if none and log.end > (begin := commit.offset if commit else log.start):
            where = f"the group starts at {begin}" if commit else "the group has no committed offset"
            yield "no_objects", f"{log.end - begin} offsets in the log, no object; {where}", None
        return
    if commit is None:
        yield "no_commit", f"no offset is committed; the chain ends at {extent.end}", None
        return
    if commit.commit_tag != rules.commit_tag:
        tag = f"the tag {commit.commit_tag}" if commit.commit_tag else "no tag"
        yield "mark", f"{commit.offset} was committed with {tag}", None
    now = later.commits.get(chain.partition) if later is not None else None
    if now is not None and now.offset < extent.end and (chain.commit_at_boundary or not rules.exactly_once):
        text = f"{now.offset} is committed, {extent.end - now.offset} offsets before the end of the chain"
        yield "trails", text, Range(now.offset, extent.end)
