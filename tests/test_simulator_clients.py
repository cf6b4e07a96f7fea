"""The simulated clients' activity, and the traces of their hidden interest in events."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import SimulatorConfig
from ingestd.config.types import Rate
from ingestd.sources.simulator.clients import Clients, calls, clicks, interest, invests, pages
from ingestd.sources.simulator.events import history

MONDAY = 1_740_355_200_000  # 2025-02-24T00:00:00Z
DAY = 86_400_000


def interest_of(client_id: str) -> float:
    return interest(crc32(client_id.encode()))


@given(count=st.integers(1, 3000), chance=st.floats(0, 1, exclude_max=True))
def test_the_truth_names_every_client_once_and_shares_add_up(count: int, chance: float) -> None:
    truth = list(Clients(count).truth())
    assert len({client.client_id for client in truth}) == count
    assert sum(client.share for client in truth) == pytest.approx(1.0)
    assert Clients(count).draw(chance) in {client.client_id for client in truth}


def test_clients_are_drawn_as_often_as_the_truth_says() -> None:
    clients, draws = Clients(500), 100_000
    drawn = Counter(clients.draw(n / draws) for n in range(draws))
    for client in clients.truth():
        assert drawn[client.client_id] / draws == pytest.approx(client.share, abs=1e-4)


def test_the_interest_is_evenly_spread_whatever_the_partition_and_the_rank() -> None:
    truth = list(Clients(20_000).truth())
    groups = [truth[:5000], truth[5000:], *([c for c in truth if crc32(c.client_id.encode()) % 6 == n] for n in (0, 5))]
    for group in groups:
        assert [round(q, 1) for q in statistics.quantiles([c.interest for c in group], n=5)] == [0.2, 0.4, 0.6, 0.8]


def test_a_client_keeps_its_interest_in_every_run() -> None:
    assert [round(interest_of(f"CLIENT_{number:06d}"), 6) for number in (0, 1, 4711)] == [0.308678, 0.740688, 0.999564]


@pytest.mark.parametrize(
    ("effect", "mean"),
    [(pages, 4.0), (clicks, 0.3), (calls, 1.0), (lambda u: calls(u) * invests(u), 0.2)],
    ids=["pages", "clicks", "calls", "investments"],
)
def test_interest_moves_the_means_of_the_firm_by_nothing(effect: Callable[[float], float], mean: float) -> None:
    steps = 10_000
    assert sum(effect((n + 0.5) / steps) for n in range(steps)) / steps == pytest.approx(mean, rel=1e-3)


@pytest.fixture(scope="module")
def events() -> list[tuple[float, str, str]]:
    """Three days: interest of the client, type of the event, and the outcome of a call or the id of the session."""

    def decoded() -> Iterator[tuple[float, str, str]]:
        for message in chain.from_iterable(history(SimulatorConfig(rate=Rate(40)), MONDAY, MONDAY + 3 * DAY)):
            event = msgspec.json.decode(message.value)
            detail = event.get("properties", {}).get("outcome") or event.get("session_id", "")
            yield interest_of(event["client_id"]), event["event_type"], detail

    return list(decoded())


def halves(events: list[tuple[float, str, str]], kind: str) -> list[list[str]]:
    """Details of the events of one type: of the clients who are less interested than the median, and of the others."""
    return [[d for u, k, d in events if k == kind and (u >= 0.5) is high] for high in (False, True)]


def test_the_interested_look_at_more_pages(events: list[tuple[float, str, str]]) -> None:
    low, high = (len(visits) / len(set(visits)) for visits in halves(events, "web_visit"))
    assert low < 3.2
    assert high > 4.8


def test_the_interested_follow_more_links(events: list[tuple[float, str, str]]) -> None:
    low, high = (
        len(clicked) / len(opened)
        for clicked, opened in zip(halves(events, "email_click"), halves(events, "email_open"), strict=True)
    )
    assert low < 0.25
    assert high > 0.35


def test_the_interested_call_more_often_and_invest_more_often(events: list[tuple[float, str, str]]) -> None:
    low, high = halves(events, "advisor_call")
    assert len(low) * 1.5 < len(high)
    shares = [half.count("invested") / len(half) for half in (low, high)]
    assert shares[0] < 0.12
    assert shares[1] > 0.2
