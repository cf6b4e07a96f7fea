"""Where a value comes from, what it accepts, and what an operator reads when it is wrong."""

import math
import pickle
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config import secrets as secrets_module
from ingestd.config.effective import as_json, as_toml
from ingestd.config.keys import KEYS, MOVED_KEYS, value_of, variable
from ingestd.config.load import MAX_FILE_BYTES, Flag, Settings, load
from ingestd.config.model import BatchConfig, Config, KafkaConfig, S3Config, SinkConfig
from ingestd.config.secrets import MAX_SECRET_BYTES, Redaction, read_secret
from ingestd.config.types import Rate, Seconds, Secret, Size
from ingestd.config.validate import problems
from ingestd.core.errors import ConfigError

PASSWORD = "correct-horse"


def flags(*pairs: str) -> list[Flag]:
    return [Flag("--set", *pair.split("=", 1)) for pair in pairs]


def with_flags(*pairs: str) -> Config:
    return load(environ={}, flags=flags(*pairs)).config


def refused(*pairs: str, environ: dict[str, str] | None = None, path: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path=path, environ=environ or {}, flags=flags(*pairs))
    assert PASSWORD not in repr(caught.value)
    assert caught.value.__cause__ is None
    return str(caught.value)


def toml(tmp_path: Path, text: str) -> str:
    file = tmp_path / "given.toml"
    file.write_text(text)
    return str(file)


def test_the_defaults_are_the_code_s() -> None:
    settings = load(environ={})
    assert settings.config == Config()
    assert set(settings.origins.values()) == {"default"}
    assert list(settings.origins) == list(KEYS)


@pytest.mark.parametrize(
    ("environ", "region", "origin"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1", "AWS_REGION"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2", "AWS_DEFAULT_REGION"),
        ({"AWS_DEFAULT_REGION": "eu-west-2", "AWS_REGION": "eu-west-1"}, "eu-west-1", "AWS_REGION"),
        ({"AWS_DEFAULT_REGION": "eu-west-2", "AWS_REGION": ""}, "eu-west-2", "AWS_DEFAULT_REGION"),
        ({"AWS_REGION": "eu-west-1", "INGESTD__S3__REGION": "us-east-2"}, "us-east-2", "environment"),
    ],
)
def test_the_region_is_that_of_the_aws_variables_where_no_key_sets_it(
    environ: dict[str, str], region: str, origin: str
) -> None:
    settings = load(environ=environ)
    assert settings.config.s3.region == region
    assert settings.origins["s3.region"] == origin
    assert f'region = "{region}"  # {origin}' in as_toml(settings)


def test_flags_go_before_environment_before_file_before_defaults(tmp_path: Path) -> None:
    path = toml(tmp_path, "grace = '1s'\n[batch]\ninterval = '2s'\nrecords = 2\n[log]\nlevel = 'DEBUG'")
    environ = {"INGESTD__BATCH__INTERVAL": "3s", "INGESTD__BATCH__RECORDS": "3"}
    config, origins, _ = load(path=path, environ=environ, flags=[Flag("--set", "batch.records", "4")])
    assert config.grace == Seconds(1)
    assert config.batch.interval == Seconds(3)
    assert config.batch.records == 4
    assert config.sink.url == "./data"
    assert origins["grace"] == path
    assert origins["batch.interval"] == "environment"
    assert origins["batch.records"] == "--set"
    assert origins["sink.url"] == "default"


def test_the_last_of_two_flags_for_one_key_wins() -> None:
    settings = load(environ={}, flags=[Flag("--duration", "duration", "5m"), Flag("--set", "duration", "6m")])
    assert settings.config.duration == Seconds(360)
    assert settings.origins["duration"] == "--set"


