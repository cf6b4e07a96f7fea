"""The whole set-up in order: the statements for Snowflake and the documents for AWS between them. Pure."""

from collections.abc import Sequence

from ingestd.config.model import Config
from ingestd.core.errors import ConfigError
from ingestd.core.events import Model, make_model
from ingestd.snowflake import bucket, ddl
from ingestd.snowflake.pipe import Style
from ingestd.snowflake.stage_location import StageLocation, stage_location
from ingestd.snowflake.statements import Document, SetupPart
from ingestd.snowflake.table import columns, qualified

_KEY = (
    "The user of the daemon is yours to make: CREATE USER ... TYPE = SERVICE DEFAULT_ROLE = {loader} RSA_PUBLIC_KEY = "
    "'...', then GRANT ROLE {loader} TO USER ..."
)
_CLOCK = (
    "The table's times are UTC without a zone. SYSDATE() is such a time, too; CURRENT_TIMESTAMP() is taken in the zone "
    "of the session, so people who compare with it need ALTER USER ... SET TIMEZONE = 'UTC'."
)
_LEFT_OUT = "Features and scores are left out: they need a warehouse to refresh them, which snowflake.compute names."
_CONFIGURE = (
    "Put it with: aws s3api put-bucket-notification-configuration, which replaces all that the bucket notifies of; "
    "`ingestd snowflake apply --notify` keeps the rest. Where another rule covers these names, AWS refuses: let the "
    "bucket notify an SNS topic, and both queues subscribe to it."
)


def setup(config: Config, model: Model, style: Style) -> tuple[SetupPart, ...]:
    """All steps. Raises ``ConfigError`` if the configuration is incomplete."""
    place = stage_location(config)
    _check(config, place)
    snowflake, rows = config.snowflake, columns(model)
    common = {column.name for column in columns(make_model())}
    own = [column for column in rows if column.name not in common]
    loader = snowflake.loader_role
    parts = [
        SetupPart("1-roles.sql", "Roles.", _KEY.format(loader=loader), [*ddl.roles(snowflake)]),
        SetupPart("2-database.sql", "Database, schema, and who may use them.", "", [*ddl.database(snowflake)]),
        SetupPart(
            "3-integrations.sql",
            "What ties Snowflake to AWS.",
            "First make the role in AWS: with aws-role-policy.json, and for the time being with a trust policy that "
            "lets nobody but you take it on.",
            [*([] if place.endpoint else ddl.storage(snowflake, place)), *ddl.errors(snowflake)],
            _aws(config, place),
        ),
        SetupPart("4-table.sql", "File format, stage and table.", "", [*ddl.table(snowflake, place, rows, own)]),
        SetupPart(
            "5-pipe.sql" if style == "select" else f"5-pipe-{style}.sql",
            "The pipe.",
            "",
            [*ddl.pipe(snowflake, rows, style)],
            _notification(config, place),
        ),
        SetupPart(
            "6-views.sql",
            "What people read.",
            f"{_CLOCK}\n{'' if snowflake.compute else _LEFT_OUT}",
            [*ddl.views(snowflake, rows), *ddl.predictions(snowflake)],
        ),
    ]
    return tuple(part for part in parts if part.statements)


def trust(config: Config, answers: Sequence[dict[str, str]]) -> Document:
    """The trust policy of the role. `answers` are the properties of the integrations, from DESC."""
    users = {}
    for properties in answers:
        for user, external_id in (
            (bucket.USER_ARN, bucket.EXTERNAL_ID),
            (bucket.ERRORS_USER_ARN, bucket.ERRORS_EXTERNAL_ID),
        ):
            if user in properties:
                users[properties[external_id]] = properties[user]
    role = config.snowflake.aws_role_arn
    return Document(
        "aws-role-trust.json", f"the trust policy of {role}, with what DESC INTEGRATION says.", bucket.role_trust(users)
    )


def _check(config: Config, place: StageLocation) -> None:
    snowflake = config.snowflake
    if place.endpoint:
        if snowflake.delivery == "notification":
            raise ConfigError(
                f"snowflake.delivery = notification: a store such as {place.endpoint} cannot notify Snowflake",
                hint="set snowflake.delivery to rest",
            )
        needed = "snowflake.error_topic_arn" if snowflake.error_topic_arn else ""
    else:
        needed = "the storage integration"
    if needed and snowflake.aws_role_arn is None:
        raise ConfigError(
            f"snowflake.aws_role_arn is not set, but {needed} needs it",
            hint="name the role that Snowflake takes on, such as "
            "arn:aws:iam::123456789012:role/snowflake-reads-events; it need not exist yet",
        )


def _aws(config: Config, place: StageLocation) -> list[Document]:
    snowflake = config.snowflake
    role = snowflake.aws_role_arn
    if role is None:
        return []
    # The names of the properties stand for what DESC INTEGRATION will say.
    names = [] if place.endpoint else [(bucket.USER_ARN, bucket.EXTERNAL_ID)]
    if snowflake.error_topic_arn:
        names.append((bucket.ERRORS_USER_ARN, bucket.ERRORS_EXTERNAL_ID))
    if not names:
        return []
    policy = bucket.role_policy(place, config.s3, snowflake.error_topic_arn)
    documents = [
        Document("aws-role-policy.json", f"what {role} may do.", policy),
        trust(config, [{user: user, external_id: external_id} for user, external_id in names]),
    ]
    return documents if place.endpoint else [*documents, *_bucket(config, place, role)]


def _bucket(config: Config, place: StageLocation, role: str) -> list[Document]:
    exactly_once = config.sink.delivery == "exactly-once"
    return [
        Document(
            "aws-bucket-policy.json",
            "what the bucket refuses and grants; merge it with a policy that it has.",
            bucket.bucket_policy(place, role, exactly_once=exactly_once),
        ),
        Document(
            "aws-lifecycle.json",
            "for aws s3api put-bucket-lifecycle-configuration. Objects must outlive 14 days, the topic's retention, "
            "and how far back the group may ever be reset.",
            bucket.lifecycle(place),
        ),
    ]


def _notification(config: Config, place: StageLocation) -> list[Document]:
    if config.snowflake.delivery != "notification":
        return []
    pipe = qualified(config.snowflake, config.snowflake.pipe)
    comment = f"with the notification_channel of {pipe} for the queue. {_CONFIGURE}"
    return [Document("aws-bucket-notification.json", comment, bucket.notification(place, bucket.QUEUE_ARN))]
