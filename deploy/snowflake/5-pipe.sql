-- The pipe.

USE ROLE INGESTD_LOADER;

-- Style select, as in the guide: each column is named and cast, and loaded_at is UTC.
-- Disadvantages: VALIDATE_PIPE_LOAD does not support it, and a new field of the model is loaded only after
-- the pipe was replaced.
-- An existing pipe is not changed. A replaced pipe no longer knows which files were loaded. To replace it
-- safely: set PIPE_EXECUTION_PAUSED = TRUE, wait until SYSTEM$PIPE_STATUS shows pendingFileCount 0, then run
-- CREATE OR REPLACE PIPE. Afterwards run `ingestd snowflake reconcile`, which lists the files that were
-- missed. Do not use a plain ALTER PIPE ... REFRESH instead: it processes all files of the last seven days
-- again.
CREATE PIPE IF NOT EXISTS MARKETING.EVENTS.MARKETING_EVENTS_PIPE
    AUTO_INGEST = TRUE
    ERROR_INTEGRATION = INGESTD_S3_ERRORS
    COMMENT = 'Loads each object of events once'
AS
COPY INTO MARKETING.EVENTS.MARKETING_EVENTS (
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
)
FROM (
    SELECT
        $1:event_id::STRING,
        $1:client_id::STRING,
        $1:event_timestamp::TIMESTAMP_NTZ,
        $1:event_type::STRING,
        $1:event_category::STRING,
        $1:page_url::STRING,
        $1:session_id::STRING,
        $1:channel::STRING,
        $1:device_type::STRING,
        $1:campaign_id::STRING,
        $1:duration_s::NUMBER(38,0),
        $1:consent::BOOLEAN,
        $1:properties,
        $1:source_topic::STRING,
        $1:source_partition::NUMBER(38,0),
        $1:source_offset::NUMBER(38,0),
        $1:received_at::TIMESTAMP_NTZ,
        METADATA$FILENAME,
        METADATA$FILE_ROW_NUMBER,
        CONVERT_TIMEZONE('UTC', METADATA$START_SCAN_TIME)::TIMESTAMP_NTZ
    FROM @MARKETING.EVENTS.MARKETING_EVENTS_STAGE
)
FILE_FORMAT = (FORMAT_NAME = 'MARKETING.EVENTS.MARKETING_EVENTS_JSON');

-- The bucket must notify the queue in notification_channel.
SHOW PIPES LIKE 'MARKETING_EVENTS_PIPE' IN SCHEMA MARKETING.EVENTS;