def test_the_file_is_named_by_flag_or_environment_and_the_flag_wins(tmp_path: Path) -> None:
    path = toml(tmp_path, "grace = '1s'")
    assert load(environ={"INGESTD_CONFIG": path}).config.grace == Seconds(1)
    assert load(path=path, environ={"INGESTD_CONFIG": "/nowhere"}).config.grace == Seconds(1)
    assert load(environ={"INGESTD_CONFIG": ""}).config == Config()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_an_environment_variable_and_a_flag(key: str) -> None:
    value = value_of(Config(), key)
    text = ",".join(value) if isinstance(value, tuple | dict) else "" if value is None else str(value)
    environment = load(environ={variable(key): text})
    assert environment.origins[key] == "environment"
    assert environment.config == Config()
    if not KEYS[key].is_secret:
        assert load(environ={}, flags=[Flag("--set", key, text)]).config == Config()


def test_a_text_of_commas_is_a_list() -> None:
    assert with_flags("kafka.topics=a, b,c,").kafka.topics == ("a", "b", "c")


def test_an_empty_text_unsets_a_key_that_need_not_be_set(tmp_path: Path) -> None:
    path = toml(tmp_path, "[batch]\nrecords = 5")
    assert load(path=path, environ={"INGESTD__BATCH__RECORDS": ""}).config.batch.records is None
    assert load(environ={"INGESTD__KAFKA__SASL_PASSWORD": ""}).config.kafka.sasl_password is None


def test_the_case_of_a_word_is_free() -> None:
    assert with_flags("log.level=debug").log.level == "DEBUG"
    assert with_flags("s3.encryption=aes256").s3.encryption == "AES256"


def test_toml_s_own_numbers_booleans_and_times_are_read(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        "[kafka]\nstart = 2026-01-31T00:00:00Z\nskip_lost = true\n[batch]\ninterval = 0.5\nbytes = 65536\n"
        "[simulator]\nrate = 5",
    )
    config = load(path=path, environ={}).config
    assert config.kafka.start == "2026-01-31T00:00:00+00:00"
    assert config.kafka.skip_lost
    assert (config.batch.interval, config.batch.bytes, config.simulator.rate) == (0.5, 65536, 5.0)


def test_an_unknown_key_is_refused_with_its_path_and_the_nearest_one(tmp_path: Path) -> None:
    path = toml(tmp_path, "[batch]\nintervall = '5s'")
    assert refused(path=path) == f"unknown key batch.intervall from {path}:2 (did you mean batch.interval?)"
    assert refused("interval=5s") == "unknown key interval from --set (did you mean batch.interval?)"
    assert "`ingestd config` lists every key" in refused("zzzzzz=1")


def test_a_key_that_has_moved_is_refused_with_its_new_name(tmp_path: Path) -> None:
    path = toml(tmp_path, "[kafka]\nprogress_timeout = '5m'")
    message = "kafka.progress_timeout from {} is now health.progress_timeout (set {} instead)"
    assert refused(path=path) == message.format(f"{path}:2", "health.progress_timeout")
    assert refused("kafka.progress_timeout=5m") == message.format("--set", "health.progress_timeout")
    variable = "INGESTD__KAFKA__PROGRESS_TIMEOUT"
    assert refused(environ={variable: "5m"}) == message.format(
        f"environment variable {variable}", "INGESTD__HEALTH__PROGRESS_TIMEOUT"
    )
    assert set(MOVED_KEYS.values()) <= set(KEYS)
    assert not set(MOVED_KEYS) & set(KEYS)


def test_an_unknown_environment_variable_is_refused_with_the_nearest_one() -> None:
    message = refused(environ={"INGESTD__BATCH__INTERVALL": "5s"})
    assert message == (
        "environment variable INGESTD__BATCH__INTERVALL matches no key (did you mean INGESTD__BATCH__INTERVAL?)"
    )
    assert "INGESTD__BATCH__INTERVAL?" in refused(environ={"INGESTD__batch__interval": "5s"})


def test_variables_with_one_underscore_are_none_of_ours() -> None:
    load(environ={"INGESTD_TEST_KAFKA": "127.0.0.1:1", "INGESTD_X": "1", "PATH": "/bin"})


