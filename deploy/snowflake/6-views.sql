-- The views for readers.
-- The table's times are UTC without a time zone, like SYSDATE(). CURRENT_TIMESTAMP() is in the time zone of
-- the session: to compare times with it, run ALTER USER ... SET TIMEZONE = 'UTC'.

USE ROLE SYSADMIN;

-- The table has one row per Kafka record. If a producer sent an event twice, the view keeps the first.
CREATE OR REPLACE VIEW MARKETING.EVENTS.MARKETING_EVENTS_DEDUPLICATED COPY GRANTS
AS
SELECT
    event_id,
    client_id,
    event_timestamp,
    event_type,
    event_category,
    page_url,
    session_id,
    channel,
    device_type,
    campaign_id,
    duration_s,
    consent,
    properties,
    source_topic,
    source_partition,
    source_offset,
    received_at,
    file_name,
    file_row_number,
    loaded_at
FROM MARKETING.EVENTS.MARKETING_EVENTS
QUALIFY ROW_NUMBER() OVER (
    PARTITION BY event_id
    ORDER BY received_at, source_topic, source_partition, source_offset, file_name, file_row_number
) = 1;

GRANT SELECT ON VIEW MARKETING.EVENTS.MARKETING_EVENTS_DEDUPLICATED TO ROLE INGESTD_READER;

-- How likely it is that a client has an advisor call that ends with an investment, within 7 days; model 1.
CREATE OR REPLACE FUNCTION MARKETING.EVENTS.PROPENSITY_TO_INVEST(
    web_visits_30d FLOAT,
    email_opens_30d FLOAT,
    email_clicks_30d FLOAT,
    advisor_calls_30d FLOAT
)
RETURNS FLOAT
IMMUTABLE
AS
$$
1 / (1 + EXP(-(
    -5.4472
    + 0.5442 * LN(1 + COALESCE(web_visits_30d, 0)::FLOAT)
    - 0.2656 * LN(1 + COALESCE(email_opens_30d, 0)::FLOAT)
    + 0.6874 * LN(1 + COALESCE(email_clicks_30d, 0)::FLOAT)
    + 0.6305 * LN(1 + COALESCE(advisor_calls_30d, 0)::FLOAT)
)))
$$;

-- What each client did in the last 5 minutes, hour, 24 hours and 30 days; each event_id counts once.
-- Refreshes keep the warehouse running while events arrive: a longer TARGET_LAG costs less.
CREATE OR REPLACE DYNAMIC TABLE MARKETING.EVENTS.CLIENT_FEATURES
    TARGET_LAG = '1 minute'
    WAREHOUSE = MARKETING_WH
    REFRESH_MODE = FULL
