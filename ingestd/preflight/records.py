"""What `ingestd check` says of a sample of the topics' records, and whether the model accepts them. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ingestd.capacity.estimate import Sample
from ingestd.config.model import BreakerConfig
from ingestd.core.formatting import number, size
from ingestd.core.records import Record, TopicPartition
from ingestd.core.validation import Rejected, Validator
from ingestd.preflight import CheckFinding, note, ok, wrong

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def take(records: Mapping[TopicPartition, Sequence[Record]], validator: Validator) -> Sample:
    """Validate records of some partitions."""
    rows: list[bytes] = []
    reasons: Counter[str] = Counter()
    rejected: tuple[TopicPartition, Rejected] | None = None
    skipped = 0
    for partition, some in records.items():
        validated = validator.chunk(partition, some)
        rows += validated.rows.splitlines(keepends=True)
        reasons.update(it.reason for it in validated.rejected)
        skipped += validated.skipped
        if validated.rejected:
            rejected = partition, validated.rejected[-1]
    ends = [(partition, some[-1]) for partition, some in records.items() if some]
    return Sample(
        records=sum(map(len, records.values())),
        rows=rows,
        reasons=reasons,
        skipped=skipped,
        last=max(ends, key=lambda it: it[1].timestamp, default=None),
        rejected=rejected,
    )


def findings(sample: Sample, breaker: BreakerConfig, source: str = "kafka") -> Iterator[CheckFinding]:
    """What the report says of a sample of what a source has."""
    if sample.last is None:
        yield note(f"{source}.read", "there is no record to read")
        return
    partition, last = sample.last
    age = "" if last.timestamp < 0 else f" of {_utc(last.timestamp)}"
    yield ok(
        f"{source}.read",
        f"{number(sample.records, 'record')} read; the youngest is {partition} offset {last.offset}{age}",
    )
    if sample.skipped:
        seen = f"{sample.skipped} of {number(sample.records, 'record')} are tombstones, which make no row"
        yield note("events.sample", seen, "set events.tombstones if they should")
    judged = sample.records - sample.skipped
    if sample.rejected is None:
        if judged:
            those = "all others" if sample.skipped else "all of them"
            yield ok("events.sample", f"{those} make rows, of {size(sample.row_bytes)} on average")
        return
    partition, one = sample.rejected
    count = sum(sample.reasons.values())
    reasons = ", ".join(f"{reason} {times}" for reason, times in sorted(sample.reasons.items()))
    seen = f"{count} of {number(sample.records, 'record')} would be rejected ({reasons}), such as {partition} offset "
    seen += f"{one.record.offset}: {one.reason} at {one.path}: {one.message}"
    if count / judged > breaker.max_share:
        todo = f"more than breaker.max_share = {breaker.max_share:g}, which stops the daemon: correct producer or model"
        yield wrong("events.sample", seen, todo)
    else:
        todo = "they go to the quarantine; correct the producer or events.model if that is not intended"
        yield note("events.sample", seen, todo)


def _utc(timestamp: int) -> str:
    try:
        return (_EPOCH + timedelta(milliseconds=timestamp)).isoformat(timespec="seconds").replace("+00:00", "Z")
    except OverflowError:
        return "a time beyond the calendar"
