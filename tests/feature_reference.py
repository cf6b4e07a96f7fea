"""Computes the features and the score in Python, independently of their SQL, as a reference for tests."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from ingestd.snowflake.features.model import MODEL

NOW = datetime(2026, 3, 1, 12)  # noqa: DTZ001 (UTC without a zone, as in the table)
NOW_SQL = "'2026-03-01 12:00:00'::TIMESTAMP_NTZ"
WINDOWS = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1), "24h": timedelta(hours=24), "30d": timedelta(days=30)}
COUNTS = {
    "web_visits": "web_visit",
    "email_opens": "email_open",
    "email_clicks": "email_click",
    "advisor_calls": "advisor_call",
}
COLUMNS = {
    "event_id": "VARCHAR", "client_id": "VARCHAR", "event_timestamp": "TIMESTAMP_NTZ(6)", "event_type": "VARCHAR",
    "page_url": "VARCHAR", "session_id": "VARCHAR", "channel": "VARCHAR", "consent": "BOOLEAN",
    "received_at": "TIMESTAMP_NTZ(6)", "source_topic": "VARCHAR", "source_partition": "NUMBER(38,0)",
    "source_offset": "NUMBER(38,0)",
}  # fmt: skip

Row = dict[str, Any]  # a column's name -> its value


def features(rows: Sequence[Row]) -> dict[str, Row]:
    """Computes the rows of client_features by client id."""
    recent = [row for row in rows if NOW - timedelta(days=30) < row["event_timestamp"] <= NOW]
    first: dict[str, Row] = {}
    for row in sorted(recent, key=lambda it: (it["received_at"], it["source_partition"], it["source_offset"])):
        first.setdefault(row["event_id"], row)
    by_client: dict[str, list[Row]] = {}
    for row in sorted(first.values(), key=lambda it: (it["event_timestamp"], it["event_id"])):
        by_client.setdefault(row["client_id"], []).append(row)
    return {client: _client(client, events) for client, events in by_client.items()}


def _client(client: str, events: Sequence[Row]) -> Row:
    calls = [event for event in events if event["event_type"] == "advisor_call"]
    found: Row = {
        "client_id": client,
        "as_of": NOW,
        "last_event_at": events[-1]["event_timestamp"],
        "recency_s": _seconds(events[-1]),
        "advisor_recency_s": _seconds(calls[-1]) if calls else None,
        "last_channel": _last(events, "channel"),
        "consent": _last(events, "consent"),
    }
    for suffix, length in WINDOWS.items():
        within = [event for event in events if event["event_timestamp"] > NOW - length]
        counts = {name: sum(event["event_type"] == kind for event in within) for name, kind in COUNTS.items()}
        opens, clicks = counts["email_opens"], counts["email_clicks"]
        pages = {event["page_url"] for event in within if event["event_type"] == "web_visit"} - {None}
        values = {
            "events": len(within),
            **counts,
            "click_through": clicks / opens if opens else None,
            "distinct_pages": len(pages),
            "sessions": len({event["session_id"] for event in within} - {None}),
            "advisor_contact": counts["advisor_calls"] > 0,
        }
        found |= {f"{name}_{suffix}": value for name, value in values.items()}
    return found


def _seconds(event: Row) -> int:
    """Counts seconds as DATEDIFF does, which compares whole seconds."""
    time: datetime = event["event_timestamp"]
    return int((NOW - time.replace(microsecond=0)).total_seconds())


def _last(events: Sequence[Row], column: str) -> Any:
    known = [event[column] for event in events if event[column] is not None]
    return known[-1] if known else None


def propensity(client: Row) -> float:
    """Computes the propensity with the coefficients of the shipped model."""
    logit = MODEL.intercept
    for term in MODEL.terms:
        value = client[term.feature] or 0
        logit += term.coefficient * (math.log1p(value) if term.transform == "log1p" else value)
    return 1 / (1 + math.exp(-logit))


def action(client: Row) -> str:
    """Computes the next best action of client_scores."""
    chance = propensity(client)
    if chance >= MODEL.call_from:
        return "follow_up" if client["advisor_contact_24h"] else "call"
    if chance >= MODEL.mail_from and client["consent"] and not client["email_opens_24h"]:
        return "mail"
    return "wait"


# -- rows to compute them from


def create_table() -> str:
    """Returns the CREATE TABLE for such rows in Snowflake's dialect."""
    return f"CREATE TABLE marketing_events ({', '.join(map(' '.join, COLUMNS.items()))})"


def insert(count: int, mark: Callable[[int], str] = lambda _: "?") -> str:
    """Returns an INSERT of `count` rows; `mark` returns the placeholder of the n-th value."""
    width = len(COLUMNS)
    rows = [f"({', '.join(mark(row * width + n) for n in range(width))})" for row in range(count)]
    return f"INSERT INTO marketing_events ({', '.join(COLUMNS)}) VALUES {', '.join(rows)}"  # noqa: S608


def values(rows: Sequence[Row]) -> list[Any]:
    """Returns the values of all rows, in column order."""
    return [row[name] for row in rows for name in COLUMNS]


_MICROSECOND = timedelta(microseconds=1)
EDGES = [
    timedelta(0), _MICROSECOND, timedelta(seconds=1), timedelta(minutes=5), timedelta(minutes=5) - _MICROSECOND,
    timedelta(hours=1), timedelta(hours=1) + _MICROSECOND, timedelta(hours=24), timedelta(days=30),
    timedelta(days=30) - _MICROSECOND, timedelta(days=31), -timedelta(seconds=1),
]  # fmt: skip


def random_rows(seed: int, count: int) -> list[Row]:
    """Makes rows with many clients, all types, times around all windows, NULLs and duplicated events."""
    random = Random(seed)
    rows: list[Row] = []
    for offset in range(count):
        if rows and random.random() < 0.1:
            rows.append({**random.choice(rows), "source_offset": offset})
            continue
        spread = random.choice([60, 3600, 86_400, 2_500_000])
        age = random.choice(EDGES) if random.random() < 0.2 else timedelta(seconds=random.random() * spread)
        rows.append(
            {
                "event_id": f"event-{offset}",
                "client_id": f"client-{int(random.random() ** 2 * 40)}",
                "event_timestamp": NOW - age,
                "event_type": random.choice([*COUNTS.values(), "web_visit", "card_payment"]),
                "page_url": random.choice([None, "/", "/a", "/b", "/c"]),
                "session_id": random.choice([None, "s1", "s2", "s3"]),
                "channel": random.choice([None, "web", "email", "phone"]),
                "consent": random.choice([None, True, True, False]),
                "received_at": NOW - timedelta(seconds=random.randrange(3)),
                "source_topic": "events",
                "source_partition": random.randrange(3),
                "source_offset": offset,
            }
        )
    return rows
