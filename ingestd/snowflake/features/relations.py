"""The client features and the next best action, as SELECTs in Snowflake's dialect."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ingestd.snowflake.features.model import MODEL
from ingestd.snowflake.features.score import SCORE

# A TIMESTAMP_NTZ in UTC like event_timestamp, in any session time zone.
NOW = "CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP())::TIMESTAMP_NTZ"

RECORD = ("source_topic", "source_partition", "source_offset")

#: Suffix of a feature's name -> its window, as arguments of DATEADD.
WINDOWS = {"5m": ("minute", 5), "1h": ("hour", 1), "24h": ("hour", 24), "30d": ("day", 30)}

_EVENT_TYPES = {
    "web_visits": "web_visit",
    "email_opens": "email_open",
    "email_clicks": "email_click",
    "advisor_calls": "advisor_call",
}


class Relation(NamedTuple):
    """A SELECT, deployed as a view or as a dynamic table."""

    name: str  # lower case
    comment: str
    sql: str  # Snowflake's dialect, no semicolon
    kind: Literal["dynamic table", "view"]


def relations(
    events: str = "marketing_events",
    features: str = "client_features",
    now: str = NOW,
    score: str = SCORE.name,
    record: Sequence[str] = RECORD,
) -> tuple[Relation, ...]:
    """Returns the relations; each may select from those before it.

    `events`, `features` and `score` are the (qualified) names to select from; `now` is a TIMESTAMP_NTZ expression;
    `record` are the columns that name a row's record in the source.
    """
    return (
        Relation(
            "client_features",
            "What each client did in the last 5 minutes, hour, 24 hours and 30 days; each event_id counts once",
            _client_features(events, now, ", ".join(("received_at", *record))),
            "dynamic table",
        ),
        Relation(
            "client_scores",
            f"How likely each client is to have {MODEL.outcome}, and the next best action",
            _client_scores(features, score),
            "view",
        ),
    )


def _client_features(events: str, now: str, order: str) -> str:
    """The 30 days are selected before duplicates are removed: both copies of an event have the same time."""
    windows = ",\n".join(
        f"        event_timestamp > DATEADD({unit}, -{length}, as_of) AS in_{suffix}"
        for suffix, (unit, length) in WINDOWS.items()
    )
    # Of a last row with NULL Snowflake's MAX_BY returns NULL and DuckDB's skips it; a row with order NULL both skip.
    last = "MAX_BY({0}, IFF({0} IS NULL, NULL, nth)) AS {1}"
    features = ",\n".join(f"    {feature}" for suffix in WINDOWS for feature in _window(suffix))
    return f"""\
WITH recent AS (
    SELECT
        event_id, client_id, event_timestamp, event_type, page_url, session_id, channel, consent,
        {order},
        {now} AS as_of
    FROM {events}
    WHERE event_timestamp > DATEADD(day, -30, {now})
        AND event_timestamp <= {now}
),
deduplicated AS (
    SELECT *
    FROM recent
    QUALIFY ROW_NUMBER() OVER (
        PARTITION BY event_id ORDER BY {order}
    ) = 1
),
aged AS (
    SELECT
        *,
        ROW_NUMBER() OVER (PARTITION BY client_id ORDER BY event_timestamp, event_id) AS nth,
        DATEDIFF(second, event_timestamp, as_of) AS age_s,
{windows}
    FROM deduplicated
)
SELECT
    client_id,
    MAX(as_of) AS as_of,
    MAX(event_timestamp) AS last_event_at,
    MIN(age_s) AS recency_s,
    MIN(IFF(event_type = 'advisor_call', age_s, NULL)) AS advisor_recency_s,
    {last.format("channel", "last_channel")},
    {last.format("consent", "consent")},
{features}
FROM aged
GROUP BY client_id"""  # noqa: S608 (no user input)


def _window(suffix: str) -> list[str]:
    within = f"in_{suffix}"
    return [
        f"COUNT_IF({within}) AS events_{suffix}",
        *(f"COUNT_IF({within} AND event_type = '{kind}') AS {name}_{suffix}" for name, kind in _EVENT_TYPES.items()),
        # As FLOAT: Snowflake rounds a quotient of two NUMBERs to six decimals.
        f"email_clicks_{suffix}::FLOAT / NULLIF(email_opens_{suffix}, 0)::FLOAT AS click_through_{suffix}",
        f"COUNT(DISTINCT IFF({within} AND event_type = 'web_visit', page_url, NULL)) AS distinct_pages_{suffix}",
        f"COUNT(DISTINCT IFF({within}, session_id, NULL)) AS sessions_{suffix}",
        f"advisor_calls_{suffix} > 0 AS advisor_contact_{suffix}",
    ]


def _client_scores(features: str, score: str) -> str:
    return f"""\
WITH scored AS (
    SELECT
        *,
        {score}({", ".join(name for name, _ in SCORE.arguments)}) AS propensity
    FROM {features}
)
SELECT
    client_id,
    as_of,
    propensity,
    CASE
        WHEN propensity >= {MODEL.call_from!r} THEN IFF(advisor_contact_24h, 'follow_up', 'call')
        WHEN propensity >= {MODEL.mail_from!r} AND COALESCE(consent, FALSE) AND email_opens_24h = 0 THEN 'mail'
        ELSE 'wait'
    END AS next_best_action,
    '{MODEL.version}' AS model_version
FROM scored"""  # noqa: S608 (no user input)


RELATIONS = relations()
