"""`ingestd snowflake apply`, over a fake connection."""

import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from ingestd.cli.snowflake import apply
from ingestd.cli.snowflake.apply import Options
from ingestd.config.load import Settings
from ingestd.config.model import Config, S3Config, SinkConfig, SnowflakeConfig
from ingestd.core.errors import EXIT_PROBLEMS, ConfigError, SnowflakeRefused, SnowflakeUnavailable
from ingestd.core.events import load_model
from ingestd.sinks import s3_notification
from ingestd.snowflake.connection import StatementResult
from ingestd.snowflake.drift import of_table
from ingestd.snowflake.pipe import copy
from ingestd.snowflake.sql import setup
from ingestd.snowflake.table import columns

ROLE = "arn:aws:iam::123456789012:role/snowflake"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:errors"
CONFIG = Config(
    sink=SinkConfig(url="s3://bucket"),
    snowflake=SnowflakeConfig(aws_role_arn=ROLE, error_topic_arn=TOPIC, compute="WH", role="INGESTD_LOADER"),
)
QUEUE = "arn:aws:sqs:eu-central-1:123456789012:sf-snowpipe-1"
COLUMNS = columns(load_model(None))
DONE = StatementResult(("status",), [("Done.",)])


class Account:
    """Answers as documented by Snowflake, and fails the statements that `failing` selects."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []  # role and statement
        self.role = ""
        self.changes: list[str] = []  # of the role
        self.roles = {"ACCOUNTADMIN", "USERADMIN", "SYSADMIN", "INGESTD_LOADER"}
        self.failing: Callable[[str], bool] = lambda _: False
        self.storage = {
            "ENABLED": "true", "STORAGE_ALLOWED_LOCATIONS": "s3://bucket/events/", "STORAGE_AWS_ROLE_ARN": ROLE,
            "STORAGE_AWS_IAM_USER_ARN": "arn:aws:iam::999:user/s3", "STORAGE_AWS_EXTERNAL_ID": "X_SFCRole=1",
        }  # fmt: skip
        self.errors = {"SF_AWS_IAM_USER_ARN": "arn:aws:iam::999:user/sns", "SF_AWS_EXTERNAL_ID": "X_SFCRole=2"}
        self.table = [(column.name.upper(), column.type, "N" if column.required else "Y") for column in COLUMNS]
        self.definition = copy(CONFIG.snowflake, COLUMNS, "select")
        self.queue = QUEUE
        self.closed = False

    def execute(self, sql: str, parameters: object = None) -> StatementResult:
        if match := re.fullmatch(r"USE ROLE (\w+)", sql):
            if match[1] not in self.roles:
                raise SnowflakeRefused(f"Requested role '{match[1]}' is not assigned to the executing user.", code="0")
            self.role = match[1]
            self.changes.append(match[1])
            return DONE
        self.said.append((self.role, sql))
        if self.failing(sql):
            raise SnowflakeRefused("Insufficient privileges", code="003001", hint="grant it")
        properties = {"INGESTD_S3": self.storage, "INGESTD_S3_ERRORS": self.errors}
        if sql.startswith("DESC INTEGRATION "):
            rows = [(name, "String", value, "") for name, value in properties[sql.rsplit(maxsplit=1)[-1]].items()]
            return StatementResult(("property", "property_type", "property_value", "property_default"), [*rows])
        if sql.startswith("DESC TABLE "):
            return StatementResult(("name", "type", "null?"), [*self.table])
        if sql.startswith("SHOW PIPES "):
            names = ("database_name", "schema_name", "name", "definition", "notification_channel")
            place = ("MARKETING", "EVENTS")
            other = (*place, "MARKETINGXEVENTSXPIPE", "COPY INTO other", "")  # "_" is any character in LIKE
            return StatementResult(names, [other, (*place, "MARKETING_EVENTS_PIPE", self.definition, self.queue)])
        return DONE

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "Account":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    found = Account()

    def open_connection(settings: SnowflakeConfig) -> Account:
        assert settings.role is None  # it may be one that is made here
        return found

    monkeypatch.setattr(apply, "open_connection", open_connection)
    return found


def run(config: Config = CONFIG, **options: Any) -> int:
    return apply.run(Settings(config, {}), Options(**options))


def texts(config: Config = CONFIG) -> list[tuple[str, str]]:
    return [(it.role, it.text) for part in setup(config, load_model(None), "select") for it in part.statements]


def test_it_runs_what_sql_prints_in_order_each_as_its_role(account: Account) -> None:
    assert run() == 0
    assert account.said == texts()
    assert account.changes == [role for role, _ in itertools.groupby(role for role, _ in texts())]
    assert account.closed


def test_it_shows_each_statement_and_its_outcome(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    out = capsys.readouterr().out
    position = 0
    for _, text in texts():
        line = f"    {text.splitlines()[0]}"
        position = out.index(line, position)
    assert out.count("\nok     ") == len(texts())
    assert f"{len(texts())} statements done, 0 left" in out


def test_a_dry_run_only_shows_the_statements(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dry_run=True) == 0
    assert account.said == []
    assert capsys.readouterr().out.count("\nwould  run it as ") == len(texts())


def test_it_stops_at_the_first_that_fails_and_names_it(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.failing = lambda sql: sql.startswith("CREATE STAGE")
    with pytest.raises(SnowflakeRefused, match="Insufficient privileges"):
        run()
    assert account.said[-1][1].startswith("CREATE STAGE")
    assert "FAILED stage MARKETING.EVENTS.MARKETING_EVENTS_STAGE" in capsys.readouterr().out
    assert account.closed


def test_a_second_run_continues_after_a_failure(account: Account) -> None:
    account.failing = lambda sql: sql.startswith("CREATE PIPE")
    with pytest.raises(SnowflakeRefused):
        run()
    account.failing = lambda _: False
    account.said.clear()
    assert run() == 0
    assert account.said == texts()


def test_statements_of_a_missing_role_are_left_for_another_user(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.roles -= {"ACCOUNTADMIN", "USERADMIN"}
    assert run() == EXIT_PROBLEMS
    assert account.said == [(role, text) for role, text in texts() if role in account.roles]
    out = capsys.readouterr().out
    assert "storage integration INGESTD_S3" in out.partition("left for another user")[2]
    assert "Requested role 'ACCOUNTADMIN' is not assigned" in out


def test_it_prints_the_trust_policy_with_the_identities_of_the_integrations(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    policy = json.loads(re.search(r"^ {7}\{.*?^ {7}\}", capsys.readouterr().out, re.MULTILINE | re.DOTALL)[0])  # type: ignore[index]
    assert [
        (it["Principal"]["AWS"], it["Condition"]["StringEquals"]["sts:ExternalId"]) for it in policy["Statement"]
    ] == [("arn:aws:iam::999:user/s3", "X_SFCRole=1"), ("arn:aws:iam::999:user/sns", "X_SFCRole=2")]


# -- existing objects that differ


def wrong(account: Account, capsys: pytest.CaptureFixture[str], config: Config = CONFIG, **options: Any) -> list[str]:
    assert run(config, **options) == EXIT_PROBLEMS
    return re.findall(r"^WRONG  (.*)$", capsys.readouterr().out, re.MULTILINE)


def test_a_pipe_with_another_copy_is_reported_and_not_changed(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.definition = account.definition.replace("event_id", "other")
    [told] = wrong(account, capsys)
    assert "the COPY of MARKETING.EVENTS.MARKETING_EVENTS_PIPE differs" in told
    assert "PIPE_EXECUTION_PAUSED = TRUE" in told
    assert [sql for _, sql in account.said if "OR REPLACE PIPE" in sql] == []


def test_layout_and_case_of_a_pipe_do_not_matter(account: Account) -> None:
    account.definition = re.sub(r"\s+", "\n  ", account.definition).lower() + ";"
    assert run() == 0


def test_a_pipe_of_another_style_is_reported(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    [told] = wrong(account, capsys, style="match")
    assert "style match" in told


def test_a_pipe_without_a_queue_is_reported(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.queue = ""
    [told] = wrong(account, capsys)
    assert "has no queue, but snowflake.delivery is notification" in told


def test_an_integration_that_does_not_allow_the_bucket_keeps_what_it_allows(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.storage |= {"STORAGE_AWS_ROLE_ARN": "arn:old", "ENABLED": "false"}
    account.storage["STORAGE_ALLOWED_LOCATIONS"] = "s3://other/"
    told = wrong(account, capsys)
    assert told == [
        "INGESTD_S3 does not allow s3://bucket/events/ -> ALTER STORAGE INTEGRATION INGESTD_S3 SET "
        "STORAGE_ALLOWED_LOCATIONS = ('s3://other/', 's3://bucket/events/')",
        f"INGESTD_S3 assumes arn:old -> ALTER STORAGE INTEGRATION INGESTD_S3 SET STORAGE_AWS_ROLE_ARN = '{ROLE}'",
        "INGESTD_S3 is not enabled -> ALTER STORAGE INTEGRATION INGESTD_S3 SET ENABLED = TRUE",
    ]


@pytest.mark.parametrize("allowed", ["s3://bucket/", "*", "s3://other/,s3://bucket/events/"])
def test_an_integration_may_allow_more(account: Account, allowed: str) -> None:
    account.storage["STORAGE_ALLOWED_LOCATIONS"] = allowed
    assert run() == 0


def differences(*rows: tuple[str, str, str]) -> list[str]:
    changed = {name: (name, kind, null) for name, kind, null in rows}
    table = [{"name": it.name.upper(), "type": it.type, "null?": "N" if it.required else "Y"} for it in COLUMNS]
    for row in table:
        if str(row["name"]) in changed:
            row["name"], row["type"], row["null?"] = changed[str(row["name"])]
    found = of_table([row for row in table if row["type"]], CONFIG.snowflake, COLUMNS)
    return [f"{it.difference} -> {it.remedy}" for it in found]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("PAGE_URL", "VARCHAR(256)", "Y"), "ALTER COLUMN page_url SET DATA TYPE VARCHAR(8192)"),
        (("DURATION_S", "VARCHAR(20)", "Y"), "a VARCHAR(20) cannot become NUMBER(38,0): rename the column"),
        (("DURATION_S", "NUMBER(9,0)", "Y"), "NUMBER(9,0)"),
        (("RECEIVED_AT", "TIMESTAMP_NTZ(3)", "Y"), "TIMESTAMP_NTZ(3)"),
        (("EVENT_ID", "VARCHAR(256)", "Y"), "event_id allows NULL"),
        (("CLIENT_ID", "", ""), "has no column client_id"),
    ],
)
def test_a_column_that_would_reject_rows_is_reported(row: tuple[str, str, str], words: str) -> None:
    [told] = differences(row)
    assert words in told


@pytest.mark.parametrize(
    "row",
    [("PAGE_URL", "VARCHAR(16777216)", "Y"), ("PAGE_URL", "VARCHAR", "Y"), ("RECEIVED_AT", "TIMESTAMP_NTZ(9)", "Y")],
)
def test_a_wider_column_is_accepted(row: tuple[str, str, str]) -> None:
    assert differences(row) == []


# -- a stage that needs keys


COMPATIBLE = Config(
    sink=SinkConfig(url="s3://bucket"),
    s3=S3Config(endpoint_url="https://store.example.com"),
    snowflake=SnowflakeConfig(delivery="rest"),
)


def test_a_stage_with_keys_is_created_by_hand(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.failing = lambda sql: sql.startswith("DESC STAGE")
    with pytest.raises(SnowflakeRefused, match="run its CREATE statement by hand"):
        run(COMPATIBLE)
    assert not [sql for _, sql in account.said if sql.startswith("CREATE STAGE")]
    account.failing = lambda _: False
    account.queue, account.definition = "", copy(COMPATIBLE.snowflake, COLUMNS, "select")
    assert run(COMPATIBLE) == 0


# -- the notification


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    async def change(url: str, settings: S3Config, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
        found.append(change({"TopicConfigurations": [{"Id": "theirs"}]}))
        return True

    monkeypatch.setattr(s3_notification, "change_notification", change)
    return found


def test_the_bucket_notifies_the_queue_of_the_pipe(
    account: Account, put: Sequence[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(notify=True) == 0
    [wanted] = put
    assert wanted["TopicConfigurations"] == [{"Id": "theirs"}]
    assert wanted["QueueConfigurations"][0]["QueueArn"] == QUEUE
    assert f"s3://bucket now notifies {QUEUE} of events/*.jsonl.gz" in capsys.readouterr().out


def test_without_a_queue_the_notification_is_not_changed(account: Account, put: Sequence[dict[str, Any]]) -> None:
    account.roles -= {"INGESTD_LOADER"}
    assert run(notify=True) == EXIT_PROBLEMS
    assert put == []


def test_notify_is_rejected_with_delivery_rest() -> None:
    config = replace(CONFIG, snowflake=replace(CONFIG.snowflake, delivery="rest"))
    with pytest.raises(ConfigError, match=r"--notify: snowflake\.delivery = rest"):
        run(config, notify=True)


def test_a_lost_connection_is_reported(account: Account) -> None:
    def lost(sql: str, parameters: object = None) -> StatementResult:
        raise SnowflakeUnavailable("no answer", code="250001")

    account.execute = lost  # type: ignore[method-assign]
    with pytest.raises(SnowflakeUnavailable):
        run()
