"""The files in `config/` load, `ingestd config --example` prints them, and ingestd.toml lists every key and default."""

import re
import tomllib
from pathlib import Path

import pytest

from ingestd.cli.main import main
from ingestd.config.examples import NAMES, example
from ingestd.config.keys import KEYS, SOURCES, keys_of, source_key, value_of
from ingestd.config.load import load
from ingestd.config.model import CollectConfig, CollectSource, Config
from ingestd.config.types import Seconds
from ingestd.config.validate_collect import running_collector_problems
from ingestd.core.errors import ConfigError

FOLDER = Path(__file__).parent.parent / "config"
REFERENCE = FOLDER / "ingestd.toml"
CREDENTIALS = {"INGESTD__KAFKA__SASL_USERNAME": "me", "INGESTD__KAFKA__SASL_PASSWORD": "secret"}


def entries(text: str) -> dict[str, str | None]:
    """Every key in the file by its dotted name, with the example where it is commented out, else None."""
    found: dict[str, str | None] = {}
    table = ""
    for line in text.splitlines():
        if header := re.match(r"(?:# )?\[([\w.]+)\]", line):
            table = f"{header[1]}."
        elif entry := re.match(r"(# )?([a-z]\w*) = (.*)", line):
            assert table + entry[2] not in found
            found[table + entry[2]] = entry[3] if entry[1] else None
    return found


def test_the_reference_lists_every_key_in_the_order_of_the_code() -> None:
    with_one_source = Config(collect=CollectConfig(sources={"web": CollectSource(kind="web")}))
    assert list(entries(REFERENCE.read_text())) == list(keys_of(with_one_source))


def test_the_reference_s_values_are_the_defaults() -> None:
    settings = load(path=str(REFERENCE), environ={})
    assert settings.config == Config()
    listed = entries(REFERENCE.read_text())
    assert {key for key, origin in settings.origins.items() if origin == "default"} == {
        key for key, example in listed.items() if example is not None and source_key(key) is None
    }


def test_the_reference_s_source_has_the_defaults_where_there_are_some(tmp_path: Path) -> None:
    text = REFERENCE.read_text()
    table = text[text.index(f"# [{SOURCES}.web]") : text.index("[events]")]
    file = tmp_path / "source.toml"
    file.write_text(re.sub(r"^# ", "", table, flags=re.MULTILINE).replace("organization_id", "# "))
    source = load(path=str(file), environ={}).config.collect.sources["web"]
    example = CollectSource(kind="web", key_file="/run/secrets/web-keys", mapping="/etc/ingestd/web.toml")
    assert source == example


def test_a_commented_key_has_no_default_and_a_valid_example(tmp_path: Path) -> None:
    for key, value in entries(REFERENCE.read_text()).items():
        if value is None or source_key(key) is not None:
            continue
        assert value_of(Config(), key) is None
        table, _, name = key.rpartition(".")
        file = tmp_path / "example.toml"
        needs = {"ssl_cert_file": 'ssl_key_file = "k"', "ssl_key_file": 'ssl_cert_file = "c"'}
        needs["kms_key_id"] = 'encryption = "aws:kms"'
        needs["timestamp_field"] = 'model = "json"'
        needs["schema_file"] = 'value_format = "avro"'
        needs["message"] = 'value_format = "protobuf"\nschema_file = "events.proto"'
        if table == "registry":
            user = 'username = "u"'
            needs |= {"password": f'{user}\npassword_file = "f"', "password_file": user, "username": 'password = "p"'}
        needs["queue_url"] = '[sink]\nurl = "s3://bucket"'
        file.write_text((f"[{table}]\n" if table else "") + f"{name} = {value}\n{needs.get(name, '')}")
        config = load(path=str(file), environ={}).config
        assert KEYS[key].is_secret or value_of(config, key) is not None


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda file: file.name)
def test_every_file_loads(file: Path) -> None:
    load(path=str(file), environ=CREDENTIALS if file.stem in {"collect", "production"} else {})


def test_the_folder_holds_the_examples_and_nothing_else() -> None:
    assert {file.name for file in FOLDER.glob("*.toml")} == {f"{name}.toml" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_the_shipped_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example(name) == (FOLDER / f"{name}.toml").read_text()
    assert main(["config", "--example", name]) == 0
    assert capsys.readouterr().out == example(name)


def test_an_example_needs_no_valid_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGESTD__BATCH__INTERVAL", "nonsense")
    assert main(["config", "--example"]) == 0
    assert capsys.readouterr().out == REFERENCE.read_text()


def test_the_demo_needs_no_service_and_uses_the_guide_s_numbers() -> None:
    config = load(path=str(FOLDER / "demo.toml"), environ={}).config
    assert config.source == "simulator"
    assert config.sink.url == "./data"
    assert config.batch.records == 1000
    assert config.batch.interval < Seconds(30), "shorter than the guide's: a visitor does not wait that long"
    assert 100 <= config.simulator.rate <= 1000


def test_production_is_encrypted_and_writes_to_the_guide_s_bucket() -> None:
    config = load(path=str(FOLDER / "production.toml"), environ=CREDENTIALS).config
    assert config.source == "kafka"
    assert config.kafka.security_protocol == "SASL_SSL"
    assert config.sink.url == "s3://your-marketing-events-bucket"
    assert config.sink.delivery == "exactly-once"


def test_the_collector_s_example_has_a_website_an_sdk_and_a_webhook_and_loses_nothing_while_kafka_is_away() -> None:
    config = load(path=str(FOLDER / "collect.toml"), environ=CREDENTIALS).config
    assert [source.kind for source in config.collect.sources.values()] == ["web", "segment", "sendgrid"]
    assert list(running_collector_problems(config.collect, "`ingestd collect`")) == []
    assert config.collect.journal is not None
    assert config.collect.topic in load(path=str(FOLDER / "production.toml"), environ=CREDENTIALS).config.kafka.topics
    assert config.kafka.security_protocol == "SASL_SSL"
    assert "*" not in config.collect.origins


def test_production_without_credentials_is_an_error() -> None:
    with pytest.raises(ConfigError, match="INGESTD__KAFKA__SASL_USERNAME"):
        load(path=str(FOLDER / "production.toml"), environ={})


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda file: file.name)
def test_no_file_holds_a_secret(file: Path) -> None:
    table = tomllib.loads(file.read_text())
    assert not [key for key in KEYS if KEYS[key].is_secret and key.rpartition(".")[2] in table.get("kafka", {})]
