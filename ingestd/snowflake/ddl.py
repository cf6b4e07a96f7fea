"""The statements that create Snowflake's objects: roles, database, integrations, table and stage, pipe, views. Pure.

SYSADMIN owns the database and its objects. The loader's role owns the pipe and has only the privileges that a pipe
needs. The reader's role can only select.
"""

from collections.abc import Iterable, Iterator, Sequence

from ingestd.config.model import SnowflakeConfig
from ingestd.snowflake.features import SCORE, relations
from ingestd.snowflake.pipe import CHANGING, STYLES, Style, create_pipe, errors_name, file_format_name
from ingestd.snowflake.stage_location import StageLocation
from ingestd.snowflake.statements import Statement
from ingestd.snowflake.table import (
    Column,
    create_table,
    deduplicated,
    definition,
    identifier,
    literal,
    object_name,
    qualified,
    record_columns,
)

ACCOUNTADMIN, USERADMIN, SYSADMIN = "ACCOUNTADMIN", "USERADMIN", "SYSADMIN"


def roles(snowflake: SnowflakeConfig) -> Iterator[Statement]:
    """The roles, granted to SYSADMIN so that it can manage every object."""
    for role, comment in (
        (object_name(snowflake.loader_role), "Owns the pipe of ingestd, and watches it"),
        (object_name(snowflake.reader_role), "Reads the events of ingestd"),
    ):
        yield Statement(f"role {role}", f"CREATE ROLE IF NOT EXISTS {role} COMMENT = {literal(comment)}", USERADMIN)
        yield Statement(f"{role} to {SYSADMIN}", f"GRANT ROLE {role} TO ROLE {SYSADMIN}", USERADMIN)


def database(snowflake: SnowflakeConfig) -> Iterator[Statement]:
    """Database and schema with their grants."""
    name, loader, reader = object_name(snowflake.database), snowflake.loader_role, snowflake.reader_role
    schema = f"{name}.{object_name(snowflake.schema)}"
    yield Statement(f"database {name}", f"CREATE DATABASE IF NOT EXISTS {name}", SYSADMIN)
    yield Statement(f"schema {schema}", f"CREATE SCHEMA IF NOT EXISTS {schema}", SYSADMIN)
    for role in (loader, reader):
        yield _grant("USAGE", f"DATABASE {name}", role)
        yield _grant("USAGE", f"SCHEMA {schema}", role)
    yield _grant("CREATE PIPE", f"SCHEMA {schema}", loader)
    if snowflake.compute:
        comment = "`ingestd snowflake reconcile` needs a warehouse; the pipe does not."
        yield _grant("USAGE", f"WAREHOUSE {object_name(snowflake.compute)}", loader, comment)


def storage(snowflake: SnowflakeConfig, location: StageLocation) -> Iterator[Statement]:
    """The integration that reads the bucket. Needs ACCOUNTADMIN, or a role with CREATE INTEGRATION."""
    name = object_name(snowflake.integration)
    yield Statement(
        f"storage integration {name}",
        f"CREATE STORAGE INTEGRATION IF NOT EXISTS {name}\n"
        "    TYPE = EXTERNAL_STAGE\n"
        f"    STORAGE_PROVIDER = {literal(location.provider)}\n"
        f"    STORAGE_AWS_ROLE_ARN = {literal(snowflake.aws_role_arn or '')}\n"
        "    ENABLED = TRUE\n"
        f"    STORAGE_ALLOWED_LOCATIONS = ({literal(location.url)})",
        ACCOUNTADMIN,
        "Never CREATE OR REPLACE it: a new one has a new external id, and every stage that uses it stops working.",
    )
    yield _grant("USAGE", f"INTEGRATION {name}", SYSADMIN, role=ACCOUNTADMIN)
    yield Statement(
        f"identity of {name}",
        f"DESC INTEGRATION {name}",
        ACCOUNTADMIN,
        "Put STORAGE_AWS_IAM_USER_ARN and STORAGE_AWS_EXTERNAL_ID into the trust policy of the AWS role.",
        describes="storage",
    )


def errors(snowflake: SnowflakeConfig) -> Iterator[Statement]:
    """The integration that publishes load errors; empty without a topic."""
    if snowflake.error_topic_arn is None:
        return
    name = errors_name(snowflake)
    yield Statement(
        f"notification integration {name}",
        f"CREATE NOTIFICATION INTEGRATION IF NOT EXISTS {name}\n"
        "    ENABLED = TRUE\n"
        "    DIRECTION = OUTBOUND\n"
        "    TYPE = QUEUE\n"
        "    NOTIFICATION_PROVIDER = AWS_SNS\n"
        f"    AWS_SNS_TOPIC_ARN = {literal(snowflake.error_topic_arn)}\n"
        f"    AWS_SNS_ROLE_ARN = {literal(snowflake.aws_role_arn or '')}",
        ACCOUNTADMIN,
        "Snowpipe does not retry a failed file, so subscribe an operator to the topic.",
    )
    yield _grant("USAGE", f"INTEGRATION {name}", snowflake.loader_role, role=ACCOUNTADMIN)
    yield Statement(
        f"identity of {name}",
        f"DESC INTEGRATION {name}",
        ACCOUNTADMIN,
        "Put SF_AWS_IAM_USER_ARN and SF_AWS_EXTERNAL_ID into the same trust policy.",
        describes="errors",
    )


