"""Compares chains with the group's committed offsets and with the log. Pure.

Kafka is asked before the first listing: an object exists before its offset is committed, so a daemon that runs
meanwhile cannot make the two disagree. Where a chain has grown past what Kafka said, Kafka is asked again.
"""

from collections.abc import Iterator

import msgspec

from ingestd.core.records import LogRange, Pin, Position, TopicPartition
from ingestd.verify.branches import UNKNOWN
from ingestd.verify.chains import ChainVerifier, PartitionChain
from ingestd.verify.ranges import Range
from ingestd.verify.truncation import LogEvidence, find_truncations, same_log, same_topic

CodeTextOffsets = tuple[str, str, Range | None]


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """The committed offsets and the log of every partition, at one time."""

    cluster: str
    commits: dict[TopicPartition, Position | None]
    logs: dict[TopicPartition, LogRange]
    pins: dict[TopicPartition, Pin] = {}


class ComparisonRules(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration values that the comparison depends on."""

    commit_tag: str  # of commits by a daemon that writes to this place
    earliest: bool  # the group began at the beginning of the log
    exactly_once: bool
    all_times: bool  # no time range: every object was scanned


def needs_second_state(chains: ChainVerifier, state: LogState) -> bool:
    """Whether a chain reaches further than Kafka said, as it does when a daemon runs meanwhile."""
    for partition, chain in chains.partitions.items():
        extent, log, commit = chain.extent, state.logs.get(partition), state.commits.get(partition)
        behind = commit is not None and extent is not None and _behind(chain, commit, extent)
        if extent is not None and log is not None and (behind or extent.end > log.end):
            return True
    return False


def compare(
    chains: ChainVerifier,
    state: LogState,
    later: LogState | None,
    evidence: LogEvidence | None,
    rules: ComparisonRules,
) -> None:
    """Add problems and notes to `chains`. `later` and `evidence` are of after the scan, where Kafka was asked then."""
    for partition, chain in sorted(chains.partitions.items()):
        log = state.logs.get(partition)
        if log is None:
            text = f"{partition}: the sink has objects of a partition that the topic does not have"
            chains.problems.add("recreated_topic", text, partition)
            continue
        for code, text, offsets in _problems(chain, log, later, evidence, rules):
            chains.problems.add(code, f"{partition}: {text}", partition, offsets=offsets)
        for code, text, offsets in _notes(chain, log, later, rules):
            chains.notes.add(code, f"{partition}: {text}", partition, offsets=offsets)


def _problems(
    chain: PartitionChain,
    log: LogRange,
    later: LogState | None,
    evidence: LogEvidence | None,
    rules: ComparisonRules,
) -> Iterator[CodeTextOffsets]:
    yield from _commit_problems(chain, rules)
    extent = chain.extent
    reached = extent.end if extent else chain.commit.offset if chain.commit else None
    if reached is not None and log.start > reached:
        text = f"{log.start - reached} offsets, {reached}-{log.start}, are no longer in the log and in no object"
        yield "lost_upstream", text, Range(reached, log.start)
    if extent is None:
        return
    yield from _truncation_problems(chain, extent, later, evidence)
    if rules.all_times and rules.earliest and log.start < extent.start:
        text = f"the log begins at {log.start}, the first object at {extent.start}"
        yield "before_first", text, Range(log.start, extent.start)


def _truncation_problems(
    chain: PartitionChain, extent: Range, later: LogState | None, evidence: LogEvidence | None
) -> Iterator[CodeTextOffsets]:
    """Records in objects that the log does not have, although it has not removed them for their age."""
    explained = 0
    for lost, missing, why, epoch in find_truncations(chain, evidence) if evidence is not None else ():
        explained = max(explained, lost.end)
        if evidence is not None and same_topic(chain, lost, evidence) is False:
            yield "recreated_topic", f"{lost} are in objects of a deleted topic of this name", lost
            continue
        if epoch is not None and missing is not None:
            text = f"{missing} ({missing.end - missing.start} offsets) in no object of leader epoch {epoch}"
            yield "gap", f"{text}, whose first objects are missing", missing
            continue
        text = f"Kafka has lost offsets {lost} ({lost.end - lost.start}), whose rows are kept: {why}"
        if missing is not None:
            text += f"; the new records at {missing} ({missing.end - missing.start} offsets) are in no object"
        yield "log_truncated", text, lost
    now = later.logs.get(chain.partition) if later is not None else None
    if now is not None and extent.end > max(now.end, explained):
        offsets, same = Range(now.end, extent.end), None
        if evidence is not None:
            same = same_topic(chain, offsets, evidence)
            same = same_log(chain, evidence) if same is None else same
        code = "log_truncated" if same else "recreated_topic"
        yield code, f"objects reach to {extent.end}, the log ends at {now.end}", offsets


def _commit_problems(chain: PartitionChain, rules: ComparisonRules) -> Iterator[CodeTextOffsets]:
    """The committed offset, where no daemon could continue from it."""
    commit, extent = chain.commit, chain.extent
    if commit is None:
        return
    offset, ours = commit.offset, commit.commit_tag == rules.commit_tag
    epoch = commit.leader_epoch if ours else None  # another tool means the chain as it is
    end = chain.branches.end_of_chain(epoch)
    if end is None and extent is not None:
        end = extent.end
    at_boundary = _at_boundary(chain, commit, rules)
    if end is None:
        # Before its first object a daemon commits the offset it starts at, without the commit tag.
        if ours and chain.next_start is None:
            yield "lost", f"{offset} was committed after its objects landed, and there are none", None
    elif offset > end and not at_boundary:
        by = "" if ours else "; it was not committed by a daemon that writes to this place"
        text = f"{offset} is committed, the last object ends at {end}{by}"
        yield "lost", text, Range(end, offset)
        return
    if not rules.exactly_once or at_boundary:
        return
    if (found := _inside(chain, commit)) is not None:
        inside, key = found
        text = f"{offset} is committed, which is inside {key}; reset it to {inside.end}"
        yield "misaligned", text, inside
    elif end is not None and extent is not None and offset < end:
        text = f"{offset} is committed, where no object begins or ends; reset it to {extent.end}"
        yield "misaligned", text, None
    elif end is None and chain.next_start is not None:
        text = f"{offset} is committed, before the first object, at {chain.next_start}; delete this committed offset"
        yield "misaligned", text, None


def _at_boundary(chain: PartitionChain, commit: Position, rules: ComparisonRules) -> bool:
    """Whether an object begins or ends at the committed offset: in the chain, or of the commit's leader epoch."""
    found, offset, at = chain.commit_at_start | chain.commit_at_end, commit.offset, chain.branches.at(commit.offset)
    if at == UNKNOWN:
        return bool(found)  # before the objects in the time range
    epochs = {UNKNOWN, at, *(each.branch.epoch for each in chain.branches.segments() if each.end == offset)}
    if commit.commit_tag == rules.commit_tag and commit.leader_epoch is not None:
        epochs.add(commit.leader_epoch)
    return bool(epochs & found)


def _inside(chain: PartitionChain, commit: Position) -> tuple[Range, str] | None:
    """The object of the chain that has the committed offset inside."""
    found, at = chain.commit_inside, chain.branches.at(commit.offset)
    return next(iter(found.values()), None) if at == UNKNOWN else found.get(at, found.get(UNKNOWN))


def _behind(chain: PartitionChain, commit: Position, extent: Range) -> bool:
    """Whether the chain goes on behind the committed offset, or has forked before it."""
    return commit.offset < extent.end or _forked_before(chain, commit)


def _forked_before(chain: PartitionChain, commit: Position) -> bool:
    return commit.leader_epoch is not None and chain.branches.replaced(commit.leader_epoch, commit.offset)


def _notes(
    chain: PartitionChain, log: LogRange, later: LogState | None, rules: ComparisonRules
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
    if now is None or not _behind(chain, now, extent):
        return
    if _at_boundary(chain, commit, rules) or not rules.exactly_once:
        text = f"{now.offset} is committed, {extent.end - now.offset} offsets before the end of the chain"
        if _forked_before(chain, now):
            text = f"{now.offset} is committed, from before the chain forked; its end is {extent.end}"
        yield "trails", text, Range(min(now.offset, extent.end), extent.end)
