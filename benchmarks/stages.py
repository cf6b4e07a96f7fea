"""What each stage costs by itself: CPU-microseconds an event of one thread that does nothing else.

Validation of any JSON stands beside the marketing model on the same events, and is to cost no more.

    python -m benchmarks.stages [--rounds 7] [--events 20000]

Fetching is asked of a broker, all else is in memory. Writes stages.md, stages.png and stages.json into
benchmarks/results.
"""

import argparse
import asyncio
import hashlib
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import NamedTuple

import cramjam
import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from isal import isal_zlib

from benchmarks import fetch, yardstick
from benchmarks.rig import picture, results
from benchmarks.rig.fill import SMALL, TYPICAL, Load, events, fill
from benchmarks.rig.results import Table, median, spread
from benchmarks.rig.services import Services, services
from ingestd.config.model import EventsConfig
from ingestd.core.events import Event, load_model
from ingestd.core.gzip import compress
from ingestd.core.json_validation import JsonValidator
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.quarantine import encode as encode_rejected
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator, Validator
from tests.services.process import ServiceError

QUESTION = "What does each stage cost by itself?"
CHUNK = 2000
PARTITION = TopicPartition("marketing_events", 3)
RECEIVED_AT = datetime(2026, 11, 22, tzinfo=UTC)
TIMESTAMP = 1_795_305_600_000
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BLOCK = 32
SDK_SIZES = (600, 1200, 4000, 10_000)
VALIDATE, SDK = "validate", "as SDKs send them"  # groups of stages
KNOWN, ANY_JSON = "known fields only", "known fields only, as any JSON"
ANY_JSON_TIMES_EVENTS = 1.0  # the target
DECODE_DICT = msgspec.json.Decoder(dict, float_hook=Decimal).decode
ENCODER = msgspec.json.Encoder(decimal_format="number")
_GZIP = 31


class Stage(NamedTuple):
    """`run` does it once, for all of its events."""

    group: str
    label: str
    run: Callable[[], object]
    events: int  # or objects


class Measured(msgspec.Struct, kw_only=True):
    """All rounds of one stage: CPU-microseconds an event, or an object."""

    group: str
    label: str
    cpu_us: list[float]


# -- parse: what the broker keeps, into records


def parsing(values: Sequence[bytes]) -> Iterator[Stage]:
    for codec, number in CODECS.items():
        data = record_batches(values, number)
        yield Stage("parse", f"{codec}, record batches of {CHUNK:,}", partial(parse, data), len(values))
    for size in (1, 10, 100):
        some = values[: max(CHUNK, len(values) // 10)]
        data = record_batches(some, CODECS["lz4"], size)
        yield Stage("parse", f"lz4, record batches of {size}", partial(parse, data), len(some))


def record_batches(values: Sequence[bytes], codec: int, size: int = CHUNK) -> bytes:
    found = []
    for begin in range(0, len(values), size):
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 16 << 20)
        for number, value in enumerate(values[begin : begin + size]):
            builder.append(number, TIMESTAMP, None, value, [])
        found.append(bytes(builder.build()))
    return b"".join(found)


def parse(data: bytes) -> int:
    records, total = MemoryRecords(data), 0
    while records.has_next():
        total += sum(len(record.value) for record in records.next_batch())
    return total


# -- decode, validate, encode


def deciding(sizes: Sequence[tuple[str, Sequence[bytes]]]) -> Iterator[Stage]:
    model = load_model(None)
    decode = msgspec.json.Decoder(model.union, float_hook=Decimal).decode
    decode_list = msgspec.json.Decoder(list[yardstick.Event]).decode
    encode_lines = msgspec.json.Encoder(decimal_format="number").encode_lines
    for label, values in sizes:
        yield Stage("decode", f"{label}, one by one", partial(one_by_one, decode, values), len(values))
        yield Stage("decode", f"{label}, {CHUNK:,} at once", partial(at_once, decode_list, values), len(values))
    for kind in model.types:
        values = [typed(value, kind) for value in sizes[0][1]]
        yield Stage("decode", f"{kind}, one by one", partial(one_by_one, decode, values), len(values))
    for label, values in sizes:
        rows = [with_origin(decode(value), number) for number, value in enumerate(values)]
        yield Stage("encode", label, partial(encode_lines, rows), len(rows))


def one_by_one(decode: Callable[[bytes], object], values: Sequence[bytes]) -> list[object]:
    return [decode(value) for value in values]


def at_once(decode: Callable[[bytes], list[yardstick.Event]], values: Sequence[bytes]) -> None:
    for begin in range(0, len(values), CHUNK):
        decode(b"[" + b",".join(values[begin : begin + CHUNK]) + b"]")


def typed(value: bytes, kind: str) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(value) | {"event_type": kind})


def with_origin(event: Event, offset: int) -> Event:
    event.source_topic, event.source_partition = PARTITION
    event.source_offset, event.received_at = offset, RECEIVED_AT
    return event


