"""Client features and scores: what they count, what the model predicts, and that the local warehouse agrees."""

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from benchmarks.propensity.history import DAY, investors, look_back, simulated
from ingestd.config.model import SimulatorConfig, SnowflakeConfig
from ingestd.config.types import Rate
from ingestd.core.events import load_model
from ingestd.demo.warehouse.database import Warehouse
from ingestd.snowflake import features
from ingestd.snowflake.features import RELATIONS, SCORE, relations
from ingestd.snowflake.features.model import MODEL, PropensityModel, Term
from ingestd.snowflake.features.score import score
from ingestd.snowflake.table import columns
from tests import feature_reference as reference
from tests.feature_reference import NOW, NOW_SQL, Row, random_rows

MONDAY = 1_740_355_200_000  # 2025-02-24T00:00:00Z
GOOD: Row = {
    "event_id": "e", "client_id": "c", "event_timestamp": NOW, "event_type": "web_visit", "page_url": "/",
    "session_id": "s", "channel": "web", "consent": True, "received_at": NOW, "source_topic": "events",
    "source_partition": 0, "source_offset": 0,
}  # fmt: skip


class Table:
    """The local warehouse with a fixed clock."""

    def __init__(self, directory: Path) -> None:
        self._warehouse = Warehouse(directory / "warehouse.duckdb", SnowflakeConfig(), now=NOW_SQL)
        self._warehouse.open(columns(load_model(None)))

    def fill(self, rows: Sequence[Row]) -> None:
        """Replaces all rows."""
        with self._warehouse.session() as cursor:
            cursor.execute("DELETE FROM marketing_events")
            if rows:
                cursor.execute(reference.insert(len(rows)), reference.values(rows))

    def read(self, relation: str) -> dict[str, Row]:
        """The rows of a relation by client."""
        with self._warehouse.session() as cursor:
            cursor.execute(f"SELECT * FROM {relation}")  # noqa: S608
            names = [column[0] for column in cursor.description or ()]
            return {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}

    def features(self, *rows: Row) -> Row:
        """Returns the features of the only client in `rows`."""
        self.fill(rows)
        (client,) = self.read("client_features").values()
        return client

    def action(self, *rows: Row) -> Any:
        """Returns the next best action for the only client in `rows`."""
        self.fill(rows)
        (client,) = self.read("client_scores").values()
        return client["next_best_action"]

    def close(self) -> None:
        self._warehouse.close()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    made = Table(tmp_path_factory.mktemp("warehouse"))
    yield made
    made.close()


def event(number: int, kind: str = "web_visit", age: timedelta = timedelta(0), **fields: object) -> Row:
    """Returns an event with its own id."""
    times = {"event_timestamp": NOW - age, "source_offset": number}
    return {**GOOD, **times, "event_id": f"e{number}", "event_type": kind, **fields}


# -- the same numbers


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 200))
def test_features_and_scores_match_an_independent_computation(table: Table, seed: int, count: int) -> None:
    rows = random_rows(seed, count)
    table.fill(rows)
    expected = reference.features(rows)
    assert table.read("client_features") == expected
    scores = table.read("client_scores")
    assert {client: row["next_best_action"] for client, row in scores.items()} == {
        client: reference.action(row) for client, row in expected.items()
    }
    for client, row in expected.items():
        assert scores[client]["propensity"] == pytest.approx(reference.propensity(row), rel=1e-12)


# -- what counts


def test_an_event_that_came_twice_counts_once(table: Table) -> None:
    again = {**event(1), "source_offset": 7, "source_partition": 1}
    assert table.features(event(1), again, event(2))["web_visits_5m"] == 2


def test_the_first_of_two_that_share_an_id_counts(table: Table) -> None:
    other = {**event(1, "email_open"), "received_at": NOW - timedelta(seconds=1), "source_offset": 9}
    found = table.features(event(1), other)
    assert (found["web_visits_5m"], found["email_opens_5m"]) == (0, 1)


def test_a_window_includes_its_end_and_excludes_its_start(table: Table) -> None:
    found = table.features(
        event(1), event(2, age=timedelta(minutes=5)), event(3, age=timedelta(minutes=5) - timedelta(microseconds=1))
    )
    assert (found["web_visits_5m"], found["web_visits_1h"]) == (2, 3)


def test_an_event_in_the_future_does_not_count_yet(table: Table) -> None:
    assert table.features(event(1), event(2, age=-timedelta(seconds=1)))["events_30d"] == 1


def test_click_through_is_unknown_without_an_opened_mail(table: Table) -> None:
    assert table.features(event(1, "email_click"))["click_through_30d"] is None
    found = table.features(*(event(n, "email_open") for n in range(3)), event(3, "email_click"))
    assert found["click_through_30d"] == 1 / 3


def test_the_last_channel_is_the_last_that_is_known(table: Table) -> None:
    found = table.features(
        event(1, age=timedelta(hours=2), channel="phone"), event(2, age=timedelta(hours=1)), event(3, channel=None)
    )
    assert found["last_channel"] == "web"


def test_a_client_of_whom_nothing_was_heard_for_30_days_has_no_row(table: Table) -> None:
    table.fill([event(1, age=timedelta(days=30))])
    assert table.read("client_features") == table.read("client_scores") == {}


# -- what to do


def interested(*more: Row) -> list[Row]:
    """A client whom the model takes for a likely investor."""
    calls = [event(n, "advisor_call", timedelta(days=3)) for n in range(20)]
    return [*calls, *(event(n, age=timedelta(days=2)) for n in range(20, 60)), *more]


def curious(*more: Row) -> list[Row]:
    """A client whom the model takes for a possible investor."""
    return [
        event(0, "advisor_call", timedelta(days=3)),
        *(event(n, age=timedelta(days=2)) for n in range(1, 20)),
        *more,
    ]