def test_an_unknown_key_s_value_is_not_shown() -> None:
    assert PASSWORD not in refused(environ={"INGESTD__KAFKA__SASL_PASWORD": PASSWORD})


def test_a_table_is_no_key(tmp_path: Path) -> None:
    assert "batch from --set is a table, not a key (its keys are batch.interval," in refused("batch=1")
    assert "is a table" in refused(path=toml(tmp_path, "batch = 3"))
    assert "batch.interval" in refused(path=toml(tmp_path, "[batch.interval]\nx = 1"))
    assert "unknown key" in refused(path=toml(tmp_path, "'batch.interval' = '5s'"))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("batch.interval=30x", "a duration such as 250ms, 30s, 5m, 2h or 90d from 100ms to 1h"),
        ("batch.bytes=big", "a size such as 512KiB, 32MiB or 1GiB from 1KiB to 1GiB"),
        ("batch.records=0", "a whole number from 1 to 1000000000, or nothing"),
        ("simulator.rate=nan", "a rate such as 600/min, 10/s or 36000/h from 0/min to 1000000000/min"),
        ("breaker.max_share=nan", "a number from 0 to 1"),
        ("health.enabled=perhaps", "true or false"),
        ("source=carrier-pigeon", "one of collector, kafka, kinesis, simulator, sqs"),
        ("events.model=Event", "json, or module:Name, or nothing"),
        ("kafka.topics=a b", "a list of 1 to 1000, each at most 249 letters, digits, '.', '_' and '-'"),
        ("kafka.group_id=", "text of 1 to 1024 characters"),
        ("s3.endpoint_url=ftp://x", "http(s)://host[:port], or nothing"),
        ("kafka.bootstrap_servers=a:b:c", "a list of 1 to 100, each host:port"),
        ("snowflake.aws_role_arn=x", "arn:aws:iam::ACCOUNT:role/NAME, or nothing"),
        ("snowflake.error_topic_arn=x", "arn:aws:sns:REGION:ACCOUNT:NAME, or nothing"),
    ],
)
def test_a_wrong_value_names_key_value_origin_and_what_is_accepted(pair: str, expected: str) -> None:
    key, _, text = pair.partition("=")
    message = refused(pair)
    assert message.startswith(f"{key} = ")
    assert text in message
    assert "from --set is not accepted" in message
    assert message.endswith(f"(give {expected})")


@pytest.mark.parametrize("key", KEYS)
def test_every_key_says_what_it_accepts(key: str) -> None:
    assert KEYS[key].accepted()
    assert "None" not in KEYS[key].accepted()


def test_a_wrong_value_from_the_environment_names_the_variable() -> None:
    message = refused(environ={"INGESTD__BATCH__INTERVAL": "30x"})
    assert message.startswith("batch.interval = 30x from environment variable INGESTD__BATCH__INTERVAL is not accepted")


@pytest.mark.parametrize("text", ["true", "-1", "nan", "inf", "[1]", "{a=1}", "'1h30m'", "''", "1e-9", "'٣s'"])
def test_a_duration_is_no_other_thing(tmp_path: Path, text: str) -> None:
    assert "batch.interval" in refused(path=toml(tmp_path, f"[batch]\ninterval = {text}"))


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    message = refused(path=toml(tmp_path, f"[kafka]\nsasl_password = ['{PASSWORD}']"))
    assert message.startswith("kafka.sasl_password = <redacted> from")


def test_a_secret_is_refused_on_the_command_line() -> None:
    message = refused(f"kafka.sasl_password={PASSWORD}")
    assert "use INGESTD__KAFKA__SASL_PASSWORD or kafka.sasl_password_file" in message


def test_the_user_in_a_url_is_not_shown() -> None:
    assert PASSWORD not in refused(f"s3.endpoint_url=http://me:{PASSWORD}@host")
    assert PASSWORD not in refused(f"sink.url=http://me:{PASSWORD}@host")


