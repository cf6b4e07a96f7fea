"""What `ingestd check` says of the formats of a sample's values, and whether the registry gives their schemas."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ingestd.config.model import Config
from ingestd.core.formatting import number
from ingestd.core.records import Record, TopicPartition
from ingestd.core.rejections import RejectedRecord
from ingestd.core.values.base import ValueSource
from ingestd.core.values.decoder import RegistryDecoder
from ingestd.core.values.wire_format import header_of, parse_prefix, prefix_of
from ingestd.preflight import CheckFinding, note, ok, some, wrong

_CHECK, _FORMAT = "registry.schemas", "kafka.value_format"


async def findings(
    config: Config, records: Mapping[TopicPartition, Sequence[Record]], values: ValueSource | None
) -> list[CheckFinding]:
    """Asks the registry once for the schemas of `records`."""
    every = [record for records_of_one in records.values() for record in records_of_one]
    if not every:
        return []
    if values is None:
        return [*_json(every)] if config.source == "kafka" else []
    if not isinstance(values, RegistryDecoder):
        return [ok(_FORMAT, f"{config.kafka.value_format}, by the schema in {config.kafka.schema_file}")]
    if (why := await values.try_prepare(every)) is not None:
        todo = "check registry.urls, its credentials and the network; a run holds the records until it answers"
        return [wrong(_CHECK, why, todo)]
    return [*_schemas(every, values)]


def _json(records: Sequence[Record]) -> Iterator[CheckFinding]:
    framed = sum(
        1 for record in records if record.value and (record.value[0] == 0 or header_of(record.headers) is not None)
    )
    if framed:
        seen = f"{framed} of {number(len(records), 'record')} look like a schema registry's wire format"
        todo = "set kafka.value_format = registry and registry.urls"
        yield wrong(_FORMAT, seen, todo) if framed == len(records) else note(_FORMAT, seen, todo)


def _schemas(records: Sequence[Record], values: RegistryDecoder) -> Iterator[CheckFinding]:
    usable: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    unframed = 0
    for record in records:
        if not record.value:
            continue
        try:
            prefix = header_of(record.headers) or prefix_of(record.value)
            ref, _ = parse_prefix(prefix)
        except RejectedRecord:
            unframed += 1
            continue
        counts = usable if values.is_usable(ref) else unusable
        counts[f"{ref} ({values.kind_of(ref)})"] += 1
    if usable:
        yield ok(_CHECK, f"the registry answers; {_listed(usable)}")
    if unusable:
        seen = f"no record of these schemas can be decoded: {_listed(unusable)}"
        todo = "register or correct the schema; until then its records go to the quarantine"
        yield note(_CHECK, seen, todo) if usable else wrong(_CHECK, seen, todo)
    if unframed:
        seen = f"{unframed} of {number(len(records), 'record')} name no schema"
        todo = "they go to the quarantine; for plain JSON, set kafka.value_format = json"
        yield wrong(_FORMAT, seen, todo) if unframed == len(records) else note(_FORMAT, seen, todo)


def _listed(counts: Counter[str]) -> str:
    return some([f"{name}: {number(count, 'record')}" for name, count in counts.most_common()])
