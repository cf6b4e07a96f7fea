"""Tokens for Amazon MSK: the same as AWS' own signer makes, from credentials that may be missing, change and end."""

import base64
import importlib.metadata
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from aiokafka.errors import KafkaConnectionError
from aws_msk_iam_sasl_signer.MSKAuthTokenProvider import generate_auth_token_from_credentials_provider
from botocore.credentials import CredentialProvider, Credentials, ReadOnlyCredentials

from ingestd.config.keys import variable
from ingestd.config.load import load
from ingestd.config.model import KafkaConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import ConfigError
from ingestd.sources.kafka.auth import client_options
from ingestd.sources.kafka.msk_iam import USER_AGENT, MskTokenProvider, region_of, sign_token

NOW = datetime(2026, 11, 29, 12, 0, 1, tzinfo=UTC)
PERMANENT = ReadOnlyCredentials("AKIAEXAMPLE", "a/secret+key", None)
TEMPORARY = ReadOnlyCredentials("ASIAEXAMPLE", "a/secret+key", "a//session+token==")
BROKER = "b-1.events.abc123.c2.kafka.eu-central-1.amazonaws.com:9098"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def url_of(token: str) -> str:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


def of_aws(credentials: ReadOnlyCredentials, region: str) -> str:
    class Provider(CredentialProvider):
        def load(self) -> Credentials:
            return Credentials(str(credentials.access_key), str(credentials.secret_key), credentials.token)

    token, _ = generate_auth_token_from_credentials_provider(region, Provider())
    return str(token)


@pytest.mark.parametrize("credentials", [PERMANENT, TEMPORARY])
@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1"])
def test_a_token_is_that_of_aws_own_signer(credentials: ReadOnlyCredentials, region: str) -> None:
    signer = "aws-msk-iam-sasl-signer-python"
    with time_machine.travel(NOW, tick=False):
        ours = sign_token(credentials, region, f"{signer}/{importlib.metadata.version(signer)}")
        assert ours == of_aws(credentials, region)


def test_a_token_names_ingestd_and_has_no_secret() -> None:
    url = url_of(sign_token(TEMPORARY, "eu-central-1"))
    query = {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}
    assert query["User-Agent"] == USER_AGENT
    assert (query["Action"], query["X-Amz-Expires"]) == ("kafka-cluster:Connect", "900")
    assert "secret" not in url


@pytest.mark.parametrize(
    ("brokers", "configured", "region"),
    [
        ([BROKER], None, "eu-central-1"),
        ([BROKER], "us-east-2", "us-east-2"),
        (["boot-x.c1.kafka-serverless.us-west-2.amazonaws.com:9098"], None, "us-west-2"),
        (["b-1.x.kafka.cn-north-1.amazonaws.com.cn:9098"], None, "cn-north-1"),
        (["kafka.internal:9098", BROKER], None, "eu-central-1"),
    ],
)
def test_the_region_is_configured_or_that_of_the_brokers_names(
    brokers: list[str], configured: str | None, region: str
) -> None:
    assert region_of(brokers, configured) == region


def test_else_it_is_aws_own_or_an_error_that_names_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.iam_region is not set"):
        region_of(["kafka.internal:9098"], None)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert region_of(["kafka.internal:9098"], None) == "eu-west-3"


def test_a_profile_that_is_missing_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "gone")
    with pytest.raises(ConfigError, match=r"AWS' settings cannot be used: .*gone"):
        region_of(["kafka.internal:9098"], None)


async def test_connections_get_a_token_of_the_credentials_of_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = MskTokenProvider("eu-central-1")
    for _ in range(2):  # none yet: aiokafka tries again
        with pytest.raises(KafkaConnectionError, match="there are no AWS credentials for Kafka; give this process"):
            await provider.token()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALATE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-late-secret-key")
    now = [0.0]
    monkeypatch.setattr("ingestd.sources.kafka.msk_iam.time.monotonic", lambda: now[0])
    with time_machine.travel(NOW, tick=False) as clock:
        first = await provider.token()
        for seconds in (30, 31):
            clock.shift(seconds)
            now[0] += seconds
            second = await provider.token()
            assert (second == first) is (seconds == 30)
    assert "AKIALATE" in url_of(first)
    assert first != second
    assert REDACTION.clean(f"sent {second}") == "sent <redacted>"


async def test_a_source_of_credentials_that_prints_nonsense_is_retried_and_not_quoted(tmp_path: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text("print('a-secret-of-the-process')")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = '{sys.executable}' '{script}'\n")
    provider = MskTokenProvider("eu-central-1")
    with pytest.raises(KafkaConnectionError, match="no AWS credentials for Kafka") as raised:
        await provider.token()
    assert "a-secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    answer = '{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "another-secret"}'
    script.write_text(f"print('{answer}')")
    assert "AKIAPROCESS" in url_of(await provider.token())


def test_clients_send_it_as_oauthbearer() -> None:
    config = KafkaConfig(bootstrap_servers=(BROKER,), security_protocol="SASL_SSL", sasl_mechanism="AWS_MSK_IAM")
    options = client_options(config)
    assert options["sasl_mechanism"] == "OAUTHBEARER"
    assert isinstance(options["sasl_oauth_token_provider"], MskTokenProvider)


def test_no_token_is_sent_without_tls() -> None:
    with pytest.raises(ConfigError, match=r"kafka\.security_protocol = SASL_PLAINTEXT .*in plain text"):
        load(
            environ={
                variable("kafka.sasl_mechanism"): "AWS_MSK_IAM",
                variable("kafka.security_protocol"): "SASL_PLAINTEXT",
            }
        )
