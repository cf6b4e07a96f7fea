"""Simulated events are the same for the same seed, bounded, and like those of a firm."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain, islice, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.config.model import EventsConfig, SimulatorConfig
from ingestd.config.types import Rate, Seconds
from ingestd.core.errors import ConfigError
from ingestd.core.events import AdvisorCall, EmailClick, EmailOpen, Event, WebVisit, load_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.sources.simulator import events as simulation
from ingestd.sources.simulator.events import MALFORMATIONS, MAX_EVENTS, Message, Simulation, check, history

MONDAY_NOON = 1_740_398_400_000  # 2025-02-24T12:00:00Z
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

known = msgspec.json.Decoder(WebVisit | EmailOpen | EmailClick | AdvisorCall, float_hook=Decimal)


def live(config: SimulatorConfig, minutes: int, start: int = MONDAY_NOON) -> list[Message]:
    """As a live run of 600 events a minute is asked for, a tenth of a second at a time."""
    run = Simulation(config, start)
    return [m for at in range(start, start + minutes * MINUTE, 100) for m in run.events(1, at, at + 100)]


def decoded(messages: list[Message]) -> list[Any]:
    return [known.decode(message.value) for message in messages]


def past(config: SimulatorConfig, days: int) -> Iterator[Message]:
    return chain.from_iterable(history(config, MONDAY_NOON, MONDAY_NOON + days * DAY))


@pytest.fixture(scope="module")
def day() -> list[Any]:
    """One Monday noon to Tuesday noon at 60 events a minute."""
    return decoded(list(past(SimulatorConfig(rate=Rate(60)), 1)))


@given(seed=st.integers(), counts=st.lists(st.integers(0, 50), max_size=5), faulty=st.booleans())
def test_the_same_seed_and_times_make_the_same_bytes(seed: int, counts: list[int], faulty: bool) -> None:
    share = 0.2 if faulty else 0.0
    config = SimulatorConfig(seed=seed, malformed=share, late=share, duplicate=share)
    one, other = Simulation(config, MONDAY_NOON), Simulation(config, MONDAY_NOON)
    for n, count in enumerate(counts):
        span = MONDAY_NOON + n * MINUTE, MONDAY_NOON + (n + 1) * MINUTE
        assert one.events(count, *span) == other.events(count, *span)


def test_another_seed_or_another_start_makes_other_events() -> None:
    ids = [
        {event.event_id for event in decoded(live(SimulatorConfig(seed=seed), 1, start))}
        for seed, start in ((7, MONDAY_NOON), (8, MONDAY_NOON), (7, MONDAY_NOON + 1))
    ]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]


@given(count=st.integers(0, 300), length=st.floats(0, 1e6), offset=st.floats(0, 1e4))
def test_makes_as_many_events_as_asked_in_order_within_the_span(count: int, length: float, offset: float) -> None:
    start = MONDAY_NOON + offset
    messages = Simulation(SimulatorConfig(duplicate=0.1), MONDAY_NOON).events(count, start, start + length)
    times = [message.timestamp for message in messages]
    assert len(times) == count
    assert times == sorted(times)
    assert all(int(start) <= time <= start + length for time in times)


def test_good_events_take_the_fast_path_of_the_model(day: list[Any]) -> None:
    assert {type(event) for event in day} == {WebVisit, EmailOpen, EmailClick, AdvisorCall}


def test_every_field_of_the_model_occurs(day: list[Any]) -> None:
    filled = {name for event in day[:5000] for name in Event.__struct_fields__ if getattr(event, name) is not None}
    assert filled == set(Event.__struct_fields__[:12])


def test_event_ids_are_uuids_and_unique(day: list[Any]) -> None:
    ids = [event.event_id for event in day]
    assert len(set(ids)) == len(ids)
    pattern = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}")
    assert all(map(pattern.fullmatch, ids))


def test_event_timestamps_are_utc_with_milliseconds_and_just_before_kafkas() -> None:
    for message in live(SimulatorConfig(), 1):
        text = msgspec.json.decode(message.value)["event_timestamp"]
        time = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert len(text) == len("2025-02-24T12:00:00.000Z")
        lag = message.timestamp - round(time.timestamp() * 1000)
        assert 0 <= lag < 1500


@given(partitions=st.integers(1, 50), seed=st.integers(0, 5))
def test_a_client_always_goes_to_the_same_partition(partitions: int, seed: int) -> None:
    of: dict[bytes, int] = {}
    config = SimulatorConfig(partitions=partitions, clients=20, seed=seed, duplicate=0.1)
    for message in Simulation(config, MONDAY_NOON).events(200, MONDAY_NOON, MONDAY_NOON + MINUTE):
        assert 0 <= message.partition < partitions
        assert of.setdefault(message.key, message.partition) == message.partition
        assert msgspec.json.decode(message.value)["client_id"].encode() == message.key


def test_a_partition_does_not_depend_on_seed_or_process() -> None:
    messages = live(SimulatorConfig(clients=1, partitions=1000), 1)
    assert {(message.key, message.partition) for message in messages} == {(b"CLIENT_000000", 898)}


@pytest.mark.parametrize("clients", [1, 2, 99, 5000, 10_000_000])
def test_a_few_clients_do_most(clients: int) -> None:
    config = SimulatorConfig(clients=clients)
    counts = Counter(message.key for message in Simulation(config, 0).events(5000, MONDAY_NOON, MONDAY_NOON + HOUR))
    assert len(counts) <= clients
    assert all(int(key[len("CLIENT_") :]) < clients for key in counts)
    if clients == 5000:
        assert 0.4 < sum(n for _, n in counts.most_common(clients // 10)) / 5000 < 0.9
        assert counts.most_common(1)[0][1] < 0.05 * 5000


def test_a_visit_is_several_pages_of_one_client_and_device_in_order(day: list[Any]) -> None:
    sessions = defaultdict(list)
    for event in day:
        if isinstance(event, WebVisit):
            sessions[event.session_id].append(event)
    pages = sum(map(len, sessions.values())) / len(sessions)
    assert 3 < pages < 5
    for visit in sessions.values():
        assert len({(event.client_id, event.device_type) for event in visit}) == 1
        assert all(a.event_timestamp < b.event_timestamp for a, b in pairwise(visit))


def test_clicks_follow_opens_and_cause_visits(day: list[Any]) -> None:
    opened: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    clicked: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    visited = set()
    for event in day:
        reader = (event.client_id, event.campaign_id)
        match event:
            case EmailOpen():
                opened[reader].append(event.event_timestamp)
            case EmailClick():
                assert any(time < event.event_timestamp for time in opened[reader])
                clicked[reader].append(event.event_timestamp)
            case WebVisit(campaign_id=str()):
                assert any(time < event.event_timestamp for time in clicked[reader])
                visited.add(reader)
    assert len(visited) > 0.95 * len(clicked) > 0


def test_mails_are_opened_after_their_campaign_was_sent(day: list[Any]) -> None:
    delays = [
        event.event_timestamp - datetime.strptime(event.campaign_id[:11], "%Y%m%d-%H").replace(tzinfo=UTC)
        for event in day
        if isinstance(event, EmailOpen) and event.campaign_id
    ]
    assert min(delays) >= timedelta(0)
    assert len([delay for delay in delays if delay < timedelta(days=1)]) > len(delays) / 2


def test_clients_without_consent_get_no_mail(day: list[Any]) -> None:
    consent = Counter((type(event).__name__, event.consent) for event in day)
    assert consent["EmailOpen", False] == 0
    assert consent["WebVisit", False] > 0


def test_advisors_call_in_office_hours_only() -> None:
    calls = [
        event
        for event in decoded(list(past(SimulatorConfig(rate=Rate(5), late=0.3), 8)))
        if isinstance(event, AdvisorCall)
    ]
    assert len(calls) > 500
    assert {event.event_timestamp.weekday() for event in calls} == {0, 1, 2, 3, 4}
    assert {event.event_timestamp.hour for event in calls} == set(range(9, 17))


def test_office_hours_are_those_of_the_call_not_of_its_arrival() -> None:
    opening = MONDAY_NOON - 3 * HOUR
    events = decoded(Simulation(SimulatorConfig(), opening).events(2000, opening, opening + 1000))
    calls = [event for event in events if isinstance(event, AdvisorCall)]
    assert calls
    assert {event.event_timestamp.hour for event in calls} == {9}


def test_money_has_two_decimals(day: list[Any]) -> None:
    calls = [event.properties for event in day if isinstance(event, AdvisorCall) and event.properties]
    amounts = [properties["amount"] for properties in calls if "amount" in properties]
    assert len(amounts) > 100
    assert all(isinstance(amount, Decimal) and amount.as_tuple().exponent == -2 for amount in amounts)
    assert all(Decimal("100.00") <= amount <= Decimal("100000.00") for amount in amounts)


def test_the_past_has_the_rhythm_of_days_and_the_rate_in_the_mean() -> None:
    messages = list(past(SimulatorConfig(rate=Rate(10)), 7))
    assert abs(len(messages) - 7 * 1440 * 10) <= 1
    by_hour = Counter(message.timestamp // HOUR % 24 for message in messages)
    assert by_hour[3] < by_hour[10] / 5


@settings(max_examples=30)
@given(rate=st.floats(0.01, 1e7), days=st.integers(1, 5))
def test_the_past_comes_in_bounded_pieces_and_in_order(rate: float, days: int) -> None:
    last = MONDAY_NOON
    for messages in islice(history(SimulatorConfig(rate=Rate(rate)), MONDAY_NOON, MONDAY_NOON + days * DAY), 3):
        assert 0 < len(messages) <= MAX_EVENTS
        assert last <= messages[0].timestamp
        last = messages[-1].timestamp
        assert last < MONDAY_NOON + days * DAY


def test_what_goes_on_later_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "MAX_PENDING", 100)
    run = Simulation(SimulatorConfig(), MONDAY_NOON)
    events = []
    for _ in range(500):
        events += decoded(run.events(10, MONDAY_NOON, MONDAY_NOON + 10))
        assert len(run._pending) <= 100
    assert Counter(event.session_id for event in events if event.session_id).most_common(1)[0][1] > 1


def test_every_malformation_is_rejected_for_a_reason_of_its_own() -> None:
    good = live(SimulatorConfig(), 1)[0]
    values = [good.value, *(spoil(good.value) for spoil in MALFORMATIONS.values())]
    records = [PlainRecord(offset, good.timestamp, value) for offset, value in enumerate(values)]
    validated = EventValidator(EventsConfig(), load_model(None)).chunk(TopicPartition("t", 0), records)
    assert sum(validated.accepted.values()) == 1
    assert len({(rejected.reason, rejected.path) for rejected in validated.rejected}) == len(MALFORMATIONS)


def test_shares_of_faults_are_those_asked_for() -> None:
    messages = live(SimulatorConfig(malformed=0.1, late=0.2, duplicate=0.15), 20)
    seen: set[bytes] = set()
    count: Counter[str] = Counter()
    for message in messages:
        try:
            event = known.decode(message.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            count["malformed"] += 1
            continue
        lag = message.timestamp / 1000 - event.event_timestamp.timestamp()
        if message.value in seen:
            count["duplicate"] += 1
        elif lag > 1800:
            count["late"] += 1
        seen.add(message.value)
    shares = {fault: n / len(messages) for fault, n in count.items()}
    assert shares == {
        "malformed": pytest.approx(0.1, abs=0.02),
        "late": pytest.approx(0.2, abs=0.02),
        "duplicate": pytest.approx(0.15, abs=0.02),
    }


def test_all_kinds_of_malformed_events_occur() -> None:
    values = {message.value for message in live(SimulatorConfig(malformed=1.0), 1)}
    for mark in (b"<html>", b"[{", b"4711", b'["web"', b"\xff", b"02-30", b"30000-"):
        assert any(mark in value for value in values), mark
    assert b"" in values
    assert any(value.startswith(b'{"client_id"') for value in values)
    assert any(value.startswith(b"{") and not value.endswith(b"}") for value in values)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SimulatorConfig(malformed=0.5, late=0.4, duplicate=0.2), r"add up to 1\.1 \(.*at most"),
        (
            SimulatorConfig(rate=Rate(0), history=Seconds(60)),
            r"simulator\.rate is 0 while simulator\.history is 1m \(give",
        ),
        (SimulatorConfig(history=Seconds(86_400 * 4000)), r"simulator\.history is 4000d \(make it 3650d at most"),
    ],
)
def test_refuses_keys_that_do_not_go_together(config: SimulatorConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(config)