def test_text_that_is_not_utf_8_is_refused() -> None:
    assert "INGESTD__SINK__URL is not UTF-8" in refused(environ={"INGESTD__SINK__URL": "a\udcff"})
    assert "--set is not UTF-8" in refused("sink.url=a\udcff")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"grace = ", "is not valid: Invalid value"),
        (b"\xff", "is not valid: it is not TOML in UTF-8"),
        (b"\xff\xfea\x00", "is not valid: it is UTF-16"),
        (b"#" * (MAX_FILE_BYTES + 1), "is larger than 1MiB"),
        (b"a = " + b"[" * 100_000, "is not valid"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    message = refused(path=str(file))
    assert expected in message
    assert message.endswith(")"), "says what to do"


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "given.toml"
    file.write_bytes(b"\xef\xbb\xbfgrace = '1s'")
    assert load(path=str(file), environ={}).config.grace == Seconds(1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file or directory" in refused(path=str(tmp_path / "absent.toml"))
    assert "cannot be read: Is a directory" in refused(path=str(tmp_path))


SASL = KafkaConfig(security_protocol="SASL_SSL", sasl_username="me", sasl_password=Secret(PASSWORD))
OAUTH = KafkaConfig(
    security_protocol="SASL_SSL",
    sasl_mechanism="OAUTHBEARER",
    oauth_token_url="https://login.example.com/token",
    oauth_client_id="me",
    oauth_client_secret_file="/run/secret",
)
replace = msgspec.structs.replace


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (Config(kafka=KafkaConfig(heartbeat_interval=Seconds(16))), "kafka.heartbeat_interval"),
        (Config(kafka=KafkaConfig(session_timeout=Seconds(61))), "kafka.session_timeout"),
        (Config(kafka=KafkaConfig(start="yesterday")), "kafka.start"),
        (Config(kafka=KafkaConfig(start="2026-01-31T00:00:00")), "kafka.start"),
        (Config(kafka=KafkaConfig(bootstrap_servers=("a:99999",))), "kafka.bootstrap_servers"),
        (Config(kafka=KafkaConfig(ssl_cert_file="c")), "kafka.ssl_key_file"),
        (Config(kafka=KafkaConfig(ssl_key_file="k")), "kafka.ssl_cert_file"),
        (Config(kafka=KafkaConfig(partition_fetch_bytes=Size(51 << 20))), "kafka.partition_fetch_bytes"),
        (Config(kafka=replace(SASL, sasl_username=None)), "kafka.sasl_username"),
        (Config(kafka=replace(SASL, sasl_password=None)), "kafka.sasl_password"),
        (Config(kafka=replace(OAUTH, oauth_token_url=None)), "kafka.oauth_token_url"),
        (Config(kafka=replace(OAUTH, oauth_client_id=None)), "kafka.oauth_client_id"),
        (Config(kafka=replace(OAUTH, oauth_client_secret_file=None)), "kafka.oauth_client_secret"),
        (Config(batch=BatchConfig(interval=Seconds(0.05))), "batch.interval"),
        (Config(batch=BatchConfig(interval=Seconds(3601))), "batch.interval"),
        (Config(batch=BatchConfig(interval=Seconds(math.nan))), "batch.interval"),
        (Config(batch=BatchConfig(memory=Size(8 << 20), bytes=Size(1 << 20))), "batch.memory"),
        (Config(batch=BatchConfig(bytes=Size(129 << 20))), "batch.bytes"),
        (Config(grace=Seconds(0)), "grace"),
        (Config(source="sqs", grace=Seconds(9.9)), "sqs.wait"),
        (Config(sink=SinkConfig(retry_initial=Seconds(40))), "sink.retry_initial"),
        (Config(s3=S3Config(kms_key_id="alias/x")), "s3.kms_key_id"),
        *(
            (Config(sink=SinkConfig(url=url)), "sink.url")
            for url in ("gs://bucket/x", "s3://", "s3://b", "s3://Bucket/x")
        ),
        *(
            (Config(sink=SinkConfig(url=url)), "sink.url")
            for url in ("s3://bucket//x", "s3://bucket/../x", "s3://bucket/a?b")
        ),
        (Config(sink=SinkConfig(url="data\n")), "sink.url"),
        *(
            (Config(sink=SinkConfig(url="s3://bucket"), s3=S3Config(region=region)), "s3.region")
            for region in ("us east", "us_east", "-eu", "12", "a/b", "eu-central-1\n")
        ),
        *(
            (Config(s3=S3Config(endpoint_url=url)), "s3.endpoint_url")
            for url in ("http://host:99999", "http://host:x", "http://host:0", "http://[::1")
        ),
    ],
)
def test_keys_at_odds_with_another_are_refused(config: Config, key: str) -> None:
    [problem] = problems(config)
    assert problem.key == key
    assert problem.remedy


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(kafka=SASL),
        Config(kafka=OAUTH),
        Config(kafka=replace(SASL, sasl_password=None, sasl_password_file="/run/secret")),
        Config(kafka=KafkaConfig(start="2026-01-31T00:00:00+02:00")),
        Config(kafka=KafkaConfig(bootstrap_servers=("[::1]:9092", "kafka"))),
        Config(s3=S3Config(encryption="aws:kms")),
        Config(s3=S3Config(encryption="aws:kms", kms_key_id="alias/x")),
        Config(sink=SinkConfig(url="s3://bucket")),
        Config(sink=SinkConfig(url="s3://bucket"), s3=S3Config(region="eu-central-1")),
        Config(s3=S3Config(region="not used", endpoint_url="http://[::1]:9000")),
        Config(sink=SinkConfig(url="s3://bucket/")),
        Config(sink=SinkConfig(url="s3://bucket/a/b_c-d.e/")),
        Config(sink=SinkConfig(url="/var/lib/ingestd data")),
    ],
)
def test_good_configurations_pass(config: Config) -> None:
    assert not list(problems(config))


