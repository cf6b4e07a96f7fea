"""What validation costs: CPU microseconds for each event of about 340 bytes, the best of many rounds.

python -m benchmarks.validate
"""

import math
import timeit
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import msgspec

from ingestd.config import Events
from ingestd.events import Event, load_model
from ingestd.records import PlainRecord, TopicPartition
from ingestd.validate import Validator

CHUNK = 2000
ROUNDS = 20
PARTITION = TopicPartition("marketing_events", 3)
RECEIVED_AT = datetime(2026, 11, 22, tzinfo=UTC)


def event(number: int, **changes: object) -> bytes:
    fields = {
        "event_id": str(uuid.UUID(int=number)),
        "client_id": f"CLIENT_{number:06d}",
        "event_timestamp": f"2026-11-22T00:00:{number % 60:02d}.{number % 1000:03d}Z",
        "event_type": "web_visit",
        "event_category": "marketing",
        "page_url": "https://www.example.com/products/funds/17",
        "session_id": str(uuid.UUID(int=number + 1)),
        "channel": "web",
        "device_type": "mobile",
        "duration_s": number % 600,
    }
    return msgspec.json.encode(fields | changes)


def records(**changes: object) -> list[PlainRecord]:
    return [PlainRecord(number, 1_795_000_000_000 + number // 50, event(number, **changes)) for number in range(CHUNK)]


def bare(values: Sequence[bytes]) -> Callable[[], object]:
    """The least there is to do: decode, set the four fields of origin, encode."""
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(load_model(None).union, float_hook=Decimal)
    decode = decoder.decode
    encode_lines = msgspec.json.Encoder(decimal_format="number").encode_lines

    def run() -> bytes:
        events = []
        for number, value in enumerate(values):
            one = decode(value)
            one.source_topic = "marketing_events"
            one.source_partition = 3
            one.source_offset = number
            one.received_at = RECEIVED_AT
            events.append(one)
        return encode_lines(events)

    return run


def main() -> None:
    validator = Validator(Events(), load_model(None))
    known = records()
    cases = {
        "known fields only": known,
        "  with properties": records(properties={"campaign": "spring", "price": 12.5, "items": [1, 2, 3]}),
        "  without category and channel": records(event_category=None, channel=None),
        "  with an offset": records(event_timestamp="2026-11-22T02:00:00+02:00"),
        "  without an offset": records(event_timestamp="2026-11-22T00:00:00.123456"),
        "an unknown field": records(utm_source="newsletter"),
        "an unknown type": records(event_type="webinar_joined"),
        "rejected: wrong type": records(client_id=17),
        "rejected: not JSON": [PlainRecord(number, 0, b"2026-11-22 INFO hello " * 15) for number in range(CHUNK)],
    }
    runs = {"decode, origin and encode alone": bare([record.value or b"" for record in known])}
    runs |= {name: partial(validator.chunk, PARTITION, chunk) for name, chunk in cases.items()}
    seconds = dict.fromkeys(runs, math.inf)
    for _ in range(ROUNDS):  # all in turn, because the machine's speed changes meanwhile
        for name, run in runs.items():
            seconds[name] = min(seconds[name], *timeit.repeat(run, number=1, repeat=3))
    floor = next(iter(seconds.values()))
    for name, best in seconds.items():
        print(f"{name:<34} {best / CHUNK * 1e6:6.2f} us {best / floor:6.2f} x")


if __name__ == "__main__":
    main()
