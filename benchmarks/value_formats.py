"""What does an event in Avro cost, beside the same one in JSON, and beside Bento?

    python -m benchmarks.value_formats [--records 200000] [--rounds 3]

First the validator alone, in this process; then whole daemons, and Bento's `schema_registry_decode` where it can be
built (Go), on the same values of one topic. All in turn, in the same run. Writes value_formats.md and
value_formats.json into benchmarks/results.
"""

import argparse
import io
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import uvloop

from benchmarks.peers.install import Missing, Tools
from benchmarks.queues.consumers import Job, run_bento, run_daemon
from benchmarks.queues.report import OURS, Run
from benchmarks.rig import results
from benchmarks.rig.fill import TYPICAL, Load, events, fill
from benchmarks.rig.results import Table, median, spread
from ingestd.config.model import EventsConfig, RegistryConfig
from ingestd.core.events import load_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.core.values.base import Schema, SchemaRef
from ingestd.core.values.decoder import compile_schema
from ingestd.sources.registry.client import RegistryClient
from ingestd.sources.registry.loader import RegistryValues
from tests.registry_server import schema, serving
from tests.services import process
from tests.services.kafka import KafkaBroker

QUESTION = "What does an event in Avro cost?"
JSON, FRAMED, AVRO = "JSON", "JSON Schema of a registry", "Avro of a registry"
BENTO = "Bento 1.19: Avro of a registry"
CHUNK, DECODED = 2000, 20_000  # records of the validator's part
PLACE = TopicPartition("t", 0)
_TEXTS = ("event_id", "client_id", "event_type")
_MORE = ("event_category", "page_url", "session_id", "channel", "device_type")
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "fields": [
        *({"name": name, "type": "string"} for name in _TEXTS),
        {"name": "event_timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        *({"name": name, "type": ["null", "string"]} for name in _MORE),
        {"name": "duration_s", "type": ["null", "long"]},
    ],
}
_PARSED = fastavro.parse_schema(SCHEMA)


def as_avro(value: bytes) -> bytes:
    """The same event in the registry's wire format, of schema 1."""
    event = msgspec.json.decode(value)
    event["event_timestamp"] = datetime.fromisoformat(event["event_timestamp"])
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, _PARSED, event)
    return b"\0\0\0\0\1" + stream.getvalue()


def as_framed(value: bytes) -> bytes:
    """The same bytes, of schema 2."""
    return b"\0\0\0\0\2" + value


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {JSON: bytes, FRAMED: as_framed, AVRO: as_avro}


def validated(rounds: int) -> list[Run]:
    """The CPU of the validator in this process; of the loader, what it is asked before each chunk."""
    config = RegistryConfig(urls=("http://127.0.0.1",))
    values = RegistryValues(RegistryClient(config), config)
    for number, found in ((1, Schema("AVRO", json.dumps(SCHEMA))), (2, Schema("JSON", "{}"))):
        values.put(SchemaRef("id", str(number)), compile_schema(found))
    plain = list(islice(events(Load(events=DECODED)), DECODED))
    runs, model = [], load_model(None)
    for _ in range(rounds):
        for what, encode in ENCODINGS.items():
            validator = EventValidator(EventsConfig(), model, values=None if what == JSON else values)
            records = [PlainRecord(number, 0, encode(value)) for number, value in enumerate(plain)]
            began = time.process_time()
            for begin in range(0, DECODED, CHUNK):
                chunk = records[begin : begin + CHUNK]
                assert what == JSON or not values.missing(chunk)
                assert not validator.chunk(PLACE, chunk).rejected
            used = time.process_time() - began
            runs.append(Run(what, OURS, DECODED, DECODED / used, used / DECODED * 1e6))
    return runs


async def measure(records: int, rounds: int, directory: Path, *, with_bento: bool) -> list[Run]:
    """What whole processes take."""
    runs = []
    answers = {"/schemas/ids/1": schema(json.dumps(SCHEMA)), "/schemas/ids/2": schema("{}", kind="JSON")}
    (directory / "kafka").mkdir()
    with KafkaBroker(directory / "kafka") as broker:
        async with serving(answers) as registry:
            topics = dict(zip(ENCODINGS, ("json", "framed", "avro"), strict=True))
            for what, topic in topics.items():
                await fill(broker.bootstrap, topic, Load(events=records, partitions=2), ENCODINGS[what])
            for number in range(rounds):
                folder = directory / str(number)
                for what, topic in topics.items():
                    keys = {"kafka.bootstrap_servers": broker.bootstrap, "kafka.topics": topic}
                    keys["kafka.group_id"] = f"bench-{uuid.uuid4().hex}"
                    if what != JSON:
                        keys |= {"kafka.value_format": "registry", "registry.urls": registry.url}
                    runs.append(await run_daemon(Job(what, records, folder / topic), keys))
                if with_bento:
                    places = {"BOOTSTRAP": broker.bootstrap, "TOPIC": topics[AVRO], "REGISTRY": registry.url}
                    places["GROUP"] = f"bento-{uuid.uuid4().hex}"
                    run = await run_bento(Job("Registry", records, folder / "bento"), places, lambda: True)
                    runs.append(msgspec.structs.replace(run, source=BENTO))
    return runs


def table(title: str, runs: Sequence[Run], note: str) -> Table:
    """Each kind beside JSON."""
    base = median([it.cpu_us for it in runs if it.source == JSON])
    rows = []
    for what in dict.fromkeys(it.source for it in runs):
        costs = [it.cpu_us for it in runs if it.source == what]
        rates = [it.events_per_s for it in runs if it.source == what]
        rows.append([what, spread(costs, 2), f"{median(costs) / base:.2f}", spread(rates, 0)])
    return Table(title=title, head=["Values are", "CPU µs", "x JSON", "Events/s"], rows=rows, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.value_formats", description=QUESTION)
    parser.add_argument("--records", type=int, default=200_000, help="of each topic")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    process.services_allowed = True
    with_bento = True
    try:
        Tools().bento()
    except Missing as why:
        with_bento = False
        print(f"without Bento: {why}")
    alone = validated(options.rounds)
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as name:
        whole = uvloop.run(measure(options.records, options.rounds, Path(name), with_bento=with_bento))
    settings = {
        "Events": f"about {TYPICAL} bytes in JSON; {DECODED:,} for the validator, {options.records:,} of each topic",
        "Rounds, interleaved": str(options.rounds),
    }
    note = "From the topic into files of gzip JSON lines; ingestd validates each event, Bento decodes it only."
    tables = [
        table("The validator alone", alone, "From a value to the row's JSON."),
        table("Whole processes", whole, note),
    ]
    command = f"python -m benchmarks.value_formats --records {options.records} --rounds {options.rounds}"
    runs = {"validator": alone, "processes": whole}
    results.write(
        results.Report(
            name="value_formats", question=QUESTION, command=command, settings=settings, tables=tables, runs=runs
        )
    )


if __name__ == "__main__":
    main()