def test_a_missing_password_says_which_variable_to_set() -> None:
    message = refused("kafka.security_protocol=SASL_SSL", "kafka.sasl_username=me")
    assert message == (
        "kafka.sasl_password is not set, but kafka.security_protocol = SASL_SSL with SCRAM-SHA-512 needs it "
        "(set INGESTD__KAFKA__SASL_PASSWORD or kafka.sasl_password_file)"
    )


@pytest.mark.parametrize("key", ["sink.lineage", "simulator.topic", "kafka.topics"])
@pytest.mark.parametrize("name", ["a/b", "..", ".", "a+b", "a\nb", "a" * 250, "é"])
def test_what_becomes_part_of_an_object_s_name_has_safe_characters(key: str, name: str) -> None:
    assert refused(f"{key}={name}").startswith(f"{key} = ")


@pytest.mark.parametrize(
    ("text", "a_minute"), [("600", 600), ("600/min", 600), ("10/s", 600), ("36000/h", 600), ("0.5 / s", 30), ("0", 0)]
)
def test_a_rate_has_a_unit(text: str, a_minute: float) -> None:
    assert Rate.parse(text) == Rate(a_minute)
    assert with_flags(f"simulator.rate={text}").simulator.rate == Rate(a_minute)
    assert str(Rate.parse(text)) == f"{a_minute}/min"


@given(st.floats(0, 1e9))
def test_a_rate_is_read_as_it_was_printed(value: float) -> None:
    assert Rate.parse(str(Rate(value))) == pytest.approx(Rate(value), rel=1e-12, abs=1e-19)


@pytest.mark.parametrize("text", ["", "/min", "600/d", "600min", "-1/s", "1e3/s", "inf", "10/s/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        Rate.parse(text)


@given(st.integers(0, 10**12))
def test_a_duration_s_text_is_read_back(milliseconds: int) -> None:
    seconds = Seconds(milliseconds / 1000)
    assert Seconds.parse(str(seconds)) == seconds


@given(st.floats(1e-3, 1e6))
def test_any_duration_s_text_is_read_back(value: float) -> None:
    assert Seconds.parse(str(Seconds(value))) == pytest.approx(value, rel=1e-15)


@given(st.integers(0, 10**14))
def test_a_size_s_text_is_read_back(value: int) -> None:
    assert Size.parse(str(Size(value))) == value


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("5m", 300), ("2h", 7200), ("90d", 7776000), ("1.5", 1.5)]
)
def test_durations_read(text: str, seconds: float) -> None:
    assert Seconds.parse(text) == seconds
    assert str(Seconds.parse(text)) in {text, "1500ms"}


