"""The Helm chart with a schema registry: its addresses, its credentials and its ports."""

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart import (
    EVERYTHING,
    LEAST,
    Values,
    container,
    effective,
    helm,
    mounted,
    of_kind,
    pod,
    render,
)

REGISTRY: Values = EVERYTHING["registry"]


def with_registry(value_format: str = "registry", **changes: Any) -> Values:
    return {**LEAST, "kafka": {**LEAST["kafka"], "valueFormat": value_format}, "registry": {**REGISTRY, **changes}}


def test_a_user_s_password_and_the_ca_are_files_of_secrets(tmp_path: Path) -> None:
    manifests = render(with_registry(passwordKey="pass"))
    config = effective(manifests, tmp_path)

    assert (config.kafka.value_format, config.registry.urls) == ("registry", tuple(REGISTRY["urls"]))
    assert (config.registry.username, config.registry.token_file) == ("from-a-secret", None)
    assert config.registry.password_file is not None
    assert mounted(manifests, str(Path(config.registry.password_file).parent))["secret"] == {
        "secretName": "registry-credentials",
        "defaultMode": 0o440,
        "items": [{"key": "pass", "path": Path(config.registry.password_file).name}],
    }
    assert config.registry.ssl_ca_file is not None
    assert mounted(manifests, str(Path(config.registry.ssl_ca_file).parent))["secret"] == {
        "secretName": "registry-ca",
        "items": [{"key": "ca.crt", "path": Path(config.registry.ssl_ca_file).name}],
    }


def test_a_token_is_a_file_instead_of_a_user(tmp_path: Path) -> None:
    manifests = render(with_registry(tokenKey="jwt"))
    registry = effective(manifests, tmp_path).registry

    assert (registry.username, registry.password_file) == (None, None)
    assert registry.token_file is not None
    assert mounted(manifests, str(Path(registry.token_file).parent))["secret"]["items"] == [
        {"key": "jwt", "path": Path(registry.token_file).name}
    ]


def test_without_a_registry_nothing_of_it_is_there(tmp_path: Path) -> None:
    manifests = render(LEAST)
    assert effective(manifests, tmp_path).kafka.value_format == "json"
    assert not [each["name"] for each in container(manifests)["env"] if "REGISTRY" in each["name"]]
    assert {volume["name"] for volume in pod(manifests)["spec"]["volumes"]} == {"config"}


def test_the_format_can_be_left_to_the_file(tmp_path: Path) -> None:
    file = '[kafka]\nvalue_format = "avro"\nschema_file = "/model/events.avsc"\n'
    kafka = effective(render({**LEAST, "config": file}), tmp_path).kafka
    assert (kafka.value_format, kafka.schema_file) == ("avro", "/model/events.avsc")


@pytest.mark.parametrize(
    ("urls", "ports"),
    [
        (["https://r.example.com"], []),
        (["http://r.example.com/apis/ccompat/v7"], [80]),
        (["https://a.example.com:8081", "https://b.example.com:8081/x", "http://[::1]:8082"], [8081, 8082]),
    ],
    ids=["https", "http", "ports"],
)
def test_the_registry_s_ports_are_open(urls: list[str], ports: list[int]) -> None:
    egress = of_kind(render(with_registry(urls=urls)), "NetworkPolicy")["spec"]["egress"]
    assert [each["port"] for rule in egress for each in rule["ports"]] == [53, 53, 9092, *ports, 443]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (with_registry(urls=[]), "urls"),
        (with_registry(urls=["https://user:secret@r.example.com"]), "urls"),
        (with_registry(urls=["registry:8081"]), "urls"),
        (with_registry("xml"), "valueFormat"),
        (with_registry(password="x"), "password"),
    ],
    ids=["none", "credentials", "no-url", "format", "secret"],
)
def test_bad_values_are_refused_by_name(values: Values, complaint: str) -> None:
    done = helm(values)
    assert done.returncode != 0
    assert complaint in done.stderr