def table(
    snowflake: SnowflakeConfig, location: StageLocation, columns: Sequence[Column], own: Sequence[Column]
) -> Iterator[Statement]:
    """File format, stage and table with their grants. `own` are the columns that the user's model adds."""
    loader, file_format = snowflake.loader_role, file_format_name(snowflake)
    name, stage = qualified(snowflake, snowflake.table), qualified(snowflake, snowflake.stage)
    yield Statement(
        f"file format {file_format}",
        f"CREATE FILE FORMAT IF NOT EXISTS {file_format}\n"
        "    TYPE = JSON\n    COMPRESSION = GZIP\n    STRIP_OUTER_ARRAY = FALSE",
        SYSADMIN,
    )
    yield _stage(snowflake, location)
    yield Statement(
        f"table {name}",
        create_table(name, columns),
        SYSADMIN,
        "Leave ENABLE_SCHEMA_EVOLUTION off: it may drop the NOT NULL of event_id, which rejects rows that have only "
        "NULL values.",
    )
    for column in own:
        yield Statement(
            f"column {column.name} of {name}",
            f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {definition(column)}",
            SYSADMIN,
            "For a table that was created before the model had this field.",
        )
    yield Statement(f"columns of {name}", f"DESC TABLE {name}", SYSADMIN, describes="table")
    yield _grant("USAGE", f"FILE FORMAT {file_format}", loader)
    yield _grant("USAGE", f"STAGE {stage}", loader)
    yield _grant("INSERT, SELECT", f"TABLE {name}", loader)
    yield _grant("SELECT", f"TABLE {name}", snowflake.reader_role)


def _stage(snowflake: SnowflakeConfig, location: StageLocation) -> Statement:
    name = qualified(snowflake, snowflake.stage)
    access = f"STORAGE_INTEGRATION = {object_name(snowflake.integration)}"
    comment = "The slash at the end of the URL keeps out longer names, such as events-old/."
    if location.endpoint:
        access = (
            f"ENDPOINT = {literal(location.endpoint)}\n"
            "    CREDENTIALS = (AWS_KEY_ID = '<access key>' AWS_SECRET_KEY = '<secret key>')"
        )
        comment += " An S3-compatible store has no storage integration: use keys that can only read."
    text = (
        f"CREATE STAGE IF NOT EXISTS {name}\n"
        f"    URL = {literal(location.url)}\n"
        f"    {access}\n"
        f"    FILE_FORMAT = (FORMAT_NAME = {literal(file_format_name(snowflake))})"
    )
    return Statement(f"stage {name}", text, SYSADMIN, comment, check=f"DESC STAGE {name}" if location.endpoint else "")


def pipe(snowflake: SnowflakeConfig, columns: Sequence[Column], style: Style) -> Iterator[Statement]:
    """The pipe, and the query for its queue."""
    name = qualified(snowflake, snowflake.pipe)
    yield Statement(
        f"pipe {name}",
        create_pipe(snowflake, columns, style),
        snowflake.loader_role,
        f"{STYLES[style]}\n{CHANGING}",
    )
    is_notified = snowflake.delivery == "notification"
    comment = "The bucket must notify the queue in notification_channel." if is_notified else ""
    schema = f"{object_name(snowflake.database)}.{object_name(snowflake.schema)}"
    show = f"SHOW PIPES LIKE {literal(snowflake.pipe)} IN SCHEMA {schema}"
    yield Statement(f"state of {name}", show, snowflake.loader_role, comment, describes="pipe")


def views(snowflake: SnowflakeConfig, columns: Sequence[Column]) -> Iterator[Statement]:
    """The view without duplicate events."""
    name = qualified(snowflake, f"{snowflake.table}_DEDUPLICATED")
    select = deduplicated(qualified(snowflake, snowflake.table), columns)
    yield Statement(
        f"view {name}",
        f"CREATE OR REPLACE VIEW {name} COPY GRANTS\nAS\n{select}",
        SYSADMIN,
        "The table has one row per Kafka record. If a producer sent an event twice, the view keeps the first.",
    )
    yield _grant("SELECT", f"VIEW {name}", snowflake.reader_role)


def predictions(snowflake: SnowflakeConfig, columns: Iterable[Column]) -> Iterator[Statement]:
    """Features and scores; empty without a warehouse to refresh them."""
    if snowflake.compute is None:
        return
    score, reader = qualified(snowflake, SCORE.name.upper()), snowflake.reader_role
    arguments = ",".join(f"\n    {identifier(name)} {kind}" for name, kind in SCORE.arguments)
    yield Statement(
        f"function {score}",
        f"CREATE OR REPLACE FUNCTION {score}({arguments}\n)\n"
        f"RETURNS {SCORE.returns}\nIMMUTABLE\nAS\n$$\n{SCORE.body}\n$$",
        SYSADMIN,
        f"{SCORE.comment}.",
    )
    table, features = qualified(snowflake, snowflake.table), qualified(snowflake, "CLIENT_FEATURES")
    for relation in relations(events=table, features=features, score=score, record=record_columns(columns)):
        name, kind = qualified(snowflake, relation.name.upper()), relation.kind.upper()
        options, comment = " COPY GRANTS", f"{relation.comment}."
        if relation.kind == "dynamic table":
            # A query with CURRENT_TIMESTAMP cannot be refreshed incrementally.
            warehouse = object_name(snowflake.compute)
            options = f"\n    TARGET_LAG = '1 minute'\n    WAREHOUSE = {warehouse}\n    REFRESH_MODE = FULL"
            comment += " Refreshes keep the warehouse running while events arrive: a longer TARGET_LAG costs less."
        yield Statement(
            f"{relation.kind} {name}",
            f"CREATE OR REPLACE {kind} {name}{options}\nAS\n{relation.sql.rstrip()}",
            SYSADMIN,
            comment,
        )
        yield _grant("SELECT", f"{kind} {name}", reader)


def _grant(privilege: str, on: str, to: str, comment: str = "", *, role: str = SYSADMIN) -> Statement:
    to = object_name(to)
    return Statement(f"{privilege} on {on} to {to}", f"GRANT {privilege} ON {on} TO ROLE {to}", role, comment)
