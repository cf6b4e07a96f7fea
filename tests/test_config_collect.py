"""The tables of the collector's sources: wherever they come from, and what an operator reads when they are wrong."""

import tomllib
from pathlib import Path

import pytest
from msgspec.structs import replace

from ingestd.config.effective import as_toml
from ingestd.config.load import load
from ingestd.config.model import CollectConfig, CollectSource, Config
from ingestd.config.secrets import exposed_files
from ingestd.config.types import Rate, Size
from ingestd.config.validate import problems
from ingestd.config.validate_collect import MAX_SOURCES
from tests.test_config_load import flags, refused, toml, with_flags

KIND = "INGESTD__COLLECT__SOURCES__WEB__KIND"
DEFAULT = CollectConfig()
ARN = "arn:aws:sns:eu-central-1:123456789012:mail"


def test_a_source_comes_from_the_file_the_environment_or_a_flag(tmp_path: Path) -> None:
    path = toml(tmp_path, "[collect.sources.web]\nkind = 'web'\norigins = ['https://a.example.com']")
    expected = CollectSource(kind="web", origins=("https://a.example.com",))
    assert load(path=path, environ={}).config.collect.sources == {"web": expected}
    origins = "INGESTD__COLLECT__SOURCES__WEB__ORIGINS"
    environ = {KIND: "WEB", origins: "https://a.example.com"}
    assert load(environ=environ).config.collect.sources == {"web": expected}
    pairs = ("collect.sources.web.kind=web", "collect.sources.web.origins=https://a.example.com")
    assert with_flags(*pairs).collect.sources == {"web": expected}


def test_the_keys_of_a_source_are_merged_like_all_others(tmp_path: Path) -> None:
    path = toml(
        tmp_path, "[collect.sources.my_shop]\nkind = 'web'\nrate = '1/s'\n[collect.sources.other]\nkind = 'web'"
    )
    environ = {"INGESTD__COLLECT__SOURCES__MY_SHOP__RATE": "2/s"}
    settings = load(path=path, environ=environ, flags=flags("collect.sources.other.rate=3/s"))
    sources = settings.config.collect.sources
    assert (sources["my_shop"].rate, sources["other"].rate) == (Rate(120), Rate(180))
    assert settings.origins["collect.sources.my_shop.kind"] == path
    assert settings.origins["collect.sources.my_shop.rate"] == "environment"
    assert settings.origins["collect.sources.other.rate"] == "--set"
    assert settings.origins["collect.sources.other.mapping"] == "default"


def test_sources_print_as_toml_that_reads_back(tmp_path: Path) -> None:
    settings = load(
        environ={KIND: "web"}, flags=flags("collect.sources.mail.kind=ses", f"collect.sources.mail.topic_arns={ARN}")
    )
    text = as_toml(settings)
    assert 'kind = "web"  # environment' in text
    assert tomllib.loads(text)["collect"]["sources"]["mail"]["topic_arns"] == [ARN]
    assert load(path=toml(tmp_path, text), environ={}).config == settings.config


