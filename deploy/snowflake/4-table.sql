-- File format, stage and table.

USE ROLE SYSADMIN;

CREATE FILE FORMAT IF NOT EXISTS MARKETING.EVENTS.MARKETING_EVENTS_JSON
    TYPE = JSON
    COMPRESSION = GZIP
    STRIP_OUTER_ARRAY = FALSE;

-- The slash at the end of the URL keeps out longer names, such as events-old/.
CREATE STAGE IF NOT EXISTS MARKETING.EVENTS.MARKETING_EVENTS_STAGE
    URL = 's3://your-marketing-events-bucket/events/'
    STORAGE_INTEGRATION = INGESTD_S3
    FILE_FORMAT = (FORMAT_NAME = 'MARKETING.EVENTS.MARKETING_EVENTS_JSON');

-- Leave ENABLE_SCHEMA_EVOLUTION off: it may drop the NOT NULL of event_id, which rejects rows that have only
-- NULL values.
CREATE TABLE IF NOT EXISTS MARKETING.EVENTS.MARKETING_EVENTS (
    event_id VARCHAR(256) NOT NULL COMMENT 'The producer''s own id',
    client_id VARCHAR(256) NOT NULL COMMENT 'Whom it is about',
    event_timestamp TIMESTAMP_NTZ(6) NOT NULL COMMENT 'When it happened, UTC',
    event_type VARCHAR(256) NOT NULL COMMENT 'What happened',
    event_category VARCHAR(256) COMMENT 'A default by type where the producer gave none',
    page_url VARCHAR(8192),
    session_id VARCHAR(256),
    channel VARCHAR(256) COMMENT 'A default by type where the producer gave none',
    device_type VARCHAR(256),
    campaign_id VARCHAR(256),
    duration_s NUMBER(38,0) COMMENT 'Seconds',
    consent BOOLEAN,
    properties VARIANT COMMENT 'Everything else',
    source_topic VARCHAR(256) COMMENT 'Kafka topic of the record',
    source_partition NUMBER(38,0) COMMENT 'Kafka partition of the record',
    source_offset NUMBER(38,0) COMMENT 'Kafka offset; names the record within its partition, as long as Kafka keeps it',
    received_at TIMESTAMP_NTZ(6) COMMENT 'Kafka timestamp of the record, UTC',
    file_name VARCHAR(1024) COMMENT 'Object that the row was loaded from',
    file_row_number NUMBER(38,0) COMMENT 'Row in that object, from 1',
    loaded_at TIMESTAMP_NTZ(6) COMMENT 'When the load of the object began, UTC'
);

DESC TABLE MARKETING.EVENTS.MARKETING_EVENTS;

GRANT USAGE ON FILE FORMAT MARKETING.EVENTS.MARKETING_EVENTS_JSON TO ROLE INGESTD_LOADER;

GRANT USAGE ON STAGE MARKETING.EVENTS.MARKETING_EVENTS_STAGE TO ROLE INGESTD_LOADER;

GRANT INSERT, SELECT ON TABLE MARKETING.EVENTS.MARKETING_EVENTS TO ROLE INGESTD_LOADER;

GRANT SELECT ON TABLE MARKETING.EVENTS.MARKETING_EVENTS TO ROLE INGESTD_READER;
