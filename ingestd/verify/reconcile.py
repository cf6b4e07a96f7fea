"""Chains against Kafka: what the group has committed, and what the log still has. Pure.

What is committed and where the log begins is asked before the first listing: an object is there before its offset is
committed, so a daemon that goes on meanwhile cannot make them disagree. What would then only look wrong, because the
chain has grown, is asked again.
"""

from collections.abc import Iterator

import msgspec

from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.verify.chains import Audit, Links
from ingestd.verify.findings import VerifyFinding


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Kafka's side at one time: of every partition of the topics."""

    cluster: str
    commits: dict[TopicPartition, Position | None]
    logs: dict[TopicPartition, LogRange]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon's settings mean for the comparison."""

    mark: str  # of commits that belong to this place
    earliest: bool  # the group began at the beginning of the log
    exactly_once: bool


def outgrown(audit: Audit, view: View) -> list[TopicPartition]:
    """Partitions whose chain reaches further than Kafka knew: to be asked about again."""
    found = []
    for partition, links in audit.links.items():
        extent, log = links.extent, view.logs.get(partition)
        if extent is None or log is None:
            continue
        commit = view.commits[partition]
        if extent.end > log.end or (commit is not None and commit.offset < extent.end):
            found.append(partition)
    return found


def reconcile(audit: Audit, view: View, later: View | None, rules: Rules) -> None:
    """Add what is wrong, or worth knowing. `later` is Kafka's side afterwards, where it was asked."""
    for partition, links in sorted(audit.links.items()):
        log = view.logs.get(partition)
        if log is None:
            text = f"there are objects of {partition}, and the topic has no such partition"
            audit.problems.add(_finding("recreated_topic", partition, text))
            continue
        for finding in _problems(links, log, later, rules, whole=audit.scope.whole):
            audit.problems.add(finding)
        for finding in _notes(links, log, later, rules, whole=audit.scope.whole):
            audit.notes.add(finding)


def _problems(links: Links, log: LogRange, later: View | None, rules: Rules, *, whole: bool) -> Iterator[VerifyFinding]:
    yield from _commit(links, rules)
    partition, extent = links.partition, links.extent
    reached = extent.end if extent else links.commit.offset if links.commit else None
    if reached is not None and log.start > reached:
        text = f"{log.start - reached} offsets, {reached}-{log.start}, are no longer in the log and in no object"
        yield _finding("lost_upstream", partition, text, reached, log.start)
    if extent is None:
        return
    now = later.logs.get(partition) if later is not None else None
    if now is not None and extent.end > now.end:
        text = f"objects reach to {extent.end}, the log ends at {now.end}"
        yield _finding("recreated_topic", partition, text, now.end, extent.end)
    if whole and rules.earliest and log.start < extent.start:
        text = f"the log begins at {log.start}, the first object at {extent.start}"
        yield _finding("before_first", partition, text, log.start, extent.start)


def _commit(links: Links, rules: Rules) -> Iterator[VerifyFinding]:
    """Where the committed offset lies, if it lies wrong."""
    commit, extent, partition = links.commit, links.extent, links.partition
    if commit is None:
        return
    offset, ours = commit.offset, commit.mark == rules.mark
    if extent is None:
        # Before its first object a daemon commits where it starts, without the mark.
        if ours and links.after is None:
            yield _finding("lost", partition, f"{offset} is committed as reached by objects, and there is none")
    elif offset > extent.end:
        by = "" if ours else "; it was not committed by a daemon that writes to this place"
        text = f"{offset} is committed, the last object ends at {extent.end}{by}"
        yield _finding("lost", partition, text, extent.end, offset)
        return
    if not rules.exactly_once or links.boundary:
        return
    if links.around is not None:
        inside, key = links.around
        text = f"{offset} is committed, which is inside of {key}; reset it to {inside.end}"
        yield _finding("misaligned", partition, text, inside.start, inside.end)
    elif extent is not None and offset < extent.end:
        text = f"{offset} is committed, where no object begins or ends; reset it to {extent.end}"
        yield _finding("misaligned", partition, text)
    elif extent is None and links.after is not None:
        text = f"{offset} is committed, before the first object, at {links.after}; delete the group's offset of it"
        yield _finding("misaligned", partition, text)


def _notes(links: Links, log: LogRange, later: View | None, rules: Rules, *, whole: bool) -> Iterator[VerifyFinding]:
    commit, extent, partition = links.commit, links.extent, links.partition
    if extent is None:
        # Within a range of time, other objects were looked for only where something is committed.
        none = links.after is None and (whole or commit is not None)
        if none and log.end > (begin := commit.offset if commit else log.start):
            where = f"the group begins at {begin}" if commit else "the group has not begun with it"
            yield _finding("no_objects", partition, f"{log.end - begin} offsets in the log, no object; {where}")
        return
    if commit is None:
        yield _finding("no_commit", partition, f"nothing is committed; the chain ends at {extent.end}")
        return
    if commit.mark != rules.mark:
        yield _finding("mark", partition, f"{commit.offset} was committed with {commit.mark or 'no mark'}")
    now = later.commits.get(partition) if later is not None else None
    if now is not None and now.offset < extent.end and (links.boundary or not rules.exactly_once):
        text = f"{now.offset} is committed, {extent.end - now.offset} offsets before the end of the chain"
        yield _finding("trails", partition, text, now.offset, extent.end)


def _finding(
    code: str, partition: TopicPartition, text: str, start: int | None = None, end: int | None = None
) -> VerifyFinding:
    topic, number = partition
    return VerifyFinding(code=code, message=f"{partition}: {text}", topic=topic, partition=number, start=start, end=end)
