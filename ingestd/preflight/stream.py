"""What `ingestd check` says of a Kinesis stream. Pure."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ingestd.config.model import KinesisConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import SourceError
from ingestd.core.formatting import number
from ingestd.core.records import Record, TopicPartition
from ingestd.preflight import CheckFinding, failed, not_tried, note, ok, wrong
from ingestd.sources.kinesis.port import Shard, Stream

OUTAGE_S = Seconds(3 * 86400)  # a weekend without staff: a stream should bridge it
SKEW_S = 300  # AWS refuses signatures that are further off its clock
READS_A_SECOND = 5  # that AWS allows for a shard, to all its consumers


class StreamFacts(msgspec.Struct):
    """The answers to what was asked. None: it could not be asked."""

    stream: Stream | SourceError | None = None
    now_ms: int = 0  # by our clock, when the stream was described
    shards: Sequence[Shard] | SourceError | None = None
    records: Mapping[TopicPartition, Sequence[Record]] | SourceError | None = None


def findings(facts: StreamFacts, kinesis: KinesisConfig) -> Iterator[CheckFinding]:
    """The report on the stream, without the records."""
    if not isinstance(facts.stream, Stream):
        yield (
            failed("kinesis.stream", facts.stream)
            if facts.stream is not None
            else not_tried("kinesis.stream", "nothing was asked")
        )
        return
    yield ok("kinesis.stream", facts.stream.arn)
    yield _clock(facts.stream, facts.now_ms)
    yield _retention(facts.stream)
    if isinstance(facts.shards, SourceError):
        yield failed("kinesis.shards", facts.shards)
    elif facts.shards is not None:
        yield _shards(facts.shards, kinesis)


def _clock(stream: Stream, now_ms: int) -> CheckFinding:
    off = abs(stream.now_ms - now_ms) / 1000
    if off < SKEW_S:
        return ok("kinesis.clock", f"{off:.0f} s off AWS's")
    seen = f"{off:.0f} s off AWS's, which refuses signatures from {SKEW_S} s on"
    return wrong("kinesis.clock", seen, "set the clock")


def _retention(stream: Stream) -> CheckFinding:
    kept = Seconds(stream.retention_ms / 1000)
    if kept >= OUTAGE_S:
        return ok("kinesis.retention", f"records are kept for {kept}")
    todo = f"an outage that is longer loses records: give it {int(OUTAGE_S / 3600)} hours or more"
    return note("kinesis.retention", f"records are kept for {kept}", todo)


def _shards(shards: Sequence[Shard], kinesis: KinesisConfig) -> CheckFinding:
    check, opened = "kinesis.shards", [shard for shard in shards if not shard.closed]
    seen = f"{number(len(opened), 'open shard')}, {len(shards) - len(opened)} closed; "
    seen += "as many daemons can share the open ones" if len(opened) > 1 else "one daemon can read it"
    if kinesis.poll_interval * READS_A_SECOND < 2:
        todo = f"AWS allows {READS_A_SECOND} reads a second of a shard to all its consumers: others are throttled"
        return note(check, f"{seen}; each is read every {kinesis.poll_interval}", todo)
    return ok(check, seen)
