"""What an operator reads when the keys of value formats do not fit together: the key, its value, and what to do."""

import pytest

from tests.test_config_load import PASSWORD, refused, with_flags

REGISTRY = ("kafka.value_format=registry", "registry.urls=https://r.example.com")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            ("kafka.value_format=registry",),
            "registry.urls = '' by default is empty, but kafka.value_format = registry needs it (name the registry)",
        ),
        (
            ("registry.urls=https://r.example.com",),
            "registry.urls = https://r.example.com from --set has no effect with kafka.value_format = json "
            "(set kafka.value_format = registry, or unset registry.urls)",
        ),
        (
            ("source=simulator", *REGISTRY),
            "kafka.value_format = registry from --set is registry, but source = simulator reads JSON only "
            "(unset kafka.value_format, or set source = kafka)",
        ),
        (
            ("kafka.value_format=avro",),
            "kafka.schema_file is not set, but kafka.value_format = avro needs it "
            "(name the file with the schema, or set kafka.value_format = registry)",
        ),
        (
            ("kafka.value_format=protobuf",),
            "kafka.schema_file is not set, but kafka.value_format = protobuf needs it",
        ),
        (
            ("kafka.schema_file=e.avsc",),
            "kafka.schema_file = e.avsc from --set has no effect with kafka.value_format = json "
            "(unset it, or set kafka.value_format to avro or protobuf)",
        ),
        (
            ("kafka.value_format=avro", "kafka.schema_file=e.avsc", "kafka.message=shop.Event"),
            "kafka.message = shop.Event from --set has no effect with kafka.value_format = avro "
            "(unset it, or set kafka.value_format = protobuf)",
        ),
        (
            ("kafka.value_format=thrift",),
            "kafka.value_format = thrift from --set is not accepted (give one of avro, json, protobuf, registry",
        ),
        (
            (REGISTRY[0], "registry.urls=https://r.example.com:0"),
            "registry.urls = https://r.example.com:0 from --set has an invalid host or port in "
            "https://r.example.com:0 (give http(s)://host[:port])",
        ),
        (
            (REGISTRY[0], "registry.urls=https://r.example.com:99999"),
            "registry.urls = https://r.example.com:99999 from --set has an invalid host or port",
        ),
        (
            (*REGISTRY, "registry.username=u"),
            "registry.password is not set, but registry.username is (set registry.password or registry.password_file)",
        ),
        (
            (*REGISTRY, "registry.password_file=f"),
            "registry.username is not set, but registry.password is (name the user of the password)",
        ),
        (
            (*REGISTRY, "registry.username=u", "registry.password_file=f", "registry.token_file=t"),
            "registry.token and registry.username are both set (set only one of them)",
        ),
        (
            (*REGISTRY, "registry.ssl_cert_file=c"),
            "registry.ssl_key_file is not set, but its counterpart is (set registry.ssl_key_file)",
        ),
        (
            (*REGISTRY, "registry.ssl_key_file=k"),
            "registry.ssl_cert_file is not set, but its counterpart is (set registry.ssl_cert_file)",
        ),
    ],
    ids=lambda it: "-" if isinstance(it, str) else " ".join(it),
)
def test_what_does_not_fit_together_is_told_with_key_value_and_remedy(pairs: tuple[str, ...], expected: str) -> None:
    assert refused(*pairs).startswith(expected)


def test_a_password_without_its_user_is_told_and_not_shown() -> None:
    said = refused(*REGISTRY, environ={"INGESTD__REGISTRY__PASSWORD": PASSWORD})
    assert said.startswith("registry.username is not set, but registry.password is")


@pytest.mark.parametrize(
    "url", [f"https://ann:{PASSWORD}@r.example.com", f"https://r.example.com/?token={PASSWORD}", f"ann:{PASSWORD}@r"]
)
def test_credentials_in_an_address_are_refused_and_not_shown(url: str) -> None:
    assert "registry.urls" in refused(REGISTRY[0], f"registry.urls={url}")


def test_several_addresses_and_what_belongs_together_are_accepted() -> None:
    urls = "https://a.example.com:8081,http://b.example.com/apis/ccompat/v7"
    config = with_flags(REGISTRY[0], f"registry.urls={urls}", "registry.username=u", "registry.password_file=f")
    assert config.registry.urls == tuple(urls.split(","))
