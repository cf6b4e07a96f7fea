"""Types that are learned from a stream: the same rows as before, at the price of known fields, in bounds."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.config.model import EventsConfig
from ingestd.core import learned_types
from ingestd.core.decoding import EventDecoder
from ingestd.core.events import Event, load_model, make_model
from ingestd.core.learned_types import FIELDS_MAX, FIRST_SAMPLE, LearnedTypes
from ingestd.core.records import PlainRecord
from ingestd.core.validation import EventValidator
from tests.reference_validator import ReferenceValidator
from tests.test_validation import KAFKA_TIME, PARTITION, Picky, as_sdks_send_it, chunk, damaged, row, with_fields

MODEL = load_model(None)


def validator(sample: Sequence[bytes] = (), model: Any = MODEL) -> EventValidator:
    """One that has learned from the sample."""
    made = EventValidator(EventsConfig(), model)
    chunk(*sample, validator=made)
    return made


def sample_of(*names: str, event_type: str = "web_visit") -> list[bytes]:
    return [with_fields(event_type=event_type, **dict.fromkeys(names, 1))] * FIRST_SAMPLE


@pytest.fixture
def decoded_wide(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The values that were decoded into a dict first."""
    found: list[bytes] = []
    wide = EventDecoder.wide

    def counting(self: EventDecoder, value: bytes) -> Event:
        found.append(value)
        return wide(self, value)

    monkeypatch.setattr(EventDecoder, "wide", counting)
    return found


def test_decodes_events_with_frequent_unknown_fields_at_once(decoded_wide: list[bytes]) -> None:
    learned = validator(sample_of("user", "sentAt"))
    decoded_wide.clear()
    moved = row(with_fields(user={"id": 1.50}, properties={"a": None}), learned)
    assert moved["properties"] == {"a": None, "user": {"id": 1.5}}
    assert decoded_wide == []
    assert row(with_fields(user=1, other=2), learned)["properties"] == {"other": 2, "user": 1}
    assert len(decoded_wide) == 1


def test_counts_learned_types_as_those_of_the_model() -> None:
    learned = validator(sample_of("user"))
    assert chunk(with_fields(user=1), with_fields(), validator=learned).accepted == {"web_visit": 2}


def test_learns_each_type_for_itself(decoded_wide: list[bytes]) -> None:
    learned = validator([*sample_of("a"), *sample_of("b", event_type="email_open") * 2])
    decoded_wide.clear()
    assert row(with_fields(a=1), learned)["properties"] == {"a": 1}
    assert row(with_fields(b=1, event_type="email_open"), learned)["properties"] == {"b": 1}
    assert decoded_wide == []
    assert row(with_fields(b=1), learned)["properties"] == {"b": 1}
    assert len(decoded_wide) == 1


def test_a_learned_name_that_the_properties_have_gets_an_underscore() -> None:
    learned = validator(sample_of("a"))
    assert row(with_fields(a=1, properties={"a": 2}), learned)["properties"] == {"a": 2, "_a": 1}


@pytest.mark.parametrize("name", ["received_at", "source_offset", "é", '"', "\\", "\n", "x" * 300, ""])
def test_names_that_no_type_can_have_make_the_same_rows_and_keep_no_other_from_being_learned(
    name: str, decoded_wide: list[bytes]
) -> None:
    learned = validator(sample_of(name, "a"))
    assert row(with_fields(a=1, **{name: 2}), learned)["properties"] == {"a": 1, name: 2}
    decoded_wide.clear()
    assert row(with_fields(a=1), learned)["properties"] == {"a": 1}
    assert decoded_wide == []


def test_a_type_that_looks_at_all_of_its_event_learns_nothing() -> None:
    learned = validator(sample_of("b"), make_model(Picky))
    assert chunk(with_fields(a=1), validator=learned).rejected


class Counting:
    """Makes decoders, and counts them and their fields."""

    def __init__(self) -> None:
        self.made = 0
        self.types = LearnedTypes(MODEL, self._make)

    def _make(self, union: Any) -> Any:
        self.made += 1
        self.fields = max(len(kind.__struct_fields__) for kind in union.__args__) - len(Event.__struct_fields__)
        return msgspec.json.Decoder(union).decode


def test_no_type_learns_more_fields_than_the_maximum() -> None:
    counting = Counting()
    for batch in range(10):
        for _ in range(1000 * 2**batch):
            if counting.types.decoder_after("web_visit", [f"{batch}_{number}" for number in range(FIELDS_MAX)]):
                break
        assert counting.fields == FIELDS_MAX
    assert counting.made == 10


def test_names_that_always_change_do_not_make_it_learn_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_types, "LARGEST_SAMPLE", 10_000)
    counting = Counting()
    for number in range(30_000):
        counting.types.decoder_after("web_visit", [f"until_{number // 100}", f"once_{number}"])
    assert 1 <= counting.made <= 8
    assert len(counting.types._counts) <= learned_types._NAMES_MAX + FIELDS_MAX


NAMES = ("a", "_a", "__a", "", "never", "generic", "_source_topic", "0", "A")
SAMPLE = [value for tag in MODEL.types for value in sample_of(*NAMES, event_type=tag)[: FIRST_SAMPLE // 4]]
TRAINED = [
    (validator(SAMPLE, model), ReferenceValidator(EventsConfig(), model)) for model in (MODEL, make_model(Picky))
]


@given(st.lists(as_sdks_send_it(st.sampled_from(NAMES)) | damaged(), min_size=1, max_size=40))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])
def test_learned_types_give_the_rows_and_rejects_of_the_reference(values: list[bytes | None]) -> None:
    records = [PlainRecord(offset, KAFKA_TIME + offset, value) for offset, value in enumerate(values)]
    for learned, reference in TRAINED:
        found, expected = learned.chunk(PARTITION, records), reference.chunk(PARTITION, records)
        assert (found.rows, found.accepted, found.rejected) == (expected.rows, expected.accepted, expected.rejected)
