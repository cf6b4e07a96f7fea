-- The pipe.

USE ROLE INGESTD_LOADER;

-- Style match: each key of a row is loaded into the column of the same name, so a new field of the model is
-- loaded as soon as the table has its column, and VALIDATE_PIPE_LOAD works.
-- Disadvantages: loaded_at is in the account's time zone instead of UTC, because this style cannot convert
-- values; keys without a column are dropped silently; if no key has a column, all values are NULL, and the
-- NOT NULL of event_id rejects the row.
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
COPY INTO MARKETING.EVENTS.MARKETING_EVENTS
FROM @MARKETING.EVENTS.MARKETING_EVENTS_STAGE
FILE_FORMAT = (FORMAT_NAME = 'MARKETING.EVENTS.MARKETING_EVENTS_JSON')
MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE
INCLUDE_METADATA = (
    file_name = METADATA$FILENAME,
    file_row_number = METADATA$FILE_ROW_NUMBER,
    loaded_at = METADATA$START_SCAN_TIME
);

-- The bucket must notify the queue in notification_channel.
SHOW PIPES LIKE 'MARKETING_EVENTS_PIPE' IN SCHEMA MARKETING.EVENTS;
