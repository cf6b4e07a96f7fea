-- The pipe.

USE ROLE INGESTD_LOADER;

-- Style match: keys of the rows go to the columns of the same name, so a column that the model gains is
-- filled as soon as the table has it, and VALIDATE_PIPE_LOAD works.
-- What it costs: loaded_at is the wall clock of the account's time zone rather than UTC, as nothing can be
-- converted; keys that match no column are dropped in silence; where none matches, the row is all NULL, which
-- event_id refuses.
-- A pipe that exists stays as it is. Replacing it makes it forget which files it has loaded, so: set
-- PIPE_EXECUTION_PAUSED = TRUE, wait until SYSTEM$PIPE_STATUS says pendingFileCount 0, CREATE OR REPLACE it.
-- Then let `ingestd snowflake reconcile` name the files that it missed, rather than ALTER PIPE ... REFRESH,
-- which looks at those of the last seven days again.
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

-- notification_channel is the queue that the bucket has to notify.
SHOW PIPES LIKE 'MARKETING_EVENTS_PIPE' IN SCHEMA MARKETING.EVENTS;
