"""Compares the chains of shards with where they are on record to begin and to end, and with the stream. Pure.

There are no commits: the end of a chain is the checkpoint. So what is missing at an end shows only where the shard is
closed, and its end was noted once it had landed.
"""

from collections.abc import Iterator

from ingestd.core.records import LogRange, Pin
from ingestd.verify.chains import ChainVerifier, PartitionChain
from ingestd.verify.kafka_comparison import CodeTextOffsets, LogState
from ingestd.verify.ranges import Range
from ingestd.verify.truncation import LogEvidence, find_truncations


def compare_shards(chains: ChainVerifier, state: LogState, evidence: LogEvidence | None) -> None:
    """Add problems and notes to `chains`. `evidence` is of after the scan, where the stream was asked then."""
    now = set(evidence.topic_ids.values()) if evidence is not None else set()
    for partition, chain in sorted(chains.partitions.items()):
        if now and (former := [each for each in chain.topic_ids if each not in now]):
            range_ = chain.topic_ids[former[0]]
            text = f"{partition}: {range_} are in objects of a deleted stream of this name"
            chains.problems.add("recreated_topic", text, partition, offsets=range_)
            continue
        log, pin = state.logs.get(partition), state.pins.get(partition, Pin())
        for code, text, offsets in _problems(chain, log, pin, evidence, all_times=chains.scope.all_times):
            chains.problems.add(code, f"{partition}: {text}", partition, offsets=offsets)
        for code, text in _notes(chain, log, pin):
            chains.notes.add(code, f"{partition}: {text}", partition)


def _problems(
    chain: PartitionChain, log: LogRange | None, pin: Pin, evidence: LogEvidence | None, *, all_times: bool
) -> Iterator[CodeTextOffsets]:
    extent = chain.extent
    if extent is not None and all_times and pin.start is not None and extent.start > pin.start:
        text = f"it was found to begin at {pin.start}, and its first object begins at {extent.start}"
        yield "before_first", text, Range(pin.start, extent.start)
    end = extent.end if extent is not None else pin.start
    if pin.end is not None and end is not None and all_times and end < pin.end:
        text = f"it had landed to its end, {pin.end}, and its objects end at {end}"
        yield "lost", text, Range(end, pin.end)
    elif log is not None and end is not None and log.start > end:
        text = f"what the stream still has begins at {log.start}, and its objects end at {end}"
        yield "lost_upstream", text, Range(end, log.start)
    if log is None or evidence is None:
        return
    for offsets, _, why, _ in find_truncations(chain, evidence):
        yield "recreated_topic", f"the stream has other records than objects at {offsets}: {why}", offsets


def _notes(chain: PartitionChain, log: LogRange | None, pin: Pin) -> Iterator[tuple[str, str]]:
    if log is None:
        yield "not_compared", "the stream lists this shard no more: retention has removed all of it"
    elif chain.extent is None and log.start > 0 and pin.end is None:
        yield "no_objects", "the stream has records of it, and there is no object yet"
    elif chain.extent is not None and pin.start is None:
        yield "not_compared", "it is not on record where it began, so missing first objects would not be found"
