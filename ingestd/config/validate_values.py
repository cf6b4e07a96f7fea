"""Rules between the keys that say how values are decoded, and how fields are renamed."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from ingestd.config.model import Config, EventsConfig
from ingestd.config.problem import Problem
from ingestd.core.renaming import faults

_FILE_FORMATS = ("avro", "protobuf")


def values_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with ``kafka.value_format`` and ``[registry]``."""
    kafka, registry = config.kafka, config.registry
    value_format = kafka.value_format
    if value_format != "json" and config.source != "kafka":
        yield Problem(
            "kafka.value_format",
            f"is {value_format}, but source = {config.source} reads JSON only",
            "unset kafka.value_format, or set source = kafka",
        )
    if value_format == "registry" and not registry.urls:
        yield Problem("registry.urls", "is empty, but kafka.value_format = registry needs it", "name the registry")
    if value_format != "registry" and registry.urls:
        yield Problem(
            "registry.urls",
            f"has no effect with kafka.value_format = {value_format}",
            "set kafka.value_format = registry, or unset registry.urls",
        )
    if value_format in _FILE_FORMATS and kafka.schema_file is None:
        why = f"is not set, but kafka.value_format = {value_format} needs it"
        yield Problem("kafka.schema_file", why, "name the file with the schema, or set kafka.value_format = registry")
    if value_format not in _FILE_FORMATS and kafka.schema_file is not None:
        why = f"has no effect with kafka.value_format = {value_format}"
        yield Problem("kafka.schema_file", why, "unset it, or set kafka.value_format to avro or protobuf")
    if value_format != "protobuf" and kafka.message is not None:
        why = f"has no effect with kafka.value_format = {value_format}"
        yield Problem("kafka.message", why, "unset it, or set kafka.value_format = protobuf")
    yield from _registry(config)


def rename_problems(events: EventsConfig) -> Iterator[Problem]:
    """What is wrong with ``events.rename``, but for fields that the model does not have: it is not loaded yet."""
    if events.rename and events.model == "json":
        why = "has no effect with events.model = json, whose rows have the object as it is"
        yield Problem("events.rename", why, "remove it; events.timestamp_field says where the event's time is")
    for why, remedy in faults(events.rename):
        yield Problem("events.rename", why, remedy)


def _registry(config: Config) -> Iterator[Problem]:
    registry = config.registry
    for url in registry.urls:
        try:
            wrong = urlsplit(url).port == 0
        except ValueError:
            wrong = True
        if wrong:
            yield Problem("registry.urls", f"has an invalid host or port in {url}", "give http(s)://host[:port]")
    has_password = registry.password is not None or registry.password_file is not None
    has_token = registry.token is not None or registry.token_file is not None
    if registry.username is not None and not has_password:
        why = "is not set, but registry.username is"
        yield Problem("registry.password", why, "set registry.password or registry.password_file")
    if registry.username is None and has_password:
        yield Problem("registry.username", "is not set, but registry.password is", "name the user of the password")
    if has_token and registry.username is not None:
        yield Problem("registry.token", "and registry.username are both set", "set only one of them")
    if (registry.ssl_cert_file is None) != (registry.ssl_key_file is None):
        missing = "ssl_cert_file" if registry.ssl_cert_file is None else "ssl_key_file"
        yield Problem(f"registry.{missing}", "is not set, but its counterpart is", f"set registry.{missing}")
