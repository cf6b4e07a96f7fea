"""The whole set-up in order: the statements for Snowflake and the documents for AWS between them. Pure."""

from collections.abc import Sequence

from ingestd.config.model import Config
from ingestd.core.errors import ConfigError
from ingestd.core.events import Model, make_model
from ingestd.snowflake import bucket, ddl
from ingestd.snowflake.pipe import Style
from ingestd.snowflake.stage_location import StageLocation, stage_location
from ingestd.snowflake.statements import Document, SetupPart
from ingestd.snowflake.table import columns_of, object_name, qualified

_KEY = (
    "Create the daemon's user yourself: CREATE USER ... TYPE = SERVICE DEFAULT_ROLE = {loader} RSA_PUBLIC_KEY = '...', "
    "then GRANT ROLE {loader} TO USER ..."
)
_CLOCK = (
    "The table's times are UTC without a time zone, like SYSDATE(). CURRENT_TIMESTAMP() is in the time zone of the "
    "session: to compare times with it, run ALTER USER ... SET TIMEZONE = 'UTC'."
)
_LEFT_OUT = "Features and scores are omitted: to refresh them, set snowflake.compute to a warehouse."
_CONFIGURE = (
    "Apply it with aws s3api put-bucket-notification-configuration, which replaces all notifications of the bucket; "
    "`ingestd snowflake apply --notify` keeps the others. AWS rejects it if another rule covers these names: then let "
    "the bucket notify an SNS topic, and subscribe both queues to it."
)


def setup(config: Config, model: Model, style: Style) -> tuple[SetupPart, ...]:
    """All steps of the set-up. Raises ``ConfigError`` if the configuration is incomplete."""
    location = stage_location(config)
    _check(config, location)
    snowflake, rows = config.snowflake, columns_of(config, model)
    common = {column.name for column in columns_of(config, make_model())}
    own = [] if model.any_json else [column for column in rows if column.name not in common]
    loader = object_name(snowflake.loader_role)
    parts = [
        SetupPart("1-roles.sql", "Roles.", _KEY.format(loader=loader), [*ddl.roles(snowflake)]),
        SetupPart("2-database.sql", "Database and schema, with their grants.", "", [*ddl.database(snowflake)]),
        SetupPart(
            "3-integrations.sql",
            "The integrations of Snowflake with AWS.",
            "First create the role in AWS with aws-role-policy.json and, for now, a trust policy that lets only you "
            "assume it.",
            [*([] if location.endpoint else ddl.storage(snowflake, location)), *ddl.errors(snowflake)],
            _aws(config, location),
        ),
        SetupPart("4-table.sql", "File format, stage and table.", "", [*ddl.table(snowflake, location, rows, own)]),
        SetupPart(
            "5-pipe.sql" if style == "select" else f"5-pipe-{style}.sql",
            "The pipe.",
            "",
            [*ddl.pipe(snowflake, rows, style)],
            _notification(config, location),
        ),
    ]
    if not model.any_json:  # which has neither the id of an event nor that of a client
        parts.append(
            SetupPart(
                "6-views.sql",
                "The views for readers.",
                f"{_CLOCK}\n{'' if snowflake.compute else _LEFT_OUT}",
                [*ddl.views(snowflake, rows), *ddl.predictions(snowflake, rows)],
            )
        )
    return tuple(part for part in parts if part.statements)


def trust(config: Config, integrations: Sequence[dict[str, str]]) -> Document:
    """The trust policy of the role. `integrations` are their properties, from DESC INTEGRATION."""
    users = {}
    for properties in integrations:
        for user, external_id in (
            (bucket.USER_ARN, bucket.EXTERNAL_ID),
            (bucket.ERRORS_USER_ARN, bucket.ERRORS_EXTERNAL_ID),
        ):
            if user in properties:
                users[properties[external_id]] = properties[user]
    role = config.snowflake.aws_role_arn
    return Document(
        "aws-role-trust.json",
        f"the trust policy of {role}, from DESC INTEGRATION.",
        bucket.role_trust(users),
    )


def _check(config: Config, location: StageLocation) -> None:
    snowflake = config.snowflake
    if location.endpoint:
        if snowflake.delivery == "notification":
            raise ConfigError(
                f"snowflake.delivery = notification: the store {location.endpoint} cannot notify Snowflake",
                hint="set snowflake.delivery to rest",
            )
        needed = "snowflake.error_topic_arn" if snowflake.error_topic_arn else ""
    else:
        needed = "the storage integration"
    if needed and snowflake.aws_role_arn is None:
        raise ConfigError(
            f"snowflake.aws_role_arn is not set, but {needed} needs it",
            hint="set it to the role that Snowflake assumes, such as "
            "arn:aws:iam::123456789012:role/snowflake-reads-events; it does not have to exist yet",
        )


def _aws(config: Config, location: StageLocation) -> list[Document]:
    snowflake = config.snowflake
    role = snowflake.aws_role_arn
    if role is None:
        return []
    # The names of the properties are placeholders for the output of DESC INTEGRATION.
    names = [] if location.endpoint else [(bucket.USER_ARN, bucket.EXTERNAL_ID)]
    if snowflake.error_topic_arn:
        names.append((bucket.ERRORS_USER_ARN, bucket.ERRORS_EXTERNAL_ID))
    if not names:
        return []
    policy = bucket.role_policy(location, config.s3, snowflake.error_topic_arn)
    documents = [
        Document("aws-role-policy.json", f"the permissions of {role}.", policy),
        trust(config, [{user: user, external_id: external_id} for user, external_id in names]),
    ]
    return documents if location.endpoint else [*documents, *_bucket(config, location, role)]


def _bucket(config: Config, location: StageLocation, role: str) -> list[Document]:
    exactly_once = config.sink.delivery == "exactly-once"
    return [
        Document(
            "aws-bucket-policy.json",
            "the bucket's policy; merge it with an existing policy.",
            bucket.bucket_policy(location, role, exactly_once=exactly_once),
        ),
        Document(
            "aws-lifecycle.json",
            "for aws s3api put-bucket-lifecycle-configuration. Keep objects longer than 14 days, than the topic's "
            "retention and than any reset of the group's offsets goes back.",
            bucket.lifecycle(location),
        ),
    ]


def _notification(config: Config, location: StageLocation) -> list[Document]:
    if config.snowflake.delivery != "notification":
        return []
    pipe = qualified(config.snowflake, config.snowflake.pipe)
    comment = f"replace the queue with the notification_channel of {pipe}. {_CONFIGURE}"
    return [Document("aws-bucket-notification.json", comment, bucket.notification(location, bucket.QUEUE_ARN))]