def test_a_source_without_a_kind_is_refused_with_its_line(tmp_path: Path) -> None:
    path = toml(tmp_path, "grace = '1s'\n[collect.sources.web]\nrate = 5")
    assert refused(path=path).startswith(
        f"collect.sources.web.kind is not set, but the source in {path}:2 needs it (give one of hubspot, "
    )
    path = toml(tmp_path, "[collect.sources.web]")
    assert "web.kind is not set" in refused(path=path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind = 'webb'", "collect.sources.web.kind = webb from {}:2 is not accepted (give one of hubspot, mailgun,"),
        ("kind = 5", "collect.sources.web.kind = 5 from {}:2 is not accepted"),
        ("kind = 'web'\nrate = 'x'", "collect.sources.web.rate = x from {}:3 is not accepted (give a rate such as"),
        ("kind = 'web'\nrate = 0", "collect.sources.web.rate = 0/min from {}:3 is out of range (give a rate such as"),
        ("kind = 'web'\norigin = 'x'", "unknown key collect.sources.web.origin from {}:3 (did you mean collect."),
        ("kind = 'web'\n[collect.sources.Web]", "collect.sources.Web from {}:3 is not accepted as the name of"),
        ("kind = 'web'\n[collect.sources.'a.b']", "unknown key collect.sources.a.b from {}:3"),
        ("kind = 'web'\n[collect.sources.web.kinds]", "unknown key collect.sources.web.kinds from {}:3"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_source_is_told_with_key_value_and_line(tmp_path: Path, text: str, expected: str) -> None:
    path = toml(tmp_path, f"[collect.sources.web]\n{text}")
    assert refused(path=path).startswith(expected.format(path))


def test_a_source_is_a_table_and_no_key() -> None:
    message = refused("collect.sources.web=segment")
    assert message.startswith(
        "collect.sources.web from --set is a table, not a key (its keys are collect.sources.web.kind,"
    )
    assert "is a table, not a key" in refused("collect.sources=web")


def test_a_variable_that_is_nearly_a_key_of_a_source_is_refused_with_that_key() -> None:
    message = refused(environ={KIND: "web", "INGESTD__COLLECT__SOURCES__WEB__ORIGIN": "x"})
    assert "(did you mean INGESTD__COLLECT__SOURCES__WEB__ORIGINS?)" in message


def collector(collect: CollectConfig = DEFAULT, **source: object) -> Config:
    sources = {"one": CollectSource(**{"kind": "web", **source})}  # type: ignore[arg-type]
    return Config(source="collector", collect=replace(collect, sources=sources))


URL = CollectConfig(public_url="https://e.example.com")


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (Config(source="collector"), "collect.sources"),
        *((collector(kind=kind), "collect.sources.one.key_file") for kind in ("segment", "sendgrid", "postmark")),
        (collector(kind="webhook", key_file="k"), "collect.sources.one.mapping"),
        (collector(kind="mandrill", key_file="k"), "collect.public_url"),
        (collector(kind="hubspot", key_file="k"), "collect.public_url"),
        (collector(kind="ses"), "collect.sources.one.topic_arns"),
        (collector(kind="salesforce"), "collect.sources.one.organization_id"),
        (collector(topic_arns=(ARN,)), "collect.sources.one.topic_arns"),
        (collector(organization_id="00D"), "collect.sources.one.organization_id"),
        (collector(URL, kind="hubspot", key_file="k", origins=("https://a.b",)), "collect.sources.one.origins"),
        (collector(origins=("https://a.b:99999",)), "collect.sources.one.origins"),
        (collector(origins=("https://a.b", "https://a.b")), "collect.sources.one.origins"),
        (collector(key_file="~/key"), "collect.sources.one.key_file"),
        (collector(CollectConfig(trusted_proxies=("10.0.0.1/8",))), "collect.trusted_proxies"),
        (collector(CollectConfig(trusted_proxies=("10.0.0.0/33",))), "collect.trusted_proxies"),
        (collector(CollectConfig(journal="s3://bucket/journal")), "collect.journal"),
        (collector(CollectConfig(max_body=Size(8 << 20), body_memory=Size(15 << 20))), "collect.body_memory"),
        (collector(CollectConfig(topic="a" * 175)), "collect.topic"),
        (
            Config(collect=CollectConfig(sources={f"s{n}": CollectSource(kind="web") for n in range(MAX_SOURCES + 1)})),
            "collect.sources",
        ),
    ],
)
def test_keys_of_the_collector_at_odds_with_another_are_refused(config: Config, key: str) -> None:
    [problem] = problems(config)
    assert problem.key == key
    assert problem.remedy


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        collector(),
        collector(URL, kind="mandrill", key_file="k"),
        collector(kind="ses", topic_arns=(ARN,)),
        collector(kind="salesforce", organization_id="00D000000000001AAA"),
        collector(kind="salesforce", key_file="k"),
        collector(CollectConfig(trusted_proxies=("10.0.0.0/8", "::1", "fd00::/8"))),
        collector(CollectConfig(origins=("https://www.example.com", "http://localhost:3000", "https://*.example.com"))),
    ],
)
def test_good_configurations_of_the_collector_pass(config: Config) -> None:
    assert not list(problems(config))


@pytest.mark.parametrize(
    "origin", ["www.example.com", "https://a.b/", "https://a.b/path", "ftp://a.b", "null", "https://a b"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    assert "collect.origins = " in refused(f"collect.origins={origin}")


def test_a_key_file_that_every_user_can_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("k")
    config = collector(kind="native", key_file=str(file))
    file.chmod(0o640)
    assert not list(exposed_files(config, {}))
    file.chmod(0o644)
    [warning] = exposed_files(config, {})
    assert f"{file}, which has collect.sources.one.key" in warning
