"""Finds truncations of Kafka's log in the past: objects with records that the log has lost. Pure.

Where objects know the leader epoch of their records, the log tells whether it still reaches the end of each epoch.
Where they do not, timestamps tell: the record at an object's first offset must have the timestamp that the object says.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from ingestd.core.records import EpochEnd, LogRange, TopicPartition
from ingestd.verify.chains import PartitionChain
from ingestd.verify.ranges import Range, Ranges


class LogEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What Kafka says about records that are in objects, after the scan."""

    logs: Mapping[TopicPartition, LogRange]
    topic_ids: Mapping[TopicPartition, str]  # "" for a topic without an id
    epoch_ends: Mapping[tuple[TopicPartition, int], EpochEnd | None]  # None: the broker cannot tell
    timestamps: Mapping[tuple[TopicPartition, int], int]  # of the records of samples


class Truncation(NamedTuple):
    """Records that the log has lost and objects have, and the new ones at the same offsets, which are in no object.

    `why` is a clause. `later`: the missing ones belong to this leader epoch, whose first objects are missing.
    """

    lost: Range
    missing: Range | None
    why: str
    later: int | None = None


def epochs_to_ask(chain: PartitionChain) -> list[int]:
    """The leader epochs that the log may know: those that do not end before it begins."""
    start = chain.log.start if chain.log is not None else 0
    known = chain.branches.all_epochs() if chain.branches else chain.epochs
    return [epoch for epoch, offsets in known if offsets.end > start]


def find_truncations(chain: PartitionChain, evidence: LogEvidence) -> Iterator[Truncation]:
    """The truncations of a partition's log, in the order of offsets: by leader epochs, then by timestamps."""
    log = evidence.logs[chain.partition]
    known = {epoch: evidence.epoch_ends.get((chain.partition, epoch)) for epoch in epochs_to_ask(chain)}
    ends = {epoch: end.end for epoch, end in known.items() if end is not None and end.epoch == epoch}
    landed = chain.branches.in_log(ends)
    for found in (*_by_epochs(chain, evidence, log), *_by_timestamps(chain, evidence, log)):
        if (missing := found.missing) is None:
            yield found
            continue
        # Where Kafka went back to an older history, objects of an earlier epoch may have what a later one replaced.
        rest = Ranges()
        rest.add(missing.start - 1, missing.start)
        rest.add(missing.end, missing.end + 1)
        for part in landed.shared(*missing):
            rest.add(*part)
        if gaps := rest.gaps():
            yield found._replace(missing=Range(gaps[0].start, gaps[-1].end))


def _by_epochs(chain: PartitionChain, evidence: LogEvidence, log: LogRange) -> Iterator[Truncation]:
    run: list[tuple[int, Range, EpochEnd]] = []  # epochs that follow each other and that the log has lost
    for epoch, offsets in chain.epochs:
        end = evidence.epoch_ends.get((chain.partition, epoch))
        if end is not None and not (end.epoch == epoch and end.end >= offsets.end):
            run.append((epoch, offsets, end))
        elif run:
            yield _epochs_lost(chain, run, log)
            run = []
    if run:
        yield _epochs_lost(chain, run, log)


def _epochs_lost(chain: PartitionChain, run: list[tuple[int, Range, EpochEnd]], log: LogRange) -> Truncation:
    epoch, first, end = run[0]
    # Of an epoch that the log has lost in full, it has no record from the epoch's first offset on.
    at = first.start if end.epoch != epoch else max(first.start, min(end.end, first.end))
    lost = Range(at, max(offsets.end for _, offsets, _ in run))
    last = max(epoch for epoch, _, _ in run)
    if end.epoch < 0:
        why = f"it knows no leader epoch {epoch}, as if restored from an older state"
    else:
        epochs = f"leader epoch {epoch}" if last == epoch else f"leader epochs {epoch} to {last}"
        why = f"{epochs} had reached {lost.end}"
    return _truncation(chain, lost, why, log)


def _by_timestamps(chain: PartitionChain, evidence: LogEvidence, log: LogRange) -> Iterator[Truncation]:
    run: list[tuple[Range, str]] = []  # samples that follow each other and are not in the log
    for sample in reversed(chain.samples.newest_first()):
        found = evidence.timestamps.get((chain.partition, sample.offset))
        if found is None:
            continue  # compaction may have removed the record
        if found != sample.timestamp:
            why = f"the record at {sample.offset} has timestamp {found} and had {sample.timestamp}"
            run.append((sample.offsets, why))
        elif run:
            yield _truncation(chain, Range(run[0][0].start, run[-1][0].end), run[0][1], log)
            run = []
    if run:
        yield _truncation(chain, Range(run[0][0].start, run[-1][0].end), run[0][1], log)


def _truncation(chain: PartitionChain, lost: Range, why: str, log: LogRange) -> Truncation:
    """What of the new history is in no object: the chain went on where the lost records ended.

    Where it forked there, its writer knew of a truncation: the new records before that were in objects.
    """
    missing = Range(max(lost.start, log.start), min(lost.end, log.end))
    later = chain.branches.forked_at(lost.end)
    return Truncation(lost, missing if missing.start < missing.end else None, why, later)


def same_topic(chain: PartitionChain, offsets: Range, evidence: LogEvidence) -> bool | None:
    """Whether objects with these offsets are of today's topic, not of a deleted one of its name. None: not known."""
    now = evidence.topic_ids.get(chain.partition)
    ids = {each for each, found in chain.topic_ids.items() if found.start < offsets.end and offsets.start < found.end}
    return now in ids if now and ids else None


def same_log(chain: PartitionChain, evidence: LogEvidence) -> bool:
    """Whether the log is known to have records that are in objects."""
    return any(
        evidence.timestamps.get((chain.partition, sample.offset)) == sample.timestamp
        for sample in chain.samples.newest_first()
    ) or any(
        (end := evidence.epoch_ends.get((chain.partition, epoch))) is not None and end.epoch == epoch
        for epoch, _ in chain.epochs
    )
