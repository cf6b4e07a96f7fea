-- The integrations of Snowflake with AWS.
-- First create the role in AWS with aws-role-policy.json and, for now, a trust policy that lets only you
-- assume it.

USE ROLE ACCOUNTADMIN;

-- Never CREATE OR REPLACE it: a new one has a new external id, and every stage that uses it stops working.
CREATE STORAGE INTEGRATION IF NOT EXISTS INGESTD_S3
    TYPE = EXTERNAL_STAGE
    STORAGE_PROVIDER = 'S3'
    STORAGE_AWS_ROLE_ARN = 'arn:aws:iam::123456789012:role/snowflake-reads-events'
    ENABLED = TRUE
    STORAGE_ALLOWED_LOCATIONS = ('s3://your-marketing-events-bucket/events/');

GRANT USAGE ON INTEGRATION INGESTD_S3 TO ROLE SYSADMIN;

-- Put STORAGE_AWS_IAM_USER_ARN and STORAGE_AWS_EXTERNAL_ID into the trust policy of the AWS role.
DESC INTEGRATION INGESTD_S3;

-- Snowpipe does not retry a failed file, so subscribe an operator to the topic.
CREATE NOTIFICATION INTEGRATION IF NOT EXISTS INGESTD_S3_ERRORS
    ENABLED = TRUE
    DIRECTION = OUTBOUND
    TYPE = QUEUE
    NOTIFICATION_PROVIDER = AWS_SNS
    AWS_SNS_TOPIC_ARN = 'arn:aws:sns:eu-central-1:123456789012:snowpipe-errors'
    AWS_SNS_ROLE_ARN = 'arn:aws:iam::123456789012:role/snowflake-reads-events';

GRANT USAGE ON INTEGRATION INGESTD_S3_ERRORS TO ROLE INGESTD_LOADER;

-- Put SF_AWS_IAM_USER_ARN and SF_AWS_EXTERNAL_ID into the same trust policy.
DESC INTEGRATION INGESTD_S3_ERRORS;
