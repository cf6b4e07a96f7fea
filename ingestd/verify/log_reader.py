"""Asks the source, after the scan, whether its log still has the records that are in objects."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ingestd.core.records import EpochEnd, LogRange, Pin, Position, Record, TopicPartition
from ingestd.verify.chains import ChainVerifier
from ingestd.verify.samples import Sample
from ingestd.verify.truncation import LogEvidence, epochs_to_ask

FETCH_BYTES = 64 << 10  # of one partition: one record is looked at
MAX_ASSIGNED = 50  # partitions that are read at once
READ_S = 60.0  # for all records together
_ROUND_S = 5.0  # for one record of each partition; a partition that does not answer is not read again
_POLL_S = 0.5
_MAX_EPOCHS_ASKED = 5000  # in one call
_EPOCH_LOOKS, _EPOCH_INTERVAL_S = 3, 1.0  # for a leader epoch that the broker does not know


class LogInspector(Protocol):
    """Reads the log and how far it is said to have landed. Errors are ``SourceError``."""

    @property
    def cluster_id(self) -> str: ...
    @property
    def partitions(self) -> Collection[TopicPartition]: ...
    async def committed(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Position | None]: ...
    async def log_ranges(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, LogRange]: ...
    async def pins(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Pin]:
        """What is on record of where chains begin and end; nothing where commits say it."""
        ...

    async def topic_ids(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, str]: ...
    async def epoch_ends(
        self, pairs: Collection[tuple[TopicPartition, int]]
    ) -> Mapping[tuple[TopicPartition, int], EpochEnd | None]: ...
    def assign(self, positions: Mapping[TopicPartition, int]) -> None: ...
    async def poll(self, wait_s: float, max_records: int) -> Mapping[TopicPartition, Sequence[Record]]: ...


async def ask_log(inspector: LogInspector, chains: ChainVerifier) -> LogEvidence:
    """Compare the chains of all partitions that the topics have with their logs; notes what was not compared."""
    partitions = [each for each in chains.partitions if each in set(inspector.partitions)]
    pairs = [(each, epoch) for each in partitions for epoch in epochs_to_ask(chains.partitions[each])]
    epoch_ends = await _ask_epochs(inspector, pairs)
    for _ in range(_EPOCH_LOOKS):
        # A broker that does not know yet that another one is the leader knows no later epoch either.
        if not (unknown := [pair for pair, end in epoch_ends.items() if end is not None and end.epoch < 0]):
            break
        await asyncio.sleep(_EPOCH_INTERVAL_S)
        epoch_ends |= await _ask_epochs(inspector, unknown)
    timestamps = await _read_timestamps(inspector, chains, partitions)
    return LogEvidence(
        logs=await inspector.log_ranges(partitions),
        topic_ids=await inspector.topic_ids(partitions),
        epoch_ends=epoch_ends,
        timestamps=timestamps,
    )


async def _ask_epochs(
    inspector: LogInspector, pairs: Sequence[tuple[TopicPartition, int]]
) -> dict[tuple[TopicPartition, int], EpochEnd | None]:
    ends: dict[tuple[TopicPartition, int], EpochEnd | None] = {}
    for begin in range(0, len(pairs), _MAX_EPOCHS_ASKED):
        ends |= await inspector.epoch_ends(pairs[begin : begin + _MAX_EPOCHS_ASKED])
    return ends


async def _read_timestamps(
    inspector: LogInspector, chains: ChainVerifier, partitions: Collection[TopicPartition]
) -> dict[tuple[TopicPartition, int], int]:
    """The timestamps of the records of samples, the newest sample of each partition first."""
    timestamps: dict[tuple[TopicPartition, int], int] = {}
    samples = {each: chains.partitions[each].samples.newest_first() for each in partitions}
    rest = {each: found for each, found in samples.items() if found}
    read = dict.fromkeys(rest, 0)
    deadline = asyncio.get_running_loop().time() + READ_S
    while rest and asyncio.get_running_loop().time() < deadline:
        chosen = sorted(rest, key=lambda each: read[each])[:MAX_ASSIGNED]
        found = await _read_round(inspector, {each: rest[each][read[each]] for each in chosen})
        for each in chosen:
            record = found.get(each)
            if record is not None and record[0] == rest[each][read[each]].offset:
                timestamps[each, record[0]] = record[1]
            read[each] += record is not None
            if record is None or read[each] == len(rest[each]):
                del rest[each]
    for each, count in sorted(read.items()):
        if count < (seen := chains.partitions[each].samples.seen):
            text = f"{each}: {count} of {seen} objects without a leader epoch were compared with the log"
            chains.notes.add("not_compared", text, each)
    return timestamps


async def _read_round(
    inspector: LogInspector, samples: Mapping[TopicPartition, Sample]
) -> dict[TopicPartition, tuple[int, int]]:
    """Offset and timestamp of each partition's first record at or after its sample's offset."""
    inspector.assign({each: sample.offset for each, sample in samples.items()})
    found: dict[TopicPartition, tuple[int, int]] = {}
    deadline = asyncio.get_running_loop().time() + _ROUND_S
    while len(found) < len(samples) and asyncio.get_running_loop().time() < deadline:
        for each, records in (await inspector.poll(_POLL_S, len(samples))).items():
            if each in samples and each not in found and records:
                found[each] = records[0].offset, records[0].timestamp
    return found