@pytest.mark.parametrize(("text", "size"), [("512KiB", 524288), ("1.5MiB", 1572864), ("2GB", 2 * 10**9), ("77", 77)])
def test_sizes_read(text: str, size: int) -> None:
    assert Size.parse(text) == size


def test_a_secret_does_not_leak() -> None:
    value = Secret(PASSWORD)
    kafka = KafkaConfig(sasl_password=value)
    shown = [repr(value), str(value), f"{value}", f"{value!r}", "%s %r" % (value, value), repr(kafka)]  # noqa: UP031
    assert not any(PASSWORD in text for text in shown)
    assert value.reveal() == PASSWORD
    parts: list[Any] = [value]
    assert value == Secret(PASSWORD) != Secret("other")
    for leak in (lambda: "".join(parts), lambda: msgspec.json.encode(kafka), lambda: pickle.dumps(value)):
        with pytest.raises(TypeError) as caught:
            leak()
        assert PASSWORD not in str(caught.value)


def test_a_secret_file_is_read_at_each_use_and_hidden_from_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redaction = Redaction()
    monkeypatch.setattr(secrets_module, "REDACTION", redaction)
    file = tmp_path / "password"
    for text in ("first", "second"):
        file.write_text(f"{text}\n")
        assert read_secret(None, str(file)) == text
        assert redaction.clean(f"sent {text}") == "sent <redacted>"
    assert read_secret(Secret("given"), str(file)) == "given"
    assert read_secret(None, None) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\n", "is empty"), (b"correct-horse\xff", "not UTF-8"), (b"x" * (MAX_SECRET_BYTES + 1), "too large")],
)
def test_a_file_that_holds_no_secret_is_refused_without_showing_it(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        read_secret(None, str(file))
    assert PASSWORD not in str(caught.value)
    assert caught.value.hint
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_secret(None, str(tmp_path / "absent"))
    assert caught.value.hint


def settings_with_everything(tmp_path: Path) -> Settings:
    path = toml(tmp_path, '[events]\nmodel = \'mine:Event\'\n[kafka]\nsasl_username = "a\\"\\\\b\\u007f"\n')
    environ = {"INGESTD__KAFKA__SASL_PASSWORD": PASSWORD, "INGESTD__BATCH__RECORDS": "10"}
    return load(path=path, environ=environ, flags=flags("kafka.topics=a,b", "batch.interval=1500ms"))


def test_the_effective_tree_prints_as_toml_that_reads_back(tmp_path: Path) -> None:
    settings = settings_with_everything(tmp_path)
    text = as_toml(settings)
    assert PASSWORD not in text
    assert 'interval = "1500ms"  # --set\n' in text
    assert 'sasl_password = "<redacted>"  # environment\n' in text
    assert "# lineage is not set  # default\n" in text
    assert tomllib.loads(text)["batch"]["bytes"] == "32MiB"
    again = load(path=toml(tmp_path, text.replace("<redacted>", PASSWORD)), environ={}).config
    assert again == settings.config


def test_the_effective_tree_prints_as_json(tmp_path: Path) -> None:
    text = as_json(settings_with_everything(tmp_path))
    document = msgspec.json.decode(text)
    assert PASSWORD not in text
    assert document["config"]["batch"] == {"interval": "1500ms", "bytes": "32MiB", "records": 10, "memory": "256MiB"}
    assert document["config"]["kafka"]["sasl_password"] == "<redacted>"
    assert document["origins"]["batch.records"] == "environment"
