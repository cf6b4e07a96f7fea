"""What `ingestd check` proposes for events of producers with other names: renames that make rows of them."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingestd.config.load import Flag, load
from ingestd.config.model import EventsConfig
from ingestd.core.events import ANY_JSON, Event, Model, load_model, make_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.core.values.decoder import FileDecoder
from ingestd.preflight import CheckFinding, Verdict, renames

OWN = load_model(None)
TIME = "2026-11-22T10:00:00Z"


class Payment(Event, tag="payment"):
    amount_cents: int


class CardPayment(Event, tag="card"):
    amount_cents: int
    amount_cent: int
    type: str | None = None


#: A producer of each kind: one of its events, without what differs from one to the next, and what its names mean.
PRODUCERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "segment": (
        {"messageId": ..., "type": "track", "userId": "u-1", "timestamp": TIME, "sentAt": TIME, "event": "Paid",
         "context": {"library": {"name": "analytics.js"}}, "properties": {"plan": "pro"}},
        {"type": "event_type", "messageId": "event_id", "userId": "client_id", "timestamp": "event_timestamp"},
    ),
    "camel case": (
        {"eventType": "Order", "eventId": ..., "clientId": "c", "eventTimestamp": TIME},
        {"eventType": "event_type", "eventId": "event_id", "clientId": "client_id",
         "eventTimestamp": "event_timestamp"},
    ),
    "short names": (
        {"event": "page", "uuid": ..., "distinct_id": "d", "ts": TIME, "url": "https://example.com"},
        {"event": "event_type", "uuid": "event_id", "distinct_id": "client_id", "ts": "event_timestamp"},
    ),
    "nested": (
        {"type": "page", "id": ..., "time": TIME, "user": {"id": "u", "name": "Ada"}, "device": {"id": "d"}},
        {"type": "event_type", "id": "event_id", "user.id": "client_id", "time": "event_timestamp"},
    ),
    "envelope": (
        {"meta": {"id": ..., "type": "page", "timestamp": TIME}, "user_id": "u"},
        {"meta.type": "event_type", "meta.id": "event_id", "user_id": "client_id", "meta.timestamp": "event_timestamp"},
    ),
    "a dot": (
        {"event.type": "page", "event.id": ..., "user.id": "u", "@timestamp": TIME},
        {r"event\.type": "event_type", r"event\.id": "event_id", r"user\.id": "client_id",
         "@timestamp": "event_timestamp"},
    ),
    "one name": (
        {"event_type": "page", "event_id": ..., "client_id": "c", "created_at": TIME},
        {"created_at": "event_timestamp"},
    ),
    "a typing error": (
        {"event_type": "page", "event_id": ..., "cleint_id": "c", "event_timestamp": TIME},
        {"cleint_id": "client_id"},
    ),
}  # fmt: skip


def filled(event: Mapping[str, Any], number: int) -> dict[str, Any]:
    """`event` with an id of its own in place of each Ellipsis."""
    return {
        name: f"id-{number}" if value is ... else filled(value, number) if isinstance(value, dict) else value
        for name, value in event.items()
    }


def records(events: Sequence[Mapping[str, Any]]) -> list[PlainRecord]:
    return [PlainRecord(at, 0, msgspec.json.encode(event)) for at, event in enumerate(events)]


def found(
    events: Sequence[Mapping[str, Any]], rename: Mapping[str, str] | None = None, model: Model = OWN
) -> list[CheckFinding]:
    return list(renames.findings(EventsConfig(rename=rename or {}), model, records(events), None))


def proposed(finding: CheckFinding, folder: Path) -> dict[str, str]:
    """What the configuration has when the operator does what the finding says, by the file and by the flag."""
    table = re.search(r"set (rename = \{.*\}) in \[events\]", finding.todo)
    assert table is not None, finding.todo
    file = folder / "ingestd.toml"
    file.write_text(f"[events]\n{table[1]}\n")
    by_file = dict(load(path=str(file), environ={}).config.events.rename)
    option, pair = shlex.split(finding.todo.partition(", or give ")[2])
    assert option == "--set"
    flag = Flag("--set", *pair.split("=", 1))
    assert dict(load(environ={}, flags=[flag]).config.events.rename) == by_file
    return by_file


@pytest.mark.parametrize("name", PRODUCERS)
def test_proposes_the_names_of_a_producer_and_what_it_proposes_makes_rows(name: str, tmp_path: Path) -> None:
    event, meaning = PRODUCERS[name]
    events = [filled(event, number) for number in range(20)]
    (finding,) = found(events)
    assert (finding.check, finding.verdict) == ("events.rename", Verdict.NOTE)
    assert proposed(finding, tmp_path) == meaning
    validator = EventValidator(EventsConfig(rename=meaning), OWN)
    assert not validator.chunk(TopicPartition("t", 0), records(events)).rejected
    assert found(events, meaning) == []


def test_says_how_many_records_lack_a_field_and_what_resembles_it() -> None:
    event, _ = PRODUCERS["one name"]
    (finding,) = found([filled(event, number) for number in range(10)])
    assert finding.seen == "missing: event_timestamp (10 of 10 records); created_at resembles event_timestamp"
    assert finding.todo == (
        'if they are the same, set rename = {created_at = "event_timestamp"} in [events], '
        "or give --set events.rename=created_at=event_timestamp"
    )


@pytest.mark.parametrize(("good", "proposes"), [(0, True), (1, True), (2, False), (10, False)])
def test_proposes_only_where_nearly_all_records_lack_a_field(good: int, *, proposes: bool) -> None:
    event, _ = PRODUCERS["one name"]
    right = {"event_type": "page", "event_id": ..., "client_id": "c", "event_timestamp": TIME, "created_at": TIME}
    assert bool(found([filled(right if at < good else event, at) for at in range(10)])) is proposes


def test_records_that_are_no_objects_do_not_count() -> None:
    event, meaning = PRODUCERS["one name"]
    some = [*records([filled(event, at) for at in range(3)]), PlainRecord(9, 0, b"<html>"), PlainRecord(10, 0, None)]
    (finding,) = renames.findings(EventsConfig(), OWN, some, None)
    assert "3 of 3 records" in finding.seen
    assert next(iter(meaning)) in finding.todo


def test_keeps_what_is_renamed_already_and_corrects_what_does_not_work(tmp_path: Path) -> None:
    event, meaning = PRODUCERS["nested"]
    events = [filled(event, number) for number in range(10)]
    (finding,) = found(events, {"type": "event_type", "message_id": "event_id"})
    assert proposed(finding, tmp_path) == meaning


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("ts", 1795341600, "client_id"),
        ("ts", 1795341600123, "Expected `datetime`, got `int`"),
        ("ts", "22.11.2026", "Invalid RFC3339 encoded datetime"),
        ("user_id", 17, "Expected `str`, got `int`"),
        ("id", "same", "they repeat"),
    ],
)
def test_a_field_of_such_a_name_whose_values_do_not_fit_is_told_and_not_proposed(
    field: str, value: object, words: str, tmp_path: Path
) -> None:
    event = {"type": "page", "id": ..., "user_id": "u", "ts": TIME, field: value}
    finding, misfit = found([filled(event, number) for number in range(10)])
    assert field not in proposed(finding, tmp_path)
    assert f"{field} resembles it, but its values do not fit" in misfit.seen
    assert words in finding.todo + misfit.seen
    assert misfit.verdict is Verdict.NOTE


def test_another_field_that_fits_is_preferred_to_one_of_a_likelier_name(tmp_path: Path) -> None:
    event = {"type": "page", "id": ..., "user_id": "u", "timestamp": 1795341600, "created_at": TIME}
    (finding,) = found([filled(event, number) for number in range(10)])
    assert proposed(finding, tmp_path)["created_at"] == "event_timestamp"


def test_a_name_that_differs_in_each_event_is_no_type() -> None:
    event = {"name": ..., "event_id": ..., "client_id": "c", "event_timestamp": TIME}
    (finding,) = found([filled(event, number) for number in range(20)])
    assert "each event has another one" in finding.seen


def test_a_field_that_a_users_only_type_requires_is_proposed_too(tmp_path: Path) -> None:
    event = {"event_type": "payment", "event_id": ..., "client_id": "c", "event_timestamp": TIME, "amountCents": 5}
    (finding,) = found([filled(event, at) for at in range(5)], model=make_model(Payment))
    assert proposed(finding, tmp_path) == {"amountCents": "amount_cents"}


def test_a_field_of_the_model_keeps_its_meaning_though_its_name_resembles_another() -> None:
    event = {"type": "visa", "event_id": ..., "client_id": "c", "event_timestamp": TIME, "amount_cents": 5}
    assert found([filled(event, at) for at in range(5)], model=make_model(CardPayment)) == []


def test_one_field_is_proposed_for_one_other_only(tmp_path: Path) -> None:
    event = {"event_type": "card", "event_id": ..., "client_id": "c", "event_timestamp": TIME, "amountCents": 5}
    (finding,) = found([filled(event, at) for at in range(5)], model=make_model(CardPayment))
    assert proposed(finding, tmp_path) == {"amountCents": "amount_cents"}


def test_a_field_that_only_some_records_have_is_not_proposed() -> None:
    event, _ = PRODUCERS["one name"]
    without = {name: value for name, value in event.items() if name != "created_at"}
    assert found([filled(event if at % 2 else without, at) for at in range(10)]) == []


def test_proposes_nothing_that_the_configuration_would_refuse() -> None:
    event = {"event_type": "page", "data": {"id": ...}, "client_id": "c", "event_timestamp": TIME}
    assert found([filled(event, at) for at in range(5)], {"data": "properties"}) == []


@pytest.mark.parametrize(
    "events",
    [
        [],
        [{"event_type": "page", "event_id": "e", "client_id": "c", "event_timestamp": TIME}],
        [{"temperature": 21.5, "sensor": "s-1"}, {"temperature": 20, "sensor": "s-2"}],
        [{"event_type": "page", "event_id": "e", "client_id": "c", "page_url": TIME}],
    ],
)
def test_proposes_nothing_where_nothing_is_missing_or_nothing_resembles_it(events: list[dict[str, Any]]) -> None:
    assert found(events) == []


def test_values_in_another_format_are_looked_at_and_renamed_as_json(tmp_path: Path) -> None:
    event, meaning = PRODUCERS["nested"]
    plain = records([filled(event, number) for number in range(10)])
    framed = [PlainRecord(it.offset, 0, b"\0" + (it.value or b"")) for it in plain]
    values = FileDecoder(lambda value: value[1:])
    (finding,) = renames.findings(EventsConfig(), OWN, framed, values)
    assert proposed(finding, tmp_path) == meaning
    validator = EventValidator(EventsConfig(rename=meaning), OWN, values=values)
    assert not validator.chunk(TopicPartition("t", 0), framed).rejected


def test_any_json_has_no_fields_that_could_be_missing() -> None:
    assert found([{"type": "x"}], model=ANY_JSON) == []
