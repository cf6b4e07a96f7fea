"""What `ingestd check` says of the formats of a sample's values."""

from collections.abc import Sequence

import pytest

from ingestd.config.model import Config, KafkaConfig, RegistryConfig
from ingestd.core.records import TopicPartition
from ingestd.core.values.base import Schema, ValueSource
from ingestd.core.values.decoder import FileDecoder, as_it_is
from ingestd.preflight import CheckFinding, Verdict
from ingestd.preflight.value_formats import findings
from tests.registry_world import AVRO_SCHEMA, FakeRegistry, avro_event, framed
from tests.simulation import virtual_time
from tests.test_registry_values import JSON_EVENT, record, values_of

PLACE = TopicPartition("t", 0)
REGISTRY = Config(
    kafka=KafkaConfig(value_format="registry"), registry=RegistryConfig(urls=("https://registry.example.com",))
)
SCHEMAS = {1: AVRO_SCHEMA, 2: Schema("JSON", "{}"), 4: Schema("BROKEN", "")}


def found(values: Sequence[bytes], source: ValueSource | None, config: Config = REGISTRY) -> list[CheckFinding]:
    records = {PLACE: [record(value, offset) for offset, value in enumerate(values)]}
    made: list[CheckFinding] = virtual_time.run(findings(config, records, source))
    return made


def verdicts(all_: Sequence[CheckFinding]) -> list[tuple[str, Verdict]]:
    return [(it.check, it.verdict) for it in all_]


def test_plain_json_is_no_finding() -> None:
    assert found([JSON_EVENT], None, Config()) == []


@pytest.mark.parametrize(("plain", "verdict"), [(0, Verdict.WRONG), (1, Verdict.NOTE)])
def test_a_registry_s_wire_format_without_a_registry_says_what_to_set(plain: int, verdict: Verdict) -> None:
    [it] = found([*[JSON_EVENT] * plain, avro_event(1)], None, Config())
    assert (it.check, it.verdict) == ("kafka.value_format", verdict)
    assert "look like a schema registry's wire format" in it.seen
    assert it.todo == "set kafka.value_format = registry and registry.urls"


def test_each_schema_is_named_with_its_type_and_its_records() -> None:
    [it] = found([avro_event(1), avro_event(2), framed(2, JSON_EVENT)], values_of(FakeRegistry(SCHEMAS)))
    assert (it.check, it.verdict) == ("registry.schemas", Verdict.OK)
    assert it.seen == "the registry answers; schema id 1 (AVRO): 2 records, schema id 2 (JSON): 1 record"


def test_schemas_that_do_not_exist_or_cannot_be_used_are_told_with_why() -> None:
    answers, unusable = found([avro_event(1), framed(9, b"x"), framed(4, b"x")], values_of(FakeRegistry(SCHEMAS)))
    assert (answers.verdict, unusable.verdict) == (Verdict.OK, Verdict.NOTE)
    assert "schema id 9 (the schema registry does not have it): 1 record" in unusable.seen
    assert "schema id 4 (it cannot be used: its references are a circle): 1 record" in unusable.seen
    assert "quarantine" in unusable.todo
    assert verdicts(found([framed(9, b"x")], values_of(FakeRegistry({})))) == [("registry.schemas", Verdict.WRONG)]


@pytest.mark.parametrize(("good", "verdict"), [([], Verdict.WRONG), ([avro_event(1)], Verdict.NOTE)])
def test_records_that_name_no_schema_are_told(good: list[bytes], verdict: Verdict) -> None:
    it = found([*good, JSON_EVENT], values_of(FakeRegistry(SCHEMAS)))[-1]
    assert (it.check, it.verdict) == ("kafka.value_format", verdict)
    assert f"1 of {len(good) + 1} record" in it.seen


def test_a_registry_that_is_away_is_asked_once_and_wrong() -> None:
    registry = FakeRegistry(SCHEMAS)
    registry.away = True
    [it] = found([avro_event(1)], values_of(registry))
    assert (it.check, it.verdict) == ("registry.schemas", Verdict.WRONG)
    assert "the registry is away" in it.seen
    assert "registry.urls" in it.todo
    assert len(registry.asked) == 1


def test_values_of_a_file_s_schema_are_told_with_the_file() -> None:
    config = Config(kafka=KafkaConfig(value_format="avro", schema_file="events.avsc"))
    [it] = found([b"\x02"], FileDecoder(as_it_is), config)
    assert (it.verdict, it.seen) == (Verdict.OK, "avro, by the schema in events.avsc")


def test_an_empty_sample_asks_nobody() -> None:
    registry = FakeRegistry(SCHEMAS)
    assert found([], values_of(registry)) == []
    assert registry.asked == []