def test_who_is_likely_to_invest_is_called(table: Table) -> None:
    assert table.action(*interested()) == "call"


def test_who_was_called_within_a_day_is_not_called_again_but_sent_what_was_talked_about(table: Table) -> None:
    assert table.action(*interested(event(99, "advisor_call", timedelta(hours=23)))) == "follow_up"


def test_who_may_invest_gets_mail(table: Table) -> None:
    assert table.action(*curious()) == "mail"


def test_no_mail_without_consent(table: Table) -> None:
    assert table.action(*curious(event(99, consent=False))) == "wait"


def test_no_mail_where_consent_is_not_known(table: Table) -> None:
    assert table.action(*({**row, "consent": None} for row in curious())) == "wait"


def test_no_second_mail_within_a_day(table: Table) -> None:
    assert table.action(*curious(event(99, "email_open", timedelta(hours=22)))) == "wait"


def test_who_is_unlikely_to_invest_is_left_alone(table: Table) -> None:
    assert table.action(event(1)) == "wait"


# -- the model


def test_the_model_uses_features_that_there_are(table: Table) -> None:
    found = table.features(event(1))
    assert {term.feature for term in MODEL.terms} <= set(found)
    assert [name for name, _ in SCORE.arguments] == [term.feature for term in MODEL.terms]


def test_mail_goes_to_more_clients_than_calls() -> None:
    assert 0 < MODEL.mail_from < MODEL.call_from < 1


def test_a_score_is_an_expression_that_takes_each_feature_once() -> None:
    terms = (Term("a", "identity", -0.5), Term("b", "log1p", 2.0), Term("a", "log1p", 1.5))
    made = score(msgspec.structs.replace(MODEL, intercept=-1.0, terms=terms))
    assert made.arguments == (("a", "FLOAT"), ("b", "FLOAT"))
    body = sqlglot.transpile(made.body, read="snowflake", write="duckdb")[0]
    with duckdb.connect() as connection:
        ((chance,),) = connection.execute(f"SELECT {body} FROM (SELECT 3 AS a, NULL::BIGINT AS b)").fetchall()  # noqa: S608
    assert chance == pytest.approx(1 / (1 + math.exp(-(-1.0 - 0.5 * 3 + 1.5 * math.log(4)))), rel=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"terms": []},
        {"terms": [{"feature": "x) + (1", "transform": "log1p", "coefficient": 1}]},
        {"terms": [{"feature": "x", "transform": "square", "coefficient": 1}]},
        {"call_from": 2},
        {"version": "1'"},
        {"unknown": 1},
    ],
)
def test_an_invalid_model_is_refused(wrong: dict[str, Any]) -> None:
    good = msgspec.json.decode(msgspec.json.encode(MODEL))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**good, **wrong}, PropensityModel)


# -- the SQL


@pytest.mark.parametrize("text", [*(relation.sql for relation in RELATIONS), f"SELECT {SCORE.body}"])
def test_the_statements_are_valid_in_snowflake(text: str) -> None:
    (statement,) = sqlglot.parse(text, read="snowflake")
    assert isinstance(statement, exp.Select)


def test_quotients_use_floats_because_snowflake_rounds_numbers() -> None:
    quotients = [quotient for it in RELATIONS for quotient in sqlglot.parse_one(it.sql, "snowflake").find_all(exp.Div)]
    assert len(quotients) == 4
    for quotient in quotients:
        for side in (quotient.this, quotient.expression):
            assert isinstance(side, exp.Cast)
            assert side.to.is_type("double")


def test_a_missing_channel_or_consent_is_skipped() -> None:
    features = sqlglot.parse_one(RELATIONS[0].sql, "snowflake")
    for last in features.find_all(exp.ArgMax):
        assert last.expression == sqlglot.parse_one(f"IFF({last.this.name} IS NULL, NULL, nth)", "snowflake")


def test_names_can_be_qualified() -> None:
    windows, scores = relations("M.E.EVENTS", "M.E.FEATURES", score="M.E.SCORE")
    assert "FROM M.E.EVENTS\n" in windows.sql
    assert "FROM M.E.FEATURES\n" in scores.sql
    assert "M.E.SCORE(" in scores.sql


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_now_is_utc_in_every_session(zone: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        clock = sqlglot.transpile(features.NOW, read="snowflake", write="duckdb")[0]
        row = connection.execute(f"SELECT epoch_us({clock}) = epoch_us(now())").fetchone()
    assert row == (True,)


# -- whether it predicts


def area_under_curve(outcomes: Sequence[bool], scores: Sequence[float]) -> float:
    """How often a client who invests has a higher score than one who does not; equal scores count half."""
    yes = [score for score, outcome in zip(scores, outcomes, strict=True) if outcome]
    no = [score for score, outcome in zip(scores, outcomes, strict=True) if not outcome]
    return sum((a > b) + (a == b) / 2 for a in yes for b in no) / (len(yes) * len(no))


def test_the_score_predicts_who_will_invest() -> None:
    at = MONDAY + 33 * DAY + DAY // 2
    with simulated(SimulatorConfig(seed=3, clients=3000, rate=Rate(1.2)), MONDAY, 40) as connection:
        look_back(connection, at)
        found = connection.execute(
            f"SELECT client_id IN ({investors(at, 7)}), propensity FROM client_scores"  # noqa: S608
        ).fetchall()
    invested, scores = zip(*found, strict=True)
    assert sum(invested) > 30
    assert area_under_curve(invested, scores) > 0.7
    assert sum(scores) / len(scores) == pytest.approx(sum(invested) / len(invested), rel=0.5)
