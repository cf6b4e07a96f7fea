"""The printed statements and documents, for every configuration.

``python -m tests.test_snowflake_sql --write`` writes the golden files.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import sqlglot
from msgspec import Meta
from msgspec.structs import replace
from sqlglot import exp

from ingestd.cli.snowflake import sql as command
from ingestd.config.load import Settings, load
from ingestd.config.model import Config, S3Config, SinkConfig, SnowflakeConfig
from ingestd.core.errors import ConfigError
from ingestd.core.events import Event, load_model, make_model
from ingestd.snowflake import bucket
from ingestd.snowflake.pipe import Style, copy
from ingestd.snowflake.sql import setup
from ingestd.snowflake.stage_location import StageLocation, stage_location
from ingestd.snowflake.statements import SetupPart, Statement, script, single_script, text
from ingestd.snowflake.table import columns

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "deploy" / "snowflake"
CREDENTIALS = {"INGESTD__KAFKA__SASL_USERNAME": "me", "INGESTD__KAFKA__SASL_PASSWORD": "secret"}
PRODUCTION = load(path=str(ROOT / "config" / "production.toml"), environ=CREDENTIALS).config
ROLE = "arn:aws:iam::123456789012:role/snowflake"
STYLES: tuple[Style, ...] = ("select", "match")


class Payment(Event, tag="payment", kw_only=True):
    amount: Annotated[int, Meta(ge=0, le=10**12)]
    order: str | None = None


def configured(snowflake: SnowflakeConfig | None = None, url: str = "s3://bucket", **rest: Any) -> Config:
    return Config(sink=SinkConfig(url=url), snowflake=snowflake or SnowflakeConfig(aws_role_arn=ROLE), **rest)


def parts(config: Config = PRODUCTION, style: Style = "select") -> tuple[SetupPart, ...]:
    return setup(config, load_model(None), style)


def statements(config: Config = PRODUCTION, style: Style = "select") -> list[Statement]:
    return [statement for part in parts(config, style) for statement in part.statements]


def the(start: str, config: Config = PRODUCTION, style: Style = "select") -> str:
    [found] = [it.text for it in statements(config, style) if it.text.startswith(start)]
    return found


def documents(config: Config = PRODUCTION) -> dict[str, Any]:
    return {document.file: document.body for part in parts(config) for document in part.documents}


def files() -> dict[str, str]:
    found = {}
    for style in STYLES:
        for part in parts(style=style):
            found[part.file] = script(part)
            found |= {document.file: text(document) for document in part.documents}
    return found


# -- the golden files


def test_the_golden_files_are_what_is_rendered() -> None:
    kept = {file.name: file.read_text() for file in GOLDEN.iterdir() if file.suffix != ".md"}
    assert kept == files(), "run `make docs`"


def test_the_readme_names_each_of_them() -> None:
    named = set(re.findall(r"`([\w-]+\.(?:sql|json))`", (GOLDEN / "README.md").read_text()))
    assert named == set(files())


# -- Snowflake's dialect

# Statements that sqlglot cannot parse, by their first words.
OPAQUE = re.compile(
    r"GRANT SELECT ON DYNAMIC TABLE|CREATE ROLE|GRANT ROLE|CREATE NOTIFICATION INTEGRATION|SHOW PIPES|CREATE PIPE"
)


@pytest.mark.parametrize("style", STYLES)
def test_sqlglot_reads_every_statement(style: Style) -> None:
    for statement in statements(style=style):
        if not OPAQUE.match(statement.text):
            assert not isinstance(sqlglot.parse_one(statement.text, read="snowflake"), exp.Command), statement.name


@pytest.mark.parametrize("style", STYLES)
def test_sqlglot_reads_the_pipe_s_copy(style: Style) -> None:
    pipe = the("CREATE PIPE", style=style)
    tree = sqlglot.parse_one(pipe[pipe.index("COPY INTO") :], read="snowflake")
    assert isinstance(tree, exp.Copy)


@pytest.mark.parametrize("style", STYLES)
def test_the_whole_output_is_one_script(style: Style) -> None:
    assert len([tree for tree in sqlglot.parse(single_script(parts(style=style)), read="snowflake") if tree]) >= len(
        statements()
    )


@pytest.mark.parametrize("style", STYLES)
def test_every_statement_may_be_run_again(style: Style) -> None:
    again = re.compile(
        r"CREATE OR REPLACE (VIEW|FUNCTION|DYNAMIC TABLE) |CREATE [A-Z ]+ IF NOT EXISTS |GRANT |DESC |SHOW "
    )
    for statement in statements(style=style):
        assert again.match(statement.text), statement.text
    for statement in setup(configured(), make_model(Payment), style)[3].statements:
        assert again.match(statement.text) or "ADD COLUMN IF NOT EXISTS" in statement.text


RESERVED = {
    "database": "ORDER", "schema": "Group", "table": "TABLE", "stage": "SELECT", "pipe": "FROM", "integration": "in",
    "loader_role": "ALL", "reader_role": "ROWS", "compute": "START",
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_reserved_words_are_quoted_wherever_they_name_an_object(style: Style) -> None:
    def rendered(names: dict[str, str]) -> str:
        found = parts(configured(replace(PRODUCTION.snowflake, **names)), style)
        return "\n".join(script(part) for part in found).replace("\n-- ", " ")  # comments are wrapped

    expected = rendered({key: f"X_{key}" for key in RESERVED})
    for key, word in RESERVED.items():
        expected = expected.replace(f"LIKE 'X_{key}'", f"LIKE '{word}'")
        expected = re.sub(rf"\bX_{key}_(?=JSON|DEDUP|ERRORS)", f"{word}_", expected)
        expected = re.sub(rf"\bX_{key}\b", f'"{word.upper()}"', expected)
    assert rendered(RESERVED) == expected


def test_a_wildcard_in_the_prefix_is_literal_in_policies() -> None:
    config = configured(PRODUCTION.snowflake, url="s3://bucket/a*b")
    for name, document in documents(config).items():
        text = json.dumps(document)
        if name in {"aws-role-policy.json", "aws-bucket-policy.json"}:
            assert "/a${*}b/events/*" in text
            assert "a*b" not in text
        elif "lifecycle" in name or "notification" in name:
            assert '"a*b/events/"' in text


def test_objects_with_state_are_never_replaced() -> None:
    for statement in statements():
        assert not re.match(r"CREATE OR REPLACE (PIPE|STAGE|TABLE|STORAGE|DATABASE|SCHEMA)", statement.text)


# -- what is loaded


def test_the_pipe_fills_every_column_by_position() -> None:
    pipe = the("CREATE PIPE")
    tree = sqlglot.parse_one(pipe[pipe.index("COPY INTO") :], read="snowflake")
    names = [it.name.lower() for it in tree.this.expressions]
    select = tree.find(exp.Select)
    assert select is not None
    values = [it.sql("snowflake") for it in select.expressions]
    assert names == [column.name for column in columns(load_model(None))]
    assert len(values) == len(names)
    filled = dict(zip(names, values, strict=True))
    assert "event_id" in filled["event_id"]
    assert filled["file_name"] == "METADATA$FILENAME"
    assert filled["loaded_at"].startswith("CAST(CONVERT_TIMEZONE('UTC', METADATA$START_SCAN_TIME)")


def test_the_pipe_has_the_guide_s_select() -> None:
    for cast in (
        "$1:event_id::STRING", "$1:client_id::STRING", "$1:event_timestamp::TIMESTAMP_NTZ", "$1:event_type::STRING",
        "$1:event_category::STRING", "$1:page_url::STRING", "$1:session_id::STRING", "$1:channel::STRING",
    ):  # fmt: skip
        assert f"        {cast},\n" in the("CREATE PIPE")


def test_text_is_cast_without_a_length_because_a_cast_truncates() -> None:
    assert not re.search(r"::(VARCHAR|STRING)\(", the("CREATE PIPE"))


def test_a_key_that_is_not_an_identifier_is_quoted() -> None:
    model = make_model(Payment)
    found = copy(
        SnowflakeConfig(),
        [column._replace(path="a b") if column.name == "order" else column for column in columns(model)],
        "select",
    )
    assert '$1:"a b"::STRING' in found
    assert '    "ORDER",\n' in found
    assert '$1:"order"::STRING' in copy(SnowflakeConfig(), columns(model), "select")
    assert "$1:amount::NUMBER(38,0)" in found


def test_match_loads_the_metadata() -> None:
    pipe = the("CREATE PIPE", style="match")
    assert "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE" in pipe
    for name in ("file_name = METADATA$FILENAME", "file_row_number = ", "loaded_at = METADATA$START_SCAN_TIME"):
        assert name in pipe
    assert "SELECT" not in pipe


@pytest.mark.parametrize("style", STYLES)
def test_each_style_states_its_disadvantages(style: Style) -> None:
    [comment] = [it.comment for it in statements(style=style) if it.text.startswith("CREATE PIPE")]
    assert f"Style {style}" in comment
    assert "Disadvantages" in comment


def test_load_errors_are_published_only_with_a_topic() -> None:
    assert "ERROR_INTEGRATION = INGESTD_S3_ERRORS" in the("CREATE PIPE")
    assert "ERROR_INTEGRATION" not in the("CREATE PIPE", configured())
    assert not [it for it in statements(configured()) if "NOTIFICATION INTEGRATION" in it.text]


def test_features_need_a_warehouse_and_are_left_out_without_one() -> None:
    assert [it for it in statements() if "DYNAMIC TABLE" in it.text]
    assert not [it for it in statements(configured()) if "DYNAMIC TABLE" in it.text or "FUNCTION" in it.text]
    assert "snowflake.compute" in single_script(parts(configured()))


def test_new_fields_of_a_model_are_added_to_an_existing_table() -> None:
    [part] = [part for part in setup(configured(), make_model(Payment), "select") if part.file == "4-table.sql"]
    added = [it.text for it in part.statements if it.text.startswith("ALTER TABLE")]
    assert added == [
        "ALTER TABLE MARKETING.EVENTS.MARKETING_EVENTS ADD COLUMN IF NOT EXISTS amount NUMBER(38,0)",
        'ALTER TABLE MARKETING.EVENTS.MARKETING_EVENTS ADD COLUMN IF NOT EXISTS "ORDER" VARCHAR',
    ]


# -- least privilege


def test_the_loader_has_what_a_pipe_needs_and_the_reader_only_selects() -> None:
    grants: dict[str, set[str]] = {"INGESTD_LOADER": set(), "INGESTD_READER": set()}
    for statement in statements():
        if match := re.fullmatch(r"GRANT (.*) ON (\w+(?: FORMAT| TABLE)?) \S+ TO ROLE (INGESTD_\w+)", statement.text):
            grants[match[3]].add(f"{match[1]} ON {match[2]}")
    assert grants["INGESTD_LOADER"] == {
        "USAGE ON DATABASE", "USAGE ON SCHEMA", "CREATE PIPE ON SCHEMA", "USAGE ON WAREHOUSE", "USAGE ON INTEGRATION",
        "USAGE ON FILE FORMAT", "USAGE ON STAGE", "INSERT, SELECT ON TABLE",
    }  # fmt: skip
    assert grants["INGESTD_READER"] == {
        "USAGE ON DATABASE", "USAGE ON SCHEMA", "SELECT ON TABLE", "SELECT ON VIEW", "SELECT ON DYNAMIC TABLE",
    }  # fmt: skip


def test_only_the_integrations_need_accountadmin() -> None:
    for part in parts():
        roles = {statement.role for statement in part.statements}
        assert ("ACCOUNTADMIN" in roles) == (part.file == "3-integrations.sql")


def test_the_loader_owns_the_pipe() -> None:
    assert [it.role for it in statements() if it.text.startswith("CREATE PIPE")] == ["INGESTD_LOADER"]


def test_snowflake_s_role_reads_events_and_nothing_else() -> None:
    policy = documents()["aws-role-policy.json"]
    actions = {
        action
        for it in policy["Statement"]
        for action in ([it["Action"]] if isinstance(it["Action"], str) else it["Action"])
    }
    assert actions == {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:GetBucketLocation", "sns:Publish"}
    assert policy["Statement"][0]["Resource"] == "arn:aws:s3:::your-marketing-events-bucket/events/*"


@pytest.mark.parametrize(
    ("key", "resource", "alias"),
    [
        ("arn:aws:kms:eu-central-1:111122223333:key/k", "arn:aws:kms:eu-central-1:111122223333:key/k", None),
        ("0000-k", "arn:aws:kms:*:*:key/0000-k", None),
        ("alias/ingestd", "*", "alias/ingestd"),
        ("arn:aws:kms:eu-central-1:111122223333:alias/ingestd", "*", "alias/ingestd"),
    ],
)
def test_the_role_may_decrypt_with_the_key_of_the_objects(key: str, resource: str, alias: str | None) -> None:
    config = replace(PRODUCTION, s3=S3Config(encryption="aws:kms", kms_key_id=key))
    (found,) = (it for it in documents(config)["aws-role-policy.json"]["Statement"] if it["Action"] == "kms:Decrypt")
    assert found["Resource"] == resource
    condition = found["Condition"]
    assert condition["StringLike"]["kms:ViaService"].startswith("s3.")
    assert condition.get("ForAnyValue:StringEquals", {}).get("kms:ResourceAliases") == alias


def test_the_trust_policy_asks_for_the_external_id_of_each_integration() -> None:
    policy = documents()["aws-role-trust.json"]
    assert [
        (it["Principal"]["AWS"], it["Condition"]["StringEquals"]["sts:ExternalId"]) for it in policy["Statement"]
    ] == [
        ("STORAGE_AWS_IAM_USER_ARN", "STORAGE_AWS_EXTERNAL_ID"),
        ("SF_AWS_IAM_USER_ARN", "SF_AWS_EXTERNAL_ID"),
    ]  # fmt: skip


# -- the bucket


def test_the_stage_ends_with_a_slash_and_the_notification_has_prefix_and_suffix() -> None:
    config = configured(url="s3://bucket/some/prefix")
    assert "URL = 's3://bucket/some/prefix/events/'" in the("CREATE STAGE", config)
    assert "STORAGE_ALLOWED_LOCATIONS = ('s3://bucket/some/prefix/events/')" in the("CREATE STORAGE", config)
    [queue] = documents(config)["aws-bucket-notification.json"]["QueueConfigurations"]
    assert queue["Events"] == ["s3:ObjectCreated:*"]
    assert queue["Filter"]["Key"]["FilterRules"] == [
        {"Name": "prefix", "Value": "some/prefix/events/"},
        {"Name": "suffix", "Value": ".jsonl.gz"},
    ]


def test_a_lineage_has_a_stage_of_its_own() -> None:
    config = configured(snowflake=SnowflakeConfig(aws_role_arn=ROLE))
    config = replace(config, sink=SinkConfig(url="s3://bucket", lineage="2026-02"))
    assert "URL = 's3://bucket/events/2026-02/'" in the("CREATE STAGE", config)


@pytest.mark.parametrize(
    ("partition", "scheme", "provider"), [("aws-cn", "s3china", "S3CHINA"), ("aws-us-gov", "s3gov", "S3GOV")]
)
def test_other_partitions_of_aws_have_other_names(partition: str, scheme: str, provider: str) -> None:
    config = configured(SnowflakeConfig(aws_role_arn=ROLE.replace("arn:aws:", f"arn:{partition}:")))
    assert f"'{scheme}://bucket/events/'" in the("CREATE STAGE", config)
    assert f"STORAGE_PROVIDER = '{provider}'" in the("CREATE STORAGE", config)
    assert documents(config)["aws-role-policy.json"]["Statement"][2]["Resource"] == f"arn:{partition}:s3:::bucket"


def test_the_bucket_s_policy_is_the_one_of_deploy_iam_and_lets_snowflake_read() -> None:
    kept = json.loads((ROOT / "deploy" / "iam" / "bucket-policy.json").read_text())
    policy = documents()["aws-bucket-policy.json"]
    assert policy["Statement"][0] == kept["Statement"][0]
    assert {it["Principal"]["AWS"] for it in policy["Statement"][1:]} == {PRODUCTION.snowflake.aws_role_arn}


def test_the_bucket_s_policy_demands_no_condition_of_unconditional_puts() -> None:
    config = replace(configured(), sink=SinkConfig(url="s3://bucket", delivery="at-least-once"))
    assert [it["Sid"] for it in documents(config)["aws-bucket-policy.json"]["Statement"]] == [
        "ReadEvents", "ListEvents", "FindBucket",
    ]  # fmt: skip


def test_objects_are_kept_longer_than_the_load_history() -> None:
    rules = documents()["aws-lifecycle.json"]["Rules"]
    assert {rule["Filter"]["Prefix"] for rule in rules} == {"events/", "quarantine/"}
    assert min(rule["Expiration"]["Days"] for rule in rules) > 64


def test_other_rules_of_a_notification_are_kept_and_our_former_one_is_replaced() -> None:
    place = stage_location(configured())
    other = {"Id": "other", "QueueArn": "q"}
    present = {"LambdaFunctionConfigurations": [{"Id": "l"}], "QueueConfigurations": [other]}
    once = bucket.merged(present, bucket.notification(place, "arn:old"))
    twice = bucket.merged(once, bucket.notification(place, "arn:new"))
    assert twice["LambdaFunctionConfigurations"] == [{"Id": "l"}]
    assert [(it["Id"], it["QueueArn"]) for it in twice["QueueConfigurations"]] == [
        ("other", "q"), ("SnowpipeAutoIngest", "arn:new"),
    ]  # fmt: skip
    assert bucket.merged(twice, bucket.notification(place, "arn:new")) == twice


# -- stores that speak S3


REST = SnowflakeConfig(delivery="rest")
STORE = S3Config(endpoint_url="https://store.example.com:9000")


def test_an_s3_compatible_store_has_no_integration_and_no_notification() -> None:
    config = configured(REST, s3=STORE)
    assert "URL = 's3compat://bucket/events/'\n    ENDPOINT = 'store.example.com:9000'" in the("CREATE STAGE", config)
    assert "AUTO_INGEST = FALSE" in the("CREATE PIPE", config)
    assert not [it for it in statements(config) if "STORAGE INTEGRATION" in it.text]
    assert documents(config) == {}


def test_load_errors_are_published_for_an_s3_compatible_store() -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:errors"
    config = configured(replace(REST, error_topic_arn=topic, aws_role_arn=ROLE), s3=STORE)
    found = documents(config)
    assert set(found) == {"aws-role-policy.json", "aws-role-trust.json"}
    assert [it["Action"] for it in found["aws-role-policy.json"]["Statement"]] == ["sns:Publish"]
    assert [it["Principal"]["AWS"] for it in found["aws-role-trust.json"]["Statement"]] == ["SF_AWS_IAM_USER_ARN"]


def test_no_key_of_ours_is_printed() -> None:
    [stage] = [it for it in statements(configured(REST, s3=STORE)) if it.text.startswith("CREATE STAGE")]
    assert "AWS_KEY_ID = '<access key>' AWS_SECRET_KEY = '<secret key>'" in stage.text
    assert stage.check == "DESC STAGE MARKETING.EVENTS.MARKETING_EVENTS_STAGE"


@pytest.mark.parametrize("url", ["https://s3.eu-central-1.amazonaws.com", "https://s3.cn-north-1.amazonaws.com.cn:443"])
def test_an_endpoint_of_aws_is_aws(url: str) -> None:
    assert stage_location(configured(s3=S3Config(endpoint_url=url))).endpoint == ""


def test_rest_on_aws_keeps_the_integration_and_needs_no_notification() -> None:
    config = configured(replace(REST, aws_role_arn=ROLE))
    assert the("CREATE STORAGE", config)
    assert "AUTO_INGEST = FALSE" in the("CREATE PIPE", config)
    assert "aws-bucket-notification.json" not in documents(config)


# -- required configuration


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(), "sink.url = ./data is not a bucket.*--sink"),
        (configured(SnowflakeConfig()), "snowflake.aws_role_arn is not set.*storage integration.*arn:aws:iam"),
        (configured(s3=STORE), "snowflake.delivery = notification.*store.example.com:9000.*rest"),
        (
            configured(replace(REST, error_topic_arn="arn:aws:sns:eu-central-1:123456789012:e"), s3=STORE),
            "snowflake.aws_role_arn is not set.*snowflake.error_topic_arn",
        ),
    ],
)
def test_a_missing_setting_is_named(config: Config, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parts(config)


def test_the_stage_location_has_the_prefix_of_the_sink() -> None:
    assert stage_location(configured(url="s3://bucket/a/b/")) == StageLocation(
        "bucket", "a/b/", "a/b/events/", "aws", ""
    )


# -- the command


def test_it_prints_one_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(Settings(PRODUCTION, {}), command.Options()) == 0
    assert capsys.readouterr().out == single_script(parts())


def test_it_writes_a_file_for_each_part(tmp_path: Path) -> None:
    assert command.run(Settings(PRODUCTION, {}), command.Options(out=str(tmp_path / "new"))) == 0
    written = {file.name: file.read_text() for file in (tmp_path / "new").iterdir()}
    assert written == {name: content for name, content in files().items() if "match" not in name}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--out .*/file cannot be written"):
        command.run(Settings(PRODUCTION, {}), command.Options(out=str(tmp_path / "file")))


def test_it_needs_neither_the_connector_nor_a_warehouse() -> None:
    """Printing imports neither of them."""
    code = (
        "import sys; from ingestd.cli.main import main; "
        "main(['snowflake', 'sql', '--sink', 's3://bucket', '--set', 'snowflake.aws_role_arn=" + ROLE + "']); "
        "assert not {'snowflake.connector', 'duckdb', 'sqlglot', 'aiobotocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_snowflake_sql --write")
    for _name, _content in files().items():
        (GOLDEN / _name).write_text(_content)