AS
WITH recent AS (
    SELECT
        event_id, client_id, event_timestamp, event_type, page_url, session_id, channel, consent,
        received_at, source_topic, source_partition, source_offset,
        CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP())::TIMESTAMP_NTZ AS as_of
    FROM MARKETING.EVENTS.MARKETING_EVENTS
    WHERE event_timestamp > DATEADD(day, -30, CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP())::TIMESTAMP_NTZ)
        AND event_timestamp <= CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP())::TIMESTAMP_NTZ
),
deduplicated AS (
    SELECT *
    FROM recent
    QUALIFY ROW_NUMBER() OVER (
        PARTITION BY event_id ORDER BY received_at, source_topic, source_partition, source_offset
    ) = 1
),
aged AS (
    SELECT
        *,
        ROW_NUMBER() OVER (PARTITION BY client_id ORDER BY event_timestamp, event_id) AS nth,
        DATEDIFF(second, event_timestamp, as_of) AS age_s,
        event_timestamp > DATEADD(minute, -5, as_of) AS in_5m,
        event_timestamp > DATEADD(hour, -1, as_of) AS in_1h,
        event_timestamp > DATEADD(hour, -24, as_of) AS in_24h,
        event_timestamp > DATEADD(day, -30, as_of) AS in_30d
    FROM deduplicated
)
SELECT
    client_id,
    MAX(as_of) AS as_of,
    MAX(event_timestamp) AS last_event_at,
    MIN(age_s) AS recency_s,
    MIN(IFF(event_type = 'advisor_call', age_s, NULL)) AS advisor_recency_s,
    MAX_BY(channel, IFF(channel IS NULL, NULL, nth)) AS last_channel,
    MAX_BY(consent, IFF(consent IS NULL, NULL, nth)) AS consent,
    COUNT_IF(in_5m) AS events_5m,
    COUNT_IF(in_5m AND event_type = 'web_visit') AS web_visits_5m,
    COUNT_IF(in_5m AND event_type = 'email_open') AS email_opens_5m,
    COUNT_IF(in_5m AND event_type = 'email_click') AS email_clicks_5m,
    COUNT_IF(in_5m AND event_type = 'advisor_call') AS advisor_calls_5m,
    email_clicks_5m::FLOAT / NULLIF(email_opens_5m, 0)::FLOAT AS click_through_5m,
    COUNT(DISTINCT IFF(in_5m AND event_type = 'web_visit', page_url, NULL)) AS distinct_pages_5m,
    COUNT(DISTINCT IFF(in_5m, session_id, NULL)) AS sessions_5m,
    advisor_calls_5m > 0 AS advisor_contact_5m,
    COUNT_IF(in_1h) AS events_1h,
    COUNT_IF(in_1h AND event_type = 'web_visit') AS web_visits_1h,
    COUNT_IF(in_1h AND event_type = 'email_open') AS email_opens_1h,
    COUNT_IF(in_1h AND event_type = 'email_click') AS email_clicks_1h,
    COUNT_IF(in_1h AND event_type = 'advisor_call') AS advisor_calls_1h,
    email_clicks_1h::FLOAT / NULLIF(email_opens_1h, 0)::FLOAT AS click_through_1h,
    COUNT(DISTINCT IFF(in_1h AND event_type = 'web_visit', page_url, NULL)) AS distinct_pages_1h,
    COUNT(DISTINCT IFF(in_1h, session_id, NULL)) AS sessions_1h,
    advisor_calls_1h > 0 AS advisor_contact_1h,
    COUNT_IF(in_24h) AS events_24h,
    COUNT_IF(in_24h AND event_type = 'web_visit') AS web_visits_24h,
    COUNT_IF(in_24h AND event_type = 'email_open') AS email_opens_24h,
    COUNT_IF(in_24h AND event_type = 'email_click') AS email_clicks_24h,
    COUNT_IF(in_24h AND event_type = 'advisor_call') AS advisor_calls_24h,
    email_clicks_24h::FLOAT / NULLIF(email_opens_24h, 0)::FLOAT AS click_through_24h,
    COUNT(DISTINCT IFF(in_24h AND event_type = 'web_visit', page_url, NULL)) AS distinct_pages_24h,
    COUNT(DISTINCT IFF(in_24h, session_id, NULL)) AS sessions_24h,
    advisor_calls_24h > 0 AS advisor_contact_24h,
    COUNT_IF(in_30d) AS events_30d,
    COUNT_IF(in_30d AND event_type = 'web_visit') AS web_visits_30d,
    COUNT_IF(in_30d AND event_type = 'email_open') AS email_opens_30d,
    COUNT_IF(in_30d AND event_type = 'email_click') AS email_clicks_30d,
    COUNT_IF(in_30d AND event_type = 'advisor_call') AS advisor_calls_30d,
    email_clicks_30d::FLOAT / NULLIF(email_opens_30d, 0)::FLOAT AS click_through_30d,
    COUNT(DISTINCT IFF(in_30d AND event_type = 'web_visit', page_url, NULL)) AS distinct_pages_30d,
    COUNT(DISTINCT IFF(in_30d, session_id, NULL)) AS sessions_30d,
    advisor_calls_30d > 0 AS advisor_contact_30d
FROM aged
GROUP BY client_id;

GRANT SELECT ON DYNAMIC TABLE MARKETING.EVENTS.CLIENT_FEATURES TO ROLE INGESTD_READER;

-- How likely each client is to have an advisor call that ends with an investment, within 7 days, and the next
-- best action.
CREATE OR REPLACE VIEW MARKETING.EVENTS.CLIENT_SCORES COPY GRANTS
AS
WITH scored AS (
    SELECT
        *,
        MARKETING.EVENTS.PROPENSITY_TO_INVEST(web_visits_30d, email_opens_30d, email_clicks_30d, advisor_calls_30d) AS propensity
    FROM MARKETING.EVENTS.CLIENT_FEATURES
)
SELECT
    client_id,
    as_of,
    propensity,
    CASE
        WHEN propensity >= 0.1002 THEN IFF(advisor_contact_24h, 'follow_up', 'call')
        WHEN propensity >= 0.026 AND COALESCE(consent, FALSE) AND email_opens_24h = 0 THEN 'mail'
        ELSE 'wait'
    END AS next_best_action,
    '1' AS model_version
FROM scored;

GRANT SELECT ON VIEW MARKETING.EVENTS.CLIENT_SCORES TO ROLE INGESTD_READER;