def validating(values: Sequence[bytes]) -> Iterator[Stage]:
    """The daemon's own, from values to rows, usual events and others."""

    def changed(**fields: object) -> list[bytes]:
        return [msgspec.json.encode(msgspec.json.decode(value) | fields) for value in values]

    kinds = {
        KNOWN: values,
        ANY_JSON: values,
        "with properties": changed(properties={"campaign": "spring", "price": 12.5, "items": [1, 2, 3]}),
        "without category and channel": changed(event_category=None, channel=None),
        "a time with an offset": changed(event_timestamp="2026-11-22T02:00:00+02:00"),
        "a time without an offset": changed(event_timestamp="2026-11-22T00:00:00.123456"),
        "an unknown field": changed(utm_source="newsletter"),
        "an unknown type": changed(event_type="webinar_joined"),
        "rejected: wrong type": changed(client_id=17),
        "rejected: not JSON": [b"2026-11-22 INFO hello " * 15] * len(values),
    }
    marketing, any_json = validators()
    for label, kind in kinds.items():
        records = [PlainRecord(number, TIMESTAMP + number // 50, value) for number, value in enumerate(kind)]
        validator = any_json if label == ANY_JSON else marketing
        yield Stage(VALIDATE, label, partial(validate, validator, records), len(records))


def validators() -> tuple[Validator, Validator]:
    """Of the marketing model, and of any JSON."""
    return EventValidator(EventsConfig(), load_model(None)), JsonValidator(EventsConfig(model="json"))


def as_sdks_send_them(count: int) -> Iterator[Stage]:
    """Beside the least that keeps every digit: into dicts with Decimals and back, in blocks that fit into a cache."""
    marketing, any_json = validators()
    for size in SDK_SIZES:
        values = list(islice(events(Load(events=0, kind="sdk", size=size)), max(32, count * 600 // size // 2)))
        records = [PlainRecord(number, TIMESTAMP + number // 50, value) for number, value in enumerate(values)]
        yield Stage(SDK, f"{size:,} B, decode and encode", partial(through_dicts, values), len(values))
        yield Stage(SDK, f"{size:,} B, validate", partial(validate, marketing, records), len(records))
        yield Stage(SDK, f"{size:,} B, validate as any JSON", partial(validate, any_json, records), len(records))


def through_dicts(values: Sequence[bytes]) -> None:
    for begin in range(0, len(values), BLOCK):
        ENCODER.encode_lines(list(map(DECODE_DICT, values[begin : begin + BLOCK])))


def validate(validator: Validator, records: Sequence[PlainRecord]) -> None:
    for begin in range(0, len(records), CHUNK):
        rejected = validator.chunk(PARTITION, records[begin : begin + CHUNK]).rejected
        if rejected:
            encode_rejected(PARTITION, rejected)


# -- compress


def rows_of(values: Sequence[bytes]) -> bytes:
    records = [PlainRecord(number, TIMESTAMP + number // 50, value) for number, value in enumerate(values)]
    return EventValidator(EventsConfig(), load_model(None)).chunk(PARTITION, records).rows


def compressing(rows: bytes, count: int) -> Iterator[Stage]:
    def isal(level: int) -> bytes:
        deflate = isal_zlib.compressobj(level, isal_zlib.DEFLATED, _GZIP)
        return bytes(deflate.compress(rows) + deflate.flush())

    def plain(level: int) -> bytes:
        deflate = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
        return deflate.compress(rows) + deflate.flush()

    def packed() -> bytes:
        return compress(rows).data

    ways: dict[str, Callable[[], bytes]] = {"ingestd (isal level 1, with the sha256)": packed}
    ways |= {f"isal level {level}": partial(isal, level) for level in (0, 1, 2, 3)}
    ways |= {f"zlib level {level}": partial(plain, level) for level in (1, 6)}
    ways["cramjam level 1"] = lambda: bytes(cramjam.gzip.compress(rows, 1))
    for label, way in ways.items():
        yield Stage("gzip", f"{label}: {len(way()) / len(rows):.1%} of the size", way, count)
    yield Stage("gzip", "sha256 alone", lambda: hashlib.sha256(rows).digest(), count)


# -- objects


def naming() -> Iterator[Stage]:
    layout = ObjectKeys()
    landed = ObjectMetadata(
        topic=PARTITION.topic,
        partition=PARTITION.partition,
        start=0,
        end=CHUNK,
        rows=CHUNK,
        rejected=0,
        sha256="0" * 64,
        first_offset=0,
        first_timestamp=TIMESTAMP,
        last_timestamp=TIMESTAMP,
        cluster="c",
        version="0",
    )

    def keys() -> None:
        for number in range(CHUNK):
            layout.data_key(PARTITION, number, TIMESTAMP + number, number)

    def metadata() -> None:
        for _ in range(CHUNK):
            landed.to_user_metadata()

    yield Stage("an object's", "key", keys, CHUNK)
    yield Stage("an object's", "metadata", metadata, CHUNK)


# -- measuring


def stages(count: int) -> list[Stage]:
    def made(size: int, number: int) -> list[bytes]:
        return list(islice(events(Load(events=number, size=size)), number))

    typical = made(TYPICAL, count)
    sizes = [("335 B", typical), (f"{SMALL} B", made(SMALL, count))]
    sizes += [("1 kB", made(1000, count // 2)), ("10 kB", made(10_000, count // 20))]
    return [
        *parsing(typical),
        *deciding(sizes),
        *validating(typical),
        *as_sdks_send_them(count),
        *compressing(rows_of(typical), count),
        *naming(),
    ]


def measure(chosen: Sequence[Stage], rounds: int) -> list[Measured]:
    found = [Measured(group=stage.group, label=stage.label, cpu_us=[]) for stage in chosen]
    for number in range(rounds):  # all in turn, because the machine's speed changes meanwhile
        for stage, measured in zip(chosen, found, strict=True):
            before = time.process_time()
            stage.run()
            measured.cpu_us.append((time.process_time() - before) / stage.events * 1e6)
        print(f"round {number + 1}", flush=True)
    return found


async def fetching(services: Services, load: Load, rounds: int) -> list[Measured]:
    """From the broker, by processes of their own."""
    await fill(services.bootstrap, "stages", load)
    numbers = ",".join(map(str, range(load.partitions)))
    place = [services.bootstrap, "stages"]
    store = ["--endpoint", services.store.endpoint, "--bucket", services.bucket]
    ways = {
        f"{client}, a record at a time" if client == "aiokafka" else "ingestd's source": [
            *["benchmarks.fetch", *place, str(load.partitions), str(load.events), "--client", client]
        ]
        for client in fetch.CLIENTS
    }
    ways["aiokafka, whole batches"] = ["benchmarks.yardstick", *place, numbers, *store, "--until", "fetch"]
    found = {label: Measured(group="fetch and parse", label=label, cpu_us=[]) for label in ways}
    environment = {**os.environ, **services.credentials}
    for _ in range(rounds):
        for label, command in ways.items():
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *command, env=environment, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            if process.returncode:
                raise ServiceError(f"{command[0]} ended with {process.returncode}")
            result = msgspec.json.decode(output, type=yardstick.Result)
            found[label].cpu_us.append(result.cpu_s / result.events * 1e6)
            print(f"{label:30} {found[label].cpu_us[-1]:6.2f} us", flush=True)
    return list(found.values())


# -- what comes of it


def report(measured: Sequence[Measured], rounds: int, count: int) -> results.Report:
    rows = [[f"{it.group}: {it.label}", spread(it.cpu_us, 2)] for it in measured]
    note = (
        "Medians, with the smallest and the largest value in brackets. Events have 335 bytes unless the stage "
        "says otherwise. Decoding at once makes no checks; validating is everything from values to rows. Decoding and "
        "encoding what SDKs send is into dicts with Decimals and back: it loses nothing, and checks nothing."
    )
    return results.Report(
        name="stages",
        question=QUESTION,
        command=f"python -m benchmarks.stages --rounds {rounds} --events {count}",
        settings={"Rounds, interleaved": str(rounds), "Events in each": f"{count:,}"},
        tables=[
            Table(title="CPU", head=["Stage", "CPU-microseconds an event"], rows=rows, note=note),
            targets(measured),
        ],
        runs=measured,
        picture="CPU per event of every stage",
    )


def targets(measured: Sequence[Measured]) -> Table:
    """Any JSON beside the marketing model, round by round."""
    costs = {(it.group, it.label): it.cpu_us for it in measured}
    pairs = {f"{TYPICAL} B, flat": ((VALIDATE, ANY_JSON), (VALIDATE, KNOWN))}
    for size in SDK_SIZES:
        label = f"{size:,} B, validate"
        pairs[f"{size:,} B, {SDK}"] = (SDK, f"{label} as any JSON"), (SDK, label)
    rows = []
    for events_are, (any_json, marketing) in pairs.items():
        ratio = median([one / other for one, other in zip(costs[any_json], costs[marketing], strict=True)])
        name = f"{events_are}: any JSON / marketing model"
        rows.append(results.aim(name, ratio, ANY_JSON_TIMES_EVENTS, most=True, digits=2))
    note = "Validation of the same events, each round's own ratio, their median."
    return Table(title="Targets", head=["What", "Measured", "Target", ""], rows=rows, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=20_000)
    options = parser.parse_args()
    with services() as started:
        load = Load(events=15 * options.events)
        measured = asyncio.run(fetching(started, load, max(1, options.rounds // 2)))
    measured += measure(stages(options.events), options.rounds)
    labels = [f"{it.group}: {it.label}" for it in measured]
    panel = picture.Bars("CPU-microseconds an event", [median(it.cpu_us) for it in measured], logarithmic=True)
    results.write(report(measured, options.rounds, options.events), picture.bars(QUESTION, labels, [panel]))
    print(results.RESULTS / "stages.md")


if __name__ == "__main__":
    main()
